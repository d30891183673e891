// The checksums of a backup that takes over its parent's image: its own where it has them, otherwise the parent's.
import { createRawFile, FileNode } from '@tidemark/engine';
import { sumsDigest } from '../sums/sums-digest.ts';
import { isNothing, RECORD_BYTES, sumsBytes } from '../sums/sums-format.ts';

/** Of the file that is written, at a time. */
const WINDOW_BYTES = 1024 * 1024;
/** What is empty stays a hole, in steps of this. */
const PART_BYTES = 64 * 1024;
const EMPTY_PART = Buffer.alloc(PART_BYTES);

/**
 * Writes the file at `target` anew, durably, for a disk of `sizeBytes`. Returns its digest. Rejects with kind `io`.
 */
export async function mergeSums(
  paths: { parent: string; child: string; target: string },
  sizeBytes: number,
): Promise<string> {
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
    if (!hasData(child, offset, length) && !hasData(parent, offset, length)) continue;
    const own = await readWindow(child, offset, length);
    const below = await readWindow(parent, offset, length);
    for (let at = 0; at < length; at += RECORD_BYTES) {
      const record = own.subarray(at, at + RECORD_BYTES);
      if (isNothing(record)) below.copy(own, at, at, at + RECORD_BYTES);
    }
    await writeSparse(target, offset, own);
  }
  await target.flush();
  return sumsDigest(target);
}

function hasData(file: FileNode, offset: number, length: number): boolean {
  const end = Math.min(offset + length, file.sizeBytes);
  return offset < end && file.extents(offset, end - offset).some(extent => !extent.zero);
}

async function writeSparse(file: FileNode, offset: number, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; at += PART_BYTES) {
    const part = bytes.subarray(at, at + PART_BYTES);
    if (!part.equals(EMPTY_PART.subarray(0, part.length))) await file.write(offset + at, part);
  }
}

/** A parent of a smaller disk has fewer records: of the rest it says nothing. */
async function readWindow(file: FileNode, offset: number, length: number): Promise<Buffer> {
  const window = Buffer.alloc(length);
  const there = Math.min(length, file.sizeBytes - offset);
  if (there > 0) await file.read(offset, window.subarray(0, there));
  return window;
}
