// The refcounts as the file has them, read through the refcount table. What of the structure cannot be right is a
// finding, and calls for a new structure.
import type { BlockNode } from '../../../node/block-node.ts';
import { REFCOUNT_TABLE_RESERVED_MASK, TABLE_ENTRY_BYTES } from '../format.ts';
import type { Qcow2Header } from '../header.ts';
import { readPadded } from '../read-padded.ts';
import { RefcountWidth } from '../refcount-width.ts';
import { ClusterCounts } from './cluster-counts.ts';
import type { Findings } from './findings.ts';
import type { ReferenceWalk } from './reference-walk.ts';

export interface StoredCounts {
  counts: ClusterCounts;
  /** Where the block of each table entry lies; 0 where there is none that can be read. */
  blockOffsets: number[];
  /** The table or a block is not where it can be: counts cannot be put right one by one. */
  broken: boolean;
}

/** Counts the blocks as used in `walk`, too. Clusters past the end of the file are left out. */
export async function readStoredCounts(
  file: BlockNode,
  header: Qcow2Header,
  walk: ReferenceWalk,
  findings: Findings,
): Promise<StoredCounts> {
  const { clusterBytes, refcountTableOffset } = header;
  const width = new RefcountWidth(header.refcountOrder);
  const perBlock = width.perBlock(clusterBytes);
  const fileClusters = Math.ceil(file.sizeBytes / clusterBytes);
  const table = Buffer.alloc(header.refcountTableClusters * clusterBytes);
  await readPadded(file, refcountTableOffset, table);
  const stored: StoredCounts = { counts: new ClusterCounts(), blockOffsets: [], broken: false };
  const block = Buffer.alloc(clusterBytes);
  const seen = new Set<number>();
  for (let index = 0; index < table.length / TABLE_ENTRY_BYTES; index++) {
    const entry = table.readBigUInt64BE(index * TABLE_ENTRY_BYTES);
    stored.blockOffsets.push(0);
    if (entry === 0n) continue;
    const offset = Number(entry);
    const name = `refcount table entry ${index} at ${refcountTableOffset + index * TABLE_ENTRY_BYTES}`;
    if ((entry & REFCOUNT_TABLE_RESERVED_MASK) !== 0n || offset % clusterBytes !== 0 || seen.has(offset)) {
      findings.corruption(`${name} points to ${entry}, which is no cluster of its own`);
      stored.broken = true;
      continue;
    }
    if (!walk.use(`the refcount block of ${name}`, offset, clusterBytes)) {
      stored.broken = true;
      continue;
    }
    walk.refcountBlockUses.add(offset / clusterBytes, 1);
    seen.add(offset);
    stored.blockOffsets[index] = offset;
    const first = index * perBlock;
    if (first >= fileClusters) continue;
    await readPadded(file, offset, block);
    const end = Math.min(perBlock, fileClusters - first);
    for (let at = 0; at < end; at++) stored.counts.set(first + at, width.get(block, at));
  }
  return stored;
}
