// Reads that may reach past the end of the file, whose last cluster may be cut short.
import type { BlockNode } from '../../node/block-node.ts';

/** Fills the whole buffer; what lies past the end of the file reads as zeroes. */
export async function readPadded(file: BlockNode, offset: number, buffer: Buffer): Promise<void> {
  const there = Math.max(0, Math.min(buffer.length, file.sizeBytes - offset));
  buffer.fill(0, there);
  if (there > 0) await file.read(offset, there < buffer.length ? buffer.subarray(0, there) : buffer);
}
