// The stored form of a bitmap: a header that says what the bits belong to, and a checksum over all of it,
// so that a file of another volume, checkpoint or size is never taken for this one's.
//
// Little endian: magic (8 bytes), version u32, crc32 u32 (of everything after it), granularity u64,
// size u64, grown bytes u64, owner (16 bytes), then the bits as Bitmap.serialize gives them. Version 1 had neither
// grown bytes nor owner.
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { Bitmap } from '@tidemark/engine';

const MAGIC = Buffer.from('TMBITMAP', 'latin1');
const VERSION = 2;
const CRC_OFFSET = 12;
const OWNER_OFFSET = 40;
const OWNER_BYTES = 16;
const HEADER_BYTES = { 1: 32, 2: OWNER_OFFSET + OWNER_BYTES } as const;

/** What a stored bitmap belongs to. */
export interface BitmapOwner {
  readonly volumeId: string;
  readonly checkpointId: string;
}

export interface StoredBitmap {
  readonly bits: Bitmap;
  /** Dirty bytes that are so only because a crash left open whether they were changed. */
  readonly grownBytes: number;
}

export function encodeBitmap(owner: BitmapOwner, { bits, grownBytes }: StoredBitmap): Buffer {
  const file = Buffer.concat([Buffer.alloc(HEADER_BYTES[VERSION]), bits.serialize()]);
  MAGIC.copy(file);
  file.writeUInt32LE(VERSION, 8);
  file.writeBigUInt64LE(BigInt(bits.granularityBytes), 16);
  file.writeBigUInt64LE(BigInt(bits.sizeBytes), 24);
  file.writeBigUInt64LE(BigInt(grownBytes), 32);
  stampOf(owner).copy(file, OWNER_OFFSET);
  file.writeUInt32LE(crc32(file.subarray(CRC_OFFSET + 4)), CRC_OFFSET);
  return file;
}

/** Undefined when the bytes are not an undamaged bitmap of that owner, size and granularity. */
export function decodeBitmap(
  file: Buffer,
  expected: BitmapOwner & { sizeBytes: number; granularityBytes: number },
): StoredBitmap | undefined {
  if (file.length < HEADER_BYTES[1] || !file.subarray(0, 8).equals(MAGIC)) return undefined;
  const version = file.readUInt32LE(8);
  if (version !== 1 && version !== VERSION) return undefined;
  if (file.readUInt32LE(CRC_OFFSET) !== crc32(file.subarray(CRC_OFFSET + 4))) return undefined;
  if (file.readBigUInt64LE(16) !== BigInt(expected.granularityBytes)) return undefined;
  if (file.readBigUInt64LE(24) !== BigInt(expected.sizeBytes)) return undefined;
  const bits = new Bitmap(expected.sizeBytes, expected.granularityBytes);
  const payload = file.subarray(HEADER_BYTES[version]);
  if (payload.length !== bits.serializedBytes) return undefined;
  const stamp = file.subarray(OWNER_OFFSET, OWNER_OFFSET + OWNER_BYTES);
  if (version === VERSION && !stamp.equals(stampOf(expected))) return undefined;
  bits.deserialize(payload);
  return { bits, grownBytes: version === VERSION ? Number(file.readBigUInt64LE(32)) : 0 };
}

function stampOf({ volumeId, checkpointId }: BitmapOwner): Buffer {
  return createHash('sha256').update(`${volumeId}/${checkpointId}`).digest().subarray(0, OWNER_BYTES);
}
