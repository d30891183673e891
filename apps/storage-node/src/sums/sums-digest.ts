// The digest of a file of checksums, by which its manifest knows it: over the size and the blocks that are not empty,
// each after its offset. Holes cost nothing, and a copy that has none of them has the same digest.
import { createHash } from 'node:crypto';
import type { BlockNode } from '@tidemark/engine';

type SumsFile = Pick<BlockNode, 'sizeBytes' | 'extents' | 'read'>;

const BLOCK_BYTES = 4096;
const EMPTY_BLOCK = Buffer.alloc(BLOCK_BYTES);
/** One read. */
const READ_BYTES = 256 * BLOCK_BYTES;

/** SHA-256, in hexadecimal. Rejects as reading does. */
export async function sumsDigest(file: SumsFile): Promise<string> {
  const hash = createHash('sha256').update(`${file.sizeBytes}\n`);
  const buffer = Buffer.alloc(READ_BYTES);
  for (let data = await nextData(file, 0); data !== undefined; data = await nextData(file, data.end)) {
    for (let at = data.start; at < data.end; at += READ_BYTES) {
      const bytes = buffer.subarray(0, Math.min(READ_BYTES, data.end - at));
      await file.read(at, bytes);
      for (let place = 0; place < bytes.length; place += BLOCK_BYTES) {
        const block = bytes.subarray(place, place + BLOCK_BYTES);
        if (!block.equals(EMPTY_BLOCK.subarray(0, block.length)))
          hash.update(`${at + place}\n`).update(block);
      }
    }
  }
  return hash.digest('hex');
}

/** In whole blocks; `from` is a multiple of them or the end. */
async function nextData(file: SumsFile, from: number): Promise<{ start: number; end: number } | undefined> {
  for (let at = from; at < file.sizeBytes; ) {
    const [extent] = await file.extents(at, file.sizeBytes - at);
    const end = extent!.offset + extent!.length;
    if (!extent!.zero) {
      const start = at - (at % BLOCK_BYTES);
      return { start, end: Math.min(file.sizeBytes, Math.ceil(end / BLOCK_BYTES) * BLOCK_BYTES) };
    }
    at = end;
  }
  return undefined;
}
