// A refcount table that has become too small moves to a place that it does not cover yet, at least twice as
// large: the table first, then the blocks that count it and themselves.
import { EngineError } from '../../errors.ts';
import { QCOW2_REFCOUNT_TABLE_BYTES_MAX } from '../../limits.ts';
import type { BlockNode } from '../../node/block-node.ts';
import { alignUp } from '../../units.ts';
import { TABLE_ENTRY_BYTES } from './format.ts';
import { MetadataTable } from './metadata-table.ts';
import type { RefcountWidth } from './refcount-width.ts';

export interface GrowthOptions {
  file: BlockNode;
  clusterBytes: number;
  width: RefcountWidth;
  old: MetadataTable;
  /** What the new table must reach. */
  blockIndex: number;
  /** Lets the file have that many bytes. */
  reach: (bytes: number) => Promise<void>;
}

/**
 * Writes the larger table, which the header does not know of yet, and returns it with the end of what was
 * written. Rejects with `unsupported` (larger than a table may be) or `io`.
 */
export async function writeLargerTable(
  options: GrowthOptions,
): Promise<{ table: MetadataTable; end: number }> {
  const { file, clusterBytes, width, old, blockIndex, reach } = options;
  const perBlock = width.perBlock(clusterBytes);
  const oldEntries = old.bytes.length / TABLE_ENTRY_BYTES;
  const start = oldEntries * perBlock * clusterBytes;
  let blockCount = 1;
  let bytes = 0;
  // The table has to cover the blocks that count it, too.
  for (let fits = false; !fits; ) {
    const entries = Math.max(blockIndex + 1, oldEntries + blockCount);
    bytes = alignUp(Math.max(old.bytes.length * 2, (entries + 1) * TABLE_ENTRY_BYTES), clusterBytes);
    const clusters = bytes / clusterBytes + blockCount;
    fits = blockCount * perBlock >= clusters;
    if (!fits) blockCount = Math.ceil(clusters / perBlock);
  }
  if (bytes > QCOW2_REFCOUNT_TABLE_BYTES_MAX) {
    const text = `the image file is too large for clusters of ${clusterBytes} bytes`;
    throw new EngineError('unsupported', text, { op: 'allocate', offset: old.offset });
  }
  const tableClusters = bytes / clusterBytes;
  const blocksStart = start + bytes;
  const end = blocksStart + blockCount * clusterBytes;
  await reach(end);
  const table = new MetadataTable(0, start, Buffer.alloc(bytes));
  old.bytes.copy(table.bytes);
  const counts = Buffer.alloc(blockCount * clusterBytes);
  for (let index = 0; index < tableClusters + blockCount; index++) {
    const block = Math.floor(index / perBlock) * clusterBytes;
    width.set(counts.subarray(block, block + clusterBytes), index % perBlock, 1);
  }
  for (let index = 0; index < blockCount; index++) {
    const place = BigInt(blocksStart + index * clusterBytes);
    table.bytes.writeBigUInt64BE(place, (oldEntries + index) * TABLE_ENTRY_BYTES);
  }
  await file.write(blocksStart, counts);
  await file.write(start, table.bytes);
  return { table, end };
}
