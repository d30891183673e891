// An error of the catalogue, and how it travels in gRPC trailers so that the object, its state and
// the next step reach the operator as the storage node said them.
import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { ERROR_CODES, type ErrorCode, isErrorCode } from './error-codes.ts';
import { tlsHint, tlsTrouble } from './tls/tls-trouble.ts';

const TRAILER = 'tidemark-error-bin';

export interface TidemarkErrorJson {
  code: ErrorCode;
  /** Names the object, its state and what to do next. */
  message: string;
}

export class TidemarkError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'TidemarkError';
    this.code = code;
  }

  toJSON(): TidemarkErrorJson {
    return { code: this.code, message: this.message };
  }
}

export function isRetryable(error: unknown): boolean {
  return error instanceof TidemarkError && ERROR_CODES[error.code].retryable;
}

/** The form grpc-js sends; total over all codes. */
export function toServiceError(error: TidemarkError): Partial<ServiceError> {
  const metadata = new Metadata();
  metadata.set(TRAILER, Buffer.from(JSON.stringify(error)));
  return { code: ERROR_CODES[error.code].grpc, details: error.message, metadata };
}

/** It is away, is too slow, or stopped before it had answered; whether the call was carried out is not known. */
const NO_ANSWER: ReadonlySet<unknown> = new Set([
  status.UNAVAILABLE,
  status.DEADLINE_EXCEEDED,
  status.CANCELLED,
]);

/** A storage node that is called. */
export interface CalledPeer {
  readonly name: string;
  /** host:port */
  readonly address: string;
  readonly usesTls: boolean;
}

/**
 * What the far side meant. `peer` names the storage node for failures of the connection itself, which
 * carry no trailer. A call that the caller cancelled is the caller's to recognise.
 */
export function fromServiceError(error: unknown, peer: CalledPeer): TidemarkError {
  if (error instanceof TidemarkError) return error;
  const failure = error as Partial<ServiceError> | null;
  const meant = readTrailer(failure?.metadata?.get(TRAILER)[0]);
  if (meant !== undefined) return new TidemarkError(meant.code, meantWords(meant, peer), error);
  const details = failure?.details ?? (error instanceof Error ? error.message : String(error));
  if (NO_ANSWER.has(failure?.code)) {
    const mayBeTls = failure?.code === status.UNAVAILABLE;
    const trouble = mayBeTls ? tlsTrouble(details, peer) : undefined;
    const hint = mayBeTls ? tlsHint(details, peer) : '';
    const away = `does not answer at ${peer.address} (${plainly(details)}). Start it, or check its address`;
    const why =
      trouble === undefined
        ? `${away}, then try again.${hint}`
        : `cannot be called: ${trouble}, then try again.`;
    return new TidemarkError('storage-node-unreachable', `Storage node '${peer.name}' ${why}`, error);
  }
  return new TidemarkError('internal-error', `Storage node '${peer.name}' failed: ${details}`, error);
}

/** It knows the call that it refuses, and callers know whom they have called. */
function meantWords({ code, message }: TidemarkErrorJson, { name }: CalledPeer): string {
  return code === 'fleet-secret-refused'
    ? `Storage node '${name}' obeys nobody without its secret: ${message}`
    : message;
}

/** Without what the gRPC library says of itself: `connect ECONNREFUSED 10.0.0.11:7411`. */
function plainly(details: string): string {
  const last = /Last error: (?:Error: )?(.*?)(?:\. Resolution note: .*)?$/s.exec(details)?.[1] ?? details;
  return last === 'null' ? 'no connection' : last.replace(/ \(\d{4}-[^)]*Z\)$/, '');
}

/** Undefined for what no version of ours has written: the far side may be anything. */
function readTrailer(trailer: unknown): TidemarkErrorJson | undefined {
  if (!Buffer.isBuffer(trailer)) return undefined;
  try {
    const { code, message } = JSON.parse(trailer.toString('utf8')) as { code?: unknown; message?: unknown };
    if (typeof code === 'string' && isErrorCode(code)) return { code, message: String(message) };
  } catch {
    // told by its status and its details
  }
  return undefined;
}
