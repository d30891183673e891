// From any error to one of the catalogue, which is what gRPC callers get: the one translation at this
// boundary.
import { EngineError, type EngineErrorKind } from '@tidemark/engine';
import { NbdError, NbdOptionError, NbdProtocolError, NbdServerError } from '@tidemark/nbd';
import { type ErrorCode, TidemarkError } from '@tidemark/proto';

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

const NO_SPACE = new Set(['ENOSPC', 'EDQUOT']);

/** Total: anything thrown has a code. The original is kept as cause. */
export function toTidemarkError(error: unknown): TidemarkError {
  if (error instanceof TidemarkError) return error;
  const text = error instanceof Error ? error.message : String(error);
  return new TidemarkError(codeOf(error), text, error);
}

function codeOf(error: unknown): ErrorCode {
  if (error instanceof EngineError) {
    const isFull = error.kind === 'io' && NO_SPACE.has(error.context.errno ?? '');
    return isFull ? 'storage-full' : BY_KIND[error.kind];
  }
  if (error instanceof NbdError) return NO_SPACE.has(error.errno) ? 'storage-full' : 'io-error';
  if (error instanceof NbdProtocolError || error instanceof NbdOptionError) return 'io-error';
  if (error instanceof NbdServerError) return error.kind === 'busy' ? 'volume-busy' : 'internal-error';
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === 'string' && NO_SPACE.has(code) ? 'storage-full' : 'internal-error';
}
