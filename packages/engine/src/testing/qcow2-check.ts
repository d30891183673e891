// Checks a qcow2 image's refcounts against what refers to each cluster, written from the format's document
// apart from the driver: a second reading of the same text.
import type { BlockNode } from '../node/block-node.ts';

export interface Qcow2CheckResult {
  /** Clusters that are used but not counted, or counted too low. */
  errors: string[];
  /** Clusters that are counted but not used. */
  leaks: number;
}

const OFFSET = 0x00fffffffffffe00n;

/** For version 3 images with 16-bit refcounts, without snapshots and compressed clusters. */
export async function checkImage(file: BlockNode): Promise<Qcow2CheckResult> {
  const read = async (offset: number, length: number) => {
    const buffer = Buffer.alloc(length);
    const there = Math.min(length, file.sizeBytes - offset);
    if (there > 0) await file.read(offset, buffer.subarray(0, there));
    return buffer;
  };
  const header = await read(0, 104);
  const clusterBytes = 2 ** header.readUInt32BE(20);
  const uses = new Map<number, number>();
  const errors: string[] = [];
  const use = (offset: number, bytes: number, what: string) => {
    if (offset % clusterBytes !== 0 || offset >= file.sizeBytes)
      errors.push(`${what} at ${offset}: no cluster`);
    for (let at = 0; at < bytes; at += clusterBytes) {
      const cluster = Math.floor((offset + at) / clusterBytes);
      uses.set(cluster, (uses.get(cluster) ?? 0) + 1);
    }
  };
  use(0, clusterBytes, 'header');
  const l1Offset = Number(header.readBigUInt64BE(40));
  const l1Bytes = header.readUInt32BE(36) * 8;
  use(l1Offset, l1Bytes, 'L1 table');
  const tableOffset = Number(header.readBigUInt64BE(48));
  const tableBytes = header.readUInt32BE(56) * clusterBytes;
  use(tableOffset, tableBytes, 'refcount table');
  const l1 = await read(l1Offset, l1Bytes);
  for (let at = 0; at < l1.length; at += 8) {
    const l2Offset = Number(l1.readBigUInt64BE(at) & OFFSET);
    if (l2Offset === 0) continue;
    use(l2Offset, clusterBytes, 'L2 table');
    const l2 = await read(l2Offset, clusterBytes);
    for (let entry = 0; entry < clusterBytes; entry += 8) {
      const value = l2.readBigUInt64BE(entry);
      if ((value & OFFSET) !== 0n) use(Number(value & OFFSET), clusterBytes, 'data');
    }
  }
  const counts = await readCounts(read, tableOffset, tableBytes, clusterBytes, use);
  for (const [cluster, used] of uses) {
    const counted = counts.get(cluster) ?? 0;
    if (counted !== used) errors.push(`cluster ${cluster} is used ${used} times and counted ${counted}`);
  }
  const leaks = [...counts.keys()].filter(cluster => !uses.has(cluster)).length;
  return { errors, leaks };
}

async function readCounts(
  read: (offset: number, length: number) => Promise<Buffer>,
  tableOffset: number,
  tableBytes: number,
  clusterBytes: number,
  use: (offset: number, bytes: number, what: string) => void,
): Promise<Map<number, number>> {
  const counts = new Map<number, number>();
  const table = await read(tableOffset, tableBytes);
  for (let at = 0; at < table.length; at += 8) {
    const blockOffset = Number(table.readBigUInt64BE(at));
    if (blockOffset === 0) continue;
    use(blockOffset, clusterBytes, 'refcount block');
    const block = await read(blockOffset, clusterBytes);
    const first = (at / 8) * (clusterBytes / 2);
    for (let entry = 0; entry < clusterBytes / 2; entry++) {
      const value = block.readUInt16BE(entry * 2);
      if (value !== 0) counts.set(first + entry, value);
    }
  }
  return counts;
}
