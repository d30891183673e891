// The bits of one stored bitmap: a table of clusters, of which those without a place are all zeroes or all ones.
// Sections "Bitmap table" and "Bitmap data". The bits lie in the order that Bitmap serialises them in.
import type { Bitmap } from '../../bitmap/bitmap.ts';
import { EngineError } from '../../errors.ts';
import { QCOW2_BITMAP_BYTES_MAX, QCOW2_BITMAP_PART_BYTES } from '../../limits.ts';
import type { BlockNode } from '../../node/block-node.ts';
import type { BitmapEntry } from './bitmap-directory.ts';
import { BITMAP_TABLE_OFFSET_MASK, BITMAP_TABLE_ONES_FLAG, TABLE_ENTRY_BYTES } from './format.ts';
import type { Qcow2Header } from './header.ts';
import { readPadded } from './read-padded.ts';
import type { HostRun, Refcounts } from './refcounts.ts';

/** Bytes that the bits of a disk of that size take in the file, without the end of the last cluster. */
function bitmapBytes(sizeBytes: number, granularityBytes: number): number {
  return Math.ceil(Math.ceil(sizeBytes / granularityBytes) / 8);
}

/** Whether an image keeps a bitmap of that many bits. */
export function isBitmapTooLarge(sizeBytes: number, granularityBytes: number): boolean {
  return bitmapBytes(sizeBytes, granularityBytes) > QCOW2_BITMAP_BYTES_MAX;
}

/** Whether the table is one for a disk of that size. */
export function hasRightTable({ sizeBytes, clusterBytes }: Qcow2Header, entry: BitmapEntry): boolean {
  const granularityBytes = 2 ** entry.granularityBits;
  const clusters = Math.ceil(bitmapBytes(sizeBytes, granularityBytes) / clusterBytes);
  return clusters === entry.tableEntries && !isBitmapTooLarge(sizeBytes, granularityBytes);
}

/** Reads the table. Rejects with `corrupt`, naming the bitmap and the place, or `io`. */
export async function readBitmapTable(
  file: BlockNode,
  { clusterBytes }: Qcow2Header,
  { name, tableOffset, tableEntries }: BitmapEntry,
): Promise<bigint[]> {
  const bytes = Buffer.alloc(tableEntries * TABLE_ENTRY_BYTES);
  await readPadded(file, tableOffset, bytes);
  const table: bigint[] = [];
  for (let position = 0; position < bytes.length; position += TABLE_ENTRY_BYTES) {
    const entry = bytes.readBigUInt64BE(position);
    const host = entry & BITMAP_TABLE_OFFSET_MASK;
    const flags = entry & ~BITMAP_TABLE_OFFSET_MASK;
    const flagsFit = host === 0n ? flags <= BITMAP_TABLE_ONES_FLAG : flags === 0n;
    if (!flagsFit || host % BigInt(clusterBytes) !== 0n || host >= BigInt(file.sizeBytes)) {
      const at = tableOffset + position;
      const text = `the table of bitmap '${name}' has 0x${entry.toString(16)} at ${at}, which is not possible`;
      throw new EngineError('corrupt', text, { op: 'load-bitmap', offset: at });
    }
    table.push(entry);
  }
  return table;
}

/**
 * Fills `bits`, which are as long as the disk; `hasRightTable` holds. Rejects with `corrupt` (an entry of the table)
 * or `io`; the bits are anything then.
 */
export async function readBitmapBits(
  file: BlockNode,
  header: Qcow2Header,
  entry: BitmapEntry,
  bits: Bitmap,
): Promise<void> {
  const { sizeBytes, clusterBytes } = header;
  const { granularityBytes } = bits;
  const table = await readBitmapTable(file, header, entry);
  const perPart = Math.max(1, Math.floor(QCOW2_BITMAP_PART_BYTES / clusterBytes));
  const span = clusterBytes * 8 * granularityBytes;
  for (let first = 0; first < table.length; first += perPart) {
    const part = table.slice(first, first + perPart);
    if (part.every(place => place === 0n)) continue;
    const offset = first * span;
    const length = Math.min(part.length * span, sizeBytes - offset);
    // Whole 64-bit words, which may reach over the end of the last cluster.
    const bytes = Buffer.alloc(Math.ceil(length / granularityBytes / 64) * 8);
    for (const [index, place] of part.entries()) {
      const cluster = bytes.subarray(index * clusterBytes, (index + 1) * clusterBytes);
      if (place === BITMAP_TABLE_ONES_FLAG) cluster.fill(0xff);
      else if (place !== 0n) await readPadded(file, Number(place), cluster);
    }
    bits.deserializePart(offset, length, bytes);
  }
}

export interface StoredBits {
  tableOffset: number;
  tableEntries: number;
  /** What was taken for it. */
  runs: HostRun[];
}

/**
 * Writes the bits into clusters of their own; durable after the next flush of counts and file. Rejects with `io`,
 * and what was taken by then is given back.
 */
export async function writeBitmapBits(
  file: BlockNode,
  { clusterBytes }: Qcow2Header,
  bits: Bitmap,
  refcounts: Refcounts,
): Promise<StoredBits> {
  const tableEntries = Math.ceil(bitmapBytes(bits.sizeBytes, bits.granularityBytes) / clusterBytes);
  const table = Buffer.alloc(tableEntries * TABLE_ENTRY_BYTES);
  const span = clusterBytes * 8 * bits.granularityBytes;
  const runs: HostRun[] = [];
  try {
    for (let index = 0; index < tableEntries; index++) {
      const offset = index * span;
      const end = Math.min(offset + span, bits.sizeBytes);
      if (bits.nextDirty(offset, end) < 0) continue;
      const run = await refcounts.allocateContiguous(1);
      runs.push(run);
      const cluster = Buffer.alloc(clusterBytes);
      bits.serializePart(offset, end - offset).copy(cluster);
      await file.write(run.offset, cluster);
      table.writeBigUInt64BE(BigInt(run.offset), index * TABLE_ENTRY_BYTES);
    }
    if (tableEntries === 0) return { tableOffset: 0, tableEntries, runs };
    const run = await refcounts.allocateContiguous(Math.ceil(table.length / clusterBytes));
    runs.push(run);
    await file.write(run.offset, table);
    return { tableOffset: run.offset, tableEntries, runs };
  } catch (error) {
    for (const run of runs) await refcounts.free(run).catch(() => undefined);
    throw error;
  }
}
