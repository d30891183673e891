// How large a caller may want the units of a copy to be: one of them is read into memory as a whole.
import { EngineError } from '../errors.ts';
import { COPY_MEMORY_BYTES_MAX } from '../limits.ts';
import { isPowerOfTwo } from '../units.ts';

/** Throws kind `invalid-argument`; 0 and undefined leave the choice to the copy. */
export function validateMinClusterBytes(bytes: number | undefined): void {
  if (bytes === undefined) return;
  if (bytes !== 0 && !isPowerOfTwo(bytes)) throw invalid('min-cluster-size needs to be a power of 2');
  if (bytes <= COPY_MEMORY_BYTES_MAX) return;
  throw invalid(`min-cluster-size too large: ${bytes} > ${COPY_MEMORY_BYTES_MAX}`);
}

function invalid(text: string): EngineError {
  const hint = `Choose a power of two up to ${COPY_MEMORY_BYTES_MAX} bytes, or leave it out.`;
  return new EngineError('invalid-argument', text, { hint });
}
