// Tells damage of a file from a disk that cannot be read at all: damage is written down, and sent again by the next
// backup; a repository that is away only has to come back.
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { EngineError, type EngineErrorKind, FileNode } from '@tidemark/engine';

/** What a file says that could be read. */
const OF_CONTENT: readonly EngineErrorKind[] = ['corrupt', 'invalid-format', 'unsupported', 'out-of-bounds'];
/** Enough to see that there is a file whose beginning can be read. */
const HEADER_BYTES = 512;

/**
 * Returns where `error`, met while the file was read, is damage of that file: it says so, the file is gone from its
 * folder, or a place of it is bad and its beginning is not. Rejects with kind `io` otherwise.
 */
export async function assertDamage(path: string, error: unknown): Promise<void> {
  if (error instanceof EngineError && OF_CONTENT.includes(error.kind)) return;
  if (isMissing(error) && (await isThere(dirname(path)))) return;
  if (!isMissing(error) && (await isReadable(path))) return;
  const reason = error instanceof Error ? error.message : String(error);
  throw new EngineError(
    'io',
    `${path} cannot be read: ${reason}`,
    { op: 'verify', path, hint: "Mend or mount the repository's disk, then verify again." },
    error,
  );
}

async function isReadable(path: string): Promise<boolean> {
  try {
    await using held = new AsyncDisposableStack();
    const file = held.adopt(await FileNode.open(path, { readOnly: true }), node => node.close());
    await file.read(0, Buffer.alloc(Math.min(HEADER_BYTES, file.sizeBytes)));
    return true;
  } catch {
    return false;
  }
}

function isMissing(error: unknown): boolean {
  if (error instanceof EngineError) return error.kind === 'not-found' || error.context.errno === 'ENOENT';
  return (error as NodeJS.ErrnoException | null)?.code === 'ENOENT';
}

function isThere(folder: string): Promise<boolean> {
  return stat(folder).then(
    () => true,
    () => false,
  );
}
