// What the catalog rejects with. `${noun}-${kind}` is the stable code callers translate by.
import { Prisma } from './generated/client.ts';

export type Noun =
  | 'storage-node'
  | 'volume'
  | 'checkpoint'
  | 'snapshot'
  | 'commit'
  | 'repository'
  | 'backup'
  | 'replication-rule'
  | 'run'
  | 'difference'
  | 'token'
  | 'webhook'
  | 'webhook-delivery'
  | 'group'
  | 'policy'
  | 'firing'
  | 'catalog';

export type CatalogErrorKind =
  | 'not-found'
  | 'name-taken'
  /** Another storage node has this address, or is this very storage node. */
  | 'address-taken'
  /** Rows that must stay refer to it. */
  | 'in-use'
  /** An unended run or commit works on it. */
  | 'busy'
  | 'not-ready'
  /** Protected until a date. */
  | 'pinned'
  /** Nobody else could do what it does. */
  | 'last'
  /** A backup in a state in which nobody may begin to use it. */
  | 'not-usable'
  | 'ended'
  /** Nothing is left to do again. */
  | 'complete'
  /** A newer attempt holds the run's lease: stop, and change nothing more. */
  | 'superseded'
  | 'invalid-cursor'
  /** Events that were asked for are gone; its code has no noun before it. */
  | 'events-pruned'
  /** No event has that id yet; its code has no noun before it. */
  | 'events-ahead'
  | 'invalid-migration'
  | 'unavailable';

export class CatalogError extends Error {
  readonly noun: Noun;
  readonly kind: CatalogErrorKind;

  constructor(noun: Noun, kind: CatalogErrorKind, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'CatalogError';
    this.noun = noun;
    this.kind = kind;
  }

  /** For example `volume-name-taken`, `run-ended`, `catalog-unavailable`. */
  get code(): string {
    const isWhole = this.kind === 'events-pruned' || this.kind === 'events-ahead';
    return isWhole ? this.kind : `${this.noun}-${this.kind}`;
  }
}

export function notFound(noun: Noun, ref: string): CatalogError {
  const words = noun.replaceAll('-', ' ');
  return new CatalogError(
    noun,
    'not-found',
    `There is no ${words} '${ref}'. List them to see what there is.`,
  );
}

/** Turns a unique violation on `create` into `name-taken`; every other error passes. */
export function nameTaken(noun: Noun, name: string): (error: unknown) => never {
  return error => {
    if (!isUniqueViolation(error)) throw error;
    const words = noun.replaceAll('-', ' ');
    throw new CatalogError(
      noun,
      'name-taken',
      `A ${words} named '${name}' exists already. Choose another name.`,
      error,
    );
  };
}

export function isUniqueViolation(error: unknown): error is Prisma.PrismaClientKnownRequestError {
  return error instanceof Prisma.PrismaClientKnownRequestError && error.code === 'P2002';
}

/** The name of the index that a unique violation broke, as the migrations have it. */
export function violatedIndex(error: Prisma.PrismaClientKnownRequestError): string | undefined {
  return (error as Failure).meta?.driverAdapterError?.cause?.constraint?.index;
}

export function isForeignKeyViolation(error: unknown): boolean {
  return error instanceof Prisma.PrismaClientKnownRequestError && error.code === 'P2003';
}

// A server that is away, refuses, closes, or has no connection or no turn left, as each layer says it:
// Prisma's codes (https://www.prisma.io/docs/orm/reference/error-reference), the kinds of its driver adapter,
// PostgreSQL's SQLSTATE (appendix A), and the words of the driver where it has no code.
const CODES = /^(P10\d\d|P2024|P2028|P2034|P2037)$/;
const KINDS = new Set([
  'DatabaseNotReachable',
  'DatabaseDoesNotExist',
  'DatabaseAccessDenied',
  'AuthenticationFailed',
  'ConnectionClosed',
  'TooManyConnections',
  'SocketTimeout',
  'TlsConnectionError',
  'TransactionWriteConflict',
]);
const SQLSTATES = /^(08...|53...|57P0.|40001|40P01)$/;
const WORDS =
  /not queryable|Connection terminated|timeout exceeded when trying to connect|ECONN|EPIPE|ETIMEDOUT/;

/** What the driver adapter says of an error of its own. */
interface DriverFailure {
  kind?: unknown;
  originalCode?: unknown;
  constraint?: { index?: string };
}

interface Failure {
  code?: unknown;
  meta?: { driverAdapterError?: { cause?: DriverFailure } };
  /** Of the adapter's error where nobody wrapped it: a rollback on a connection that is gone. */
  cause?: DriverFailure;
}

function isUnavailable(error: Error): boolean {
  const { code, meta, cause: own } = error as Failure;
  const cause = meta?.driverAdapterError?.cause ?? own;
  return (
    CODES.test(String(code)) ||
    KINDS.has(String(cause?.kind)) ||
    SQLSTATES.test(String(cause?.originalCode)) ||
    WORDS.test(error.message)
  );
}

/** Makes `catalog-unavailable` of a failed connection; every other error passes as it is. */
export function asCatalogError(error: unknown): unknown {
  if (error instanceof CatalogError || !(error instanceof Error) || !isUnavailable(error)) return error;
  return new CatalogError(
    'catalog',
    'unavailable',
    'The catalog database does not answer. Start it, or check TIDEMARK_DATABASE_URL, then try again.',
    error,
  );
}
