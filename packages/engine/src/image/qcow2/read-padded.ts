// The last cluster of a file may be cut short: reads past the end, and what comes before the first write.
import type { BlockNode } from '../../node/block-node.ts';
import { alignUp } from '../../units.ts';

/** Fills the whole buffer; what lies past the end of the file reads as zeroes. */
export async function readPadded(file: BlockNode, offset: number, buffer: Buffer): Promise<void> {
  const there = Math.max(0, Math.min(buffer.length, file.sizeBytes - offset));
  buffer.fill(0, there);
  if (there > 0) await file.read(offset, there < buffer.length ? buffer.subarray(0, there) : buffer);
}

/** Lets the file end with a whole cluster, so that each can be written as a whole. Rejects with `io`. */
export async function completeLastCluster(file: BlockNode, clusterBytes: number): Promise<void> {
  const wholeBytes = alignUp(file.sizeBytes, clusterBytes);
  if (wholeBytes > file.sizeBytes) await file.resize?.(wholeBytes);
}
