// The stored form of a write-intent log: two slots that are written in turn, so that a write which a crash cuts off
// leaves the other one whole. A slot is some sectors, each with its own checksum and the slot's sequence number:
// sectors of different numbers are a slot that was cut off, a sector with a wrong checksum is damage.
//
// A sector, little endian: magic (4 bytes), crc32 u32 (of everything after it), sequence u64, owner (16 bytes),
// region bytes u64, disk bytes u64, version u16, sector number u16, sectors u16, 10 unused bytes, then one bit for
// each of its regions, bit 0 of byte 0 first.
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { SECTOR_BYTES } from '@tidemark/engine';

const MAGIC = Buffer.from('TMWI', 'latin1');
const VERSION = 1;
const HEADER_BYTES = 64;
const CRC_FROM = 8;
const OWNER = { from: 16, to: 32 };
const BITS_BYTES = SECTOR_BYTES - HEADER_BYTES;
const REGIONS_PER_SECTOR = BITS_BYTES * 8;
/** Slots begin at multiples of this: no write of one touches a page of the other. */
const SLOT_ALIGNMENT_BYTES = 4096;

/** What a log belongs to. */
export interface IntentScope {
  readonly volumeId: string;
  readonly sizeBytes: number;
  readonly regionBytes: number;
}

/** One bit for each region: it may hold changes that no stored bitmap has. */
export interface IntentSlot {
  readonly sequence: number;
  readonly regions: Uint8Array;
}

export function regionsOf({ sizeBytes, regionBytes }: IntentScope): number {
  return Math.ceil(sizeBytes / regionBytes);
}

export function slotOffset(scope: IntentScope, sequence: number): number {
  return (sequence % 2) * slotStride(scope);
}

export function encodeSlot(scope: IntentScope, { sequence, regions }: IntentSlot): Buffer {
  const sectors = sectorsOf(scope);
  const slot = Buffer.alloc(sectors * SECTOR_BYTES);
  for (let index = 0; index < sectors; index++) {
    const sector = slot.subarray(index * SECTOR_BYTES, (index + 1) * SECTOR_BYTES);
    MAGIC.copy(sector);
    sector.writeBigUInt64LE(BigInt(sequence), 8);
    ownerOf(scope).copy(sector, OWNER.from);
    sector.writeBigUInt64LE(BigInt(scope.regionBytes), 32);
    sector.writeBigUInt64LE(BigInt(scope.sizeBytes), 40);
    sector.writeUInt16LE(VERSION, 48);
    sector.writeUInt16LE(index, 50);
    sector.writeUInt16LE(sectors, 52);
    sector.set(regions.subarray(index * BITS_BYTES, (index + 1) * BITS_BYTES), HEADER_BYTES);
    sector.writeUInt32LE(crc32(sector.subarray(CRC_FROM)), 4);
  }
  return slot;
}

/** Both slots, empty. */
export function encodeEmptyLog(scope: IntentScope): Buffer {
  const log = Buffer.alloc(2 * slotStride(scope));
  const regions = new Uint8Array(Math.ceil(regionsOf(scope) / 8));
  for (const sequence of [0, 1])
    encodeSlot(scope, { sequence, regions }).copy(log, slotOffset(scope, sequence));
  return log;
}

/**
 * The newer slot, or the older one where the newer was cut off. Undefined where the bytes are not an undamaged log of
 * that volume: what it held is not known then. Region size is the log's own: `scope` says what is new.
 */
export function decodeLog(file: Buffer, owner: Omit<IntentScope, 'regionBytes'>): ReadLog | undefined {
  if (file.length < SECTOR_BYTES) return undefined;
  const regionBytes = Number(file.readBigUInt64LE(32));
  if (!Number.isSafeInteger(regionBytes) || regionBytes < SECTOR_BYTES) return undefined;
  const scope = { ...owner, regionBytes };
  if (file.length !== 2 * slotStride(scope)) return undefined;
  const slots = [0, 1].map(parity => readSlot(file, scope, parity));
  if (slots.includes('damaged')) return undefined;
  const [first, second] = slots as CheckedSlot[];
  // Each write of a slot has the number after the last one that had ended: any other pair was not written so.
  if (Math.abs(first!.sequence - second!.sequence) !== 1) return undefined;
  const [older, newer] = first!.sequence < second!.sequence ? [first!, second!] : [second!, first!];
  if (!newer.torn) return older.torn ? undefined : { scope, slot: newer };
  return older.torn ? undefined : { scope, slot: older };
}

export interface ReadLog {
  readonly scope: IntentScope;
  readonly slot: IntentSlot;
}

interface CheckedSlot extends IntentSlot {
  readonly torn: boolean;
}

function readSlot(file: Buffer, scope: IntentScope, parity: number): CheckedSlot | 'damaged' {
  const regions = new Uint8Array(Math.ceil(regionsOf(scope) / 8));
  let [sequence, torn] = [-1, false];
  for (let index = 0; index < sectorsOf(scope); index++) {
    const at = slotOffset(scope, parity) + index * SECTOR_BYTES;
    const sector = file.subarray(at, at + SECTOR_BYTES);
    if (!isSound(sector, scope, index)) return 'damaged';
    const its = Number(sector.readBigUInt64LE(8));
    if (its % 2 !== parity) return 'damaged';
    torn ||= sequence !== -1 && its !== sequence;
    sequence = Math.max(sequence, its);
    regions.set(
      sector.subarray(HEADER_BYTES).subarray(0, regions.length - index * BITS_BYTES),
      index * BITS_BYTES,
    );
  }
  return { sequence, regions, torn };
}

function isSound(sector: Buffer, scope: IntentScope, index: number): boolean {
  if (!sector.subarray(0, 4).equals(MAGIC) || sector.readUInt16LE(48) !== VERSION) return false;
  if (sector.readUInt32LE(4) !== crc32(sector.subarray(CRC_FROM))) return false;
  if (!sector.subarray(OWNER.from, OWNER.to).equals(ownerOf(scope))) return false;
  if (sector.readBigUInt64LE(32) !== BigInt(scope.regionBytes)) return false;
  if (sector.readBigUInt64LE(40) !== BigInt(scope.sizeBytes)) return false;
  return sector.readUInt16LE(50) === index && sector.readUInt16LE(52) === sectorsOf(scope);
}

function sectorsOf(scope: IntentScope): number {
  return Math.ceil(regionsOf(scope) / REGIONS_PER_SECTOR);
}

function slotStride(scope: IntentScope): number {
  return Math.ceil((sectorsOf(scope) * SECTOR_BYTES) / SLOT_ALIGNMENT_BYTES) * SLOT_ALIGNMENT_BYTES;
}

function ownerOf({ volumeId }: { volumeId: string }): Buffer {
  return createHash('sha256')
    .update(volumeId)
    .digest()
    .subarray(0, OWNER.to - OWNER.from);
}
