// Undoing what may not have happened: some refusals mean that nothing is left to do.
import { type ErrorCode, TidemarkError } from '@tidemark/proto';

/** Resolves when `work` does, or when it was refused with one of the codes. */
export async function tolerate(codes: readonly ErrorCode[], work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (error instanceof TidemarkError && codes.includes(error.code)) return;
    throw error;
  }
}
