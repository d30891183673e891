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

/**
 * What the far side meant. `peer` names the storage node for failures of the connection itself, which
 * carry no trailer.
 */
export function fromServiceError(error: unknown, peer: string): TidemarkError {
  if (error instanceof TidemarkError) return error;
  const failure = error as Partial<ServiceError> | null;
  const trailer = failure?.metadata?.get(TRAILER)[0];
  if (Buffer.isBuffer(trailer)) {
    const parsed = JSON.parse(trailer.toString('utf8')) as { code?: unknown; message?: unknown };
    if (typeof parsed.code === 'string' && isErrorCode(parsed.code)) {
      return new TidemarkError(parsed.code, String(parsed.message), error);
    }
  }
  const details = failure?.details ?? (error instanceof Error ? error.message : String(error));
  if (failure?.code === status.UNAVAILABLE || failure?.code === status.DEADLINE_EXCEEDED) {
    return new TidemarkError(
      'storage-node-unreachable',
      `Storage node ${peer} does not answer (${details}). Start it, or check its address, then try again.`,
      error,
    );
  }
  return new TidemarkError('internal-error', `Storage node ${peer} failed: ${details}`, error);
}
