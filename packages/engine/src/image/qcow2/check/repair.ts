// Puts refcounts right: in the blocks that there are, or in a structure made anew behind all that is in use.
import { EngineError } from '../../../errors.ts';
import { QCOW2_REFCOUNT_TABLE_BYTES_MAX } from '../../../limits.ts';
import type { BlockNode } from '../../../node/block-node.ts';
import { TABLE_ENTRY_BYTES } from '../format.ts';
import type { Qcow2Header } from '../header.ts';
import { HeaderFile } from '../header-file.ts';
import { readPadded } from '../read-padded.ts';
import { RefcountWidth } from '../refcount-width.ts';
import { clustersOf } from './cluster-counts.ts';
import type { ReferenceWalk } from './reference-walk.ts';
import type { StoredCounts } from './stored-counts.ts';

export interface SetCountsOptions {
  file: BlockNode;
  header: Qcow2Header;
  walk: ReferenceWalk;
  stored: StoredCounts;
  /** Counts that are too low as well; without it only leaks are given back. */
  raise: boolean;
}

/**
 * Writes the counts that differ; durable afterwards. False, with nothing written, where a cluster that is used has
 * no block to count it. Rejects with `corrupt` where a count has no room, or `io`.
 */
export async function setStoredCounts(options: SetCountsOptions): Promise<boolean> {
  const { file, header, walk, stored, raise } = options;
  const { clusterBytes } = header;
  const width = new RefcountWidth(header.refcountOrder);
  const perBlock = width.perBlock(clusterBytes);
  const blocks = new Set<number>();
  for (const cluster of clustersOf(walk.uses, stored.counts)) {
    const used = walk.uses.get(cluster);
    const counted = stored.counts.get(cluster);
    if (used === counted || (used > counted && !raise)) continue;
    assertCountable(used, width, cluster * clusterBytes);
    const index = Math.floor(cluster / perBlock);
    if ((stored.blockOffsets[index] ?? 0) === 0) return false;
    blocks.add(index);
  }
  const block = Buffer.alloc(clusterBytes);
  for (const index of blocks) {
    const offset = stored.blockOffsets[index]!;
    await readPadded(file, offset, block);
    for (let at = 0; at < perBlock; at++) {
      const used = walk.uses.get(index * perBlock + at);
      const counted = width.get(block, at);
      const beyond = (index * perBlock + at) * clusterBytes >= file.sizeBytes;
      if (beyond || used === counted || (used > counted && !raise)) continue;
      width.set(block, at, used);
    }
    await file.write(offset, block);
  }
  if (blocks.size > 0) await file.flush();
  return true;
}

/**
 * Writes a table and blocks behind the end of the file and points the header there; the old ones, and what nobody
 * uses, count as free. Rejects with `corrupt`, `unsupported` (the file cannot grow) or `io`.
 */
export async function rebuildRefcounts(
  file: BlockNode,
  header: Qcow2Header,
  walk: ReferenceWalk,
): Promise<void> {
  const { clusterBytes } = header;
  const width = new RefcountWidth(header.refcountOrder);
  const perBlock = width.perBlock(clusterBytes);
  const start = Math.ceil(file.sizeBytes / clusterBytes);
  let tableClusters = 1;
  let needed = new Set<number>();
  for (let end = 0; ; ) {
    const next = start + tableClusters + needed.size;
    if (next === end) break;
    end = next;
    needed = blocksNeeded(walk, perBlock, { start, end });
    const tableBytes = (Math.max(...needed) + 1) * TABLE_ENTRY_BYTES;
    tableClusters = Math.ceil(tableBytes / clusterBytes);
    if (tableBytes > QCOW2_REFCOUNT_TABLE_BYTES_MAX) {
      const text = 'the file is too large for its refcounts to be rebuilt';
      throw new EngineError('corrupt', `${text} in clusters of ${clusterBytes} bytes`, { op: 'repair' });
    }
  }
  const table = Buffer.alloc(tableClusters * clusterBytes);
  const end = start + tableClusters + needed.size;
  if (file.resize === undefined) {
    throw new EngineError('unsupported', `the ${file.driver} node under the image cannot grow`, {
      op: 'repair',
    });
  }
  await file.resize(end * clusterBytes);
  let place = start + tableClusters;
  for (const index of [...needed].sort((a, b) => a - b)) {
    const block = Buffer.alloc(clusterBytes);
    for (let at = 0; at < perBlock; at++) {
      const cluster = index * perBlock + at;
      const used = oldUse(walk, header, cluster) + (cluster >= start && cluster < end ? 1 : 0);
      assertCountable(used, width, cluster * clusterBytes);
      width.set(block, at, used);
    }
    await file.write(place * clusterBytes, block);
    table.writeBigUInt64BE(BigInt(place * clusterBytes), index * TABLE_ENTRY_BYTES);
    place++;
  }
  await file.write(start * clusterBytes, table);
  await file.flush();
  const refcountTableOffset = start * clusterBytes;
  await new HeaderFile(file, header).patch({ refcountTableOffset, refcountTableClusters: tableClusters });
}

function blocksNeeded(
  walk: ReferenceWalk,
  perBlock: number,
  own: { start: number; end: number },
): Set<number> {
  const needed = new Set<number>();
  for (const cluster of walk.uses.clusters()) {
    needed.add(Math.floor(cluster / perBlock));
  }
  for (let cluster = own.start; cluster < own.end; cluster++) needed.add(Math.floor(cluster / perBlock));
  return needed;
}

/** Uses by anything but the old refcount structure, which goes. */
function oldUse(walk: ReferenceWalk, header: Qcow2Header, cluster: number): number {
  const first = header.refcountTableOffset / header.clusterBytes;
  const inTable = cluster >= first && cluster < first + header.refcountTableClusters ? 1 : 0;
  return Math.max(0, walk.uses.get(cluster) - inTable - walk.refcountBlockUses.get(cluster));
}

function assertCountable(count: number, width: RefcountWidth, offset: number): void {
  if (count <= width.max) return;
  const text = `the cluster at ${offset} is used ${count} times, more than ${width.bits} bits can count`;
  throw new EngineError('corrupt', text, { op: 'repair', offset });
}
