// An error of the catalogue, and how it travels in gRPC trailers so that the object, its state and
// the next step reach the operator as the storage node said them.
import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { ERROR_CODES, type ErrorCode, isErrorCode } from './error-codes.ts';

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

/**
 * What the far side meant. `peer` names the storage node for failures of the connection itself, which
 * carry no trailer. A call that the caller cancelled is the caller's to recognise.
 */
export function fromServiceError(error: unknown, peer: string): TidemarkError {
  if (error instanceof TidemarkError) return error;
  const failure = error as Partial<ServiceError> | null;
  const meant = readTrailer(failure?.metadata?.get(TRAILER)[0]);
  if (meant !== undefined) return new TidemarkError(meant.code, meant.message, error);
  const details = failure?.details ?? (error instanceof Error ? error.message : String(error));
  if (NO_ANSWER.has(failure?.code)) {
    return new TidemarkError(
      'storage-node-unreachable',
      `Storage node ${peer} does not answer (${details}). Start it, or check its address, then try again.`,
      error,
    );
  }
  return new TidemarkError('internal-error', `Storage node ${peer} failed: ${details}`, error);
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
