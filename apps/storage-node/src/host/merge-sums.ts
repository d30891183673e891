// The checksums of a backup that takes over its parent's image: its own where it has them, otherwise the parent's.
import { createHash } from 'node:crypto';
import { createRawFile, FileNode } from '@tidemark/engine';
import { isNothing, RECORD_BYTES, sumsBytes } from '../sums/sums-format.ts';

/** Of the file that is written, at a time. */
const WINDOW_BYTES = 1024 * 1024;

/**
 * Writes the file at `target` anew, durably, for a disk of `sizeBytes`. Returns its SHA-256, in hexadecimal. Rejects
 * with kind `io`.
 */
export async function mergeSums(
  paths: { parent: string; child: string; target: string },
  sizeBytes: number,
): Promise<string> {
  const digest = createHash('sha256');
  const bytes = sumsBytes(sizeBytes);
  await createRawFile(paths.target, bytes);
  await using stack = new AsyncDisposableStack();
  const open = async (path: string, readOnly: boolean) =>
    stack.adopt(await FileNode.open(path, { readOnly }), file => file.close());
  const parent = await open(paths.parent, true);
  const child = await open(paths.child, true);
  const target = await open(paths.target, false);
  for (let offset = 0; offset < bytes; offset += WINDOW_BYTES) {
    const length = Math.min(WINDOW_BYTES, bytes - offset);
    const own = await readWindow(child, offset, length);
    const below = await readWindow(parent, offset, length);
    for (let at = 0; at < length; at += RECORD_BYTES) {
      const record = own.subarray(at, at + RECORD_BYTES);
      if (isNothing(record)) below.copy(own, at, at, at + RECORD_BYTES);
    }
    await target.write(offset, own);
    digest.update(own);
  }
  await target.flush();
  return digest.digest('hex');
}

/** A parent of a smaller disk has fewer records: of the rest it says nothing. */
async function readWindow(file: FileNode, offset: number, length: number): Promise<Buffer> {
  const window = Buffer.alloc(length);
  const there = Math.min(length, file.sizeBytes - offset);
  if (there > 0) await file.read(offset, window.subarray(0, there));
  return window;
}
