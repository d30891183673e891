// From any error to one of the catalogue, which is what gRPC callers get: the one translation at this
// boundary.
import { EngineError, type EngineErrorKind } from '@tidemark/engine';
import { NbdError, NbdOptionError, NbdProtocolError, NbdServerError } from '@tidemark/nbd';
import { type ErrorCode, TidemarkError } from '@tidemark/proto';
import { isNoSpace } from '../host/disk-space.ts';

const BY_KIND: Readonly<Record<EngineErrorKind, ErrorCode>> = {
  io: 'io-error',
  'invalid-argument': 'invalid-request',
  'invalid-format': 'image-invalid',
  unsupported: 'image-invalid',
  corrupt: 'image-invalid',
  'out-of-bounds': 'invalid-request',
  // What callers may ask for by id is checked before; a file that is missing then is a damaged image.
  'not-found': 'image-invalid',
  exists: 'file-exists',
  busy: 'volume-busy',
  conflict: 'volume-busy',
  denied: 'io-error',
  cancelled: 'run-cancelled',
};

/** Total: anything thrown has a code. The original is kept as cause. */
export function toTidemarkError(error: unknown): TidemarkError {
  if (error instanceof TidemarkError) return error;
  const text =
    error instanceof EngineError ? error.advice : error instanceof Error ? error.message : String(error);
  if (isNoSpace(error)) {
    return new TidemarkError(
      'storage-full',
      `${text}. Free space on the storage node, then try again.`,
      error,
    );
  }
  return new TidemarkError(codeOf(error), text, error);
}

function codeOf(error: unknown): ErrorCode {
  // Of another storage node, which gives names anew when it restarts: whoever asks for the name again may go on.
  if (error instanceof EngineError && error.cause instanceof NbdOptionError) return 'io-error';
  if (error instanceof EngineError) return BY_KIND[error.kind];
  if (error instanceof NbdServerError) return error.kind === 'busy' ? 'volume-busy' : 'internal-error';
  const isNbd =
    error instanceof NbdError || error instanceof NbdProtocolError || error instanceof NbdOptionError;
  return isNbd ? 'io-error' : 'internal-error';
}
