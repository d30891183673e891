// L1 and L2 table entries taken apart and put together. Entries are handled as two 32-bit halves: the
// mapping of a request reads many, and a bigint for each would cost more than the rest of the look-up.
import {
  COMPRESSED_FLAG,
  COMPRESSED_SECTOR_BYTES,
  COPIED_FLAG,
  L2_OFFSET_MASK,
  L2_RESERVED_MASK,
  L2_ZERO_FLAG,
} from './format.ts';

const OFFSET_HIGH = high(L2_OFFSET_MASK);
const OFFSET_LOW = low(L2_OFFSET_MASK);
const RESERVED_HIGH = high(L2_RESERVED_MASK);
const RESERVED_LOW = low(L2_RESERVED_MASK);
const COPIED_HIGH = high(COPIED_FLAG);
const COMPRESSED_HIGH = high(COMPRESSED_FLAG);
const ZERO_LOW = low(L2_ZERO_FLAG);
const LOW_UNIT = 2 ** 32;

function high(mask: bigint): number {
  return Number(mask >> 32n) | 0;
}

function low(mask: bigint): number {
  return Number(mask & 0xffffffffn) | 0;
}

/** What a guest cluster is. */
export type ClusterKind =
  | 'unallocated' // reads from the backing image
  | 'zero-plain' // reads as zeroes, occupies nothing
  | 'zero-allocated' // reads as zeroes, keeps a host cluster
  | 'data'
  | 'compressed';

export function isCopied(entryHigh: number): boolean {
  return (entryHigh & COPIED_HIGH) !== 0;
}

export function kindOfEntry(entryHigh: number, entryLow: number): ClusterKind {
  if ((entryHigh & COMPRESSED_HIGH) !== 0) return 'compressed';
  const hasOffset = (entryHigh & OFFSET_HIGH) !== 0 || (entryLow & OFFSET_LOW) !== 0;
  if ((entryLow & ZERO_LOW) !== 0) return hasOffset ? 'zero-allocated' : 'zero-plain';
  return hasOffset ? 'data' : 'unallocated';
}

/** Offset in the file, in bytes, of a standard cluster or (from an L1 entry) of an L2 table. */
export function hostOffsetOfEntry(entryHigh: number, entryLow: number): number {
  return (entryHigh & OFFSET_HIGH) * LOW_UNIT + ((entryLow & OFFSET_LOW) >>> 0);
}

/** Whether a standard entry has bits set that the format reserves. */
export function hasReservedBits(entryHigh: number, entryLow: number): boolean {
  return (entryHigh & RESERVED_HIGH) !== 0 || (entryLow & RESERVED_LOW) !== 0;
}

/** Where a compressed cluster's bytes lie; section "Compressed Clusters Descriptor". */
export function compressedPlace(
  entryHigh: number,
  entryLow: number,
  clusterBits: number,
): { offset: number; length: number } {
  const descriptor = (BigInt(entryHigh & 0x3fffffff) << 32n) | BigInt(entryLow >>> 0);
  const offsetBits = BigInt(62 - (clusterBits - 8));
  const offset = Number(descriptor & ((1n << offsetBits) - 1n));
  const sectors = Number(descriptor >> offsetBits) + 1;
  return { offset, length: sectors * COMPRESSED_SECTOR_BYTES - (offset % COMPRESSED_SECTOR_BYTES) };
}

/** The entry for a cluster whose compressed bytes lie there; section "Compressed Clusters Descriptor". */
export function writeCompressedEntry(
  table: Buffer,
  position: number,
  place: { offset: number; length: number; clusterBits: number },
): void {
  const { offset, length } = place;
  const offsetBits = BigInt(62 - (place.clusterBits - 8));
  const last = Math.floor((offset + length - 1) / COMPRESSED_SECTOR_BYTES);
  const sectors = BigInt(last - Math.floor(offset / COMPRESSED_SECTOR_BYTES));
  table.writeBigUInt64BE(COMPRESSED_FLAG | (sectors << offsetBits) | BigInt(offset), position);
}

/** Writes an entry for a cluster (or L2 table) that nobody else refers to. */
export function writeOwnedEntry(table: Buffer, position: number, hostOffset: number, zero = false): void {
  table.writeUInt32BE(((hostOffset / LOW_UNIT) | COPIED_HIGH) >>> 0, position);
  table.writeUInt32BE((hostOffset % LOW_UNIT) + (zero ? ZERO_LOW : 0), position + 4);
}

export function writePlainZeroEntry(table: Buffer, position: number): void {
  table.writeUInt32BE(0, position);
  table.writeUInt32BE(ZERO_LOW, position + 4);
}

export function writeUnallocatedEntry(table: Buffer, position: number): void {
  table.fill(0, position, position + 8);
}

/** The entry's cluster (or L2 table) is not to be written in place any more. */
export function clearCopied(table: Buffer, position: number): void {
  table.writeUInt8(table.readUInt8(position) & 0x7f, position);
}
