// The stored form of a bitmap: a header that says what the bits belong to, and a checksum over all of it,
// so that a file of another volume, size or time is never taken for this one's.
//
// Little endian: magic (8 bytes), version u32, crc32 u32 (of everything after it), granularity u64,
// size u64, then the bits as Bitmap.serialize gives them.
import { crc32 } from 'node:zlib';
import { Bitmap } from '@tidemark/engine';

const MAGIC = Buffer.from('TMBITMAP', 'latin1');
const VERSION = 1;
const CRC_OFFSET = 12;
const HEADER_BYTES = 32;

export function encodeBitmap(bits: Bitmap): Buffer {
  const file = Buffer.concat([Buffer.alloc(HEADER_BYTES), bits.serialize()]);
  MAGIC.copy(file);
  file.writeUInt32LE(VERSION, 8);
  file.writeBigUInt64LE(BigInt(bits.granularityBytes), 16);
  file.writeBigUInt64LE(BigInt(bits.sizeBytes), 24);
  file.writeUInt32LE(crc32(file.subarray(CRC_OFFSET + 4)), CRC_OFFSET);
  return file;
}

/** Undefined when the bytes are not an undamaged bitmap of that size and granularity. */
export function decodeBitmap(
  file: Buffer,
  expected: { sizeBytes: number; granularityBytes: number },
): Bitmap | undefined {
  if (file.length < HEADER_BYTES || !file.subarray(0, 8).equals(MAGIC)) return undefined;
  if (file.readUInt32LE(8) !== VERSION) return undefined;
  if (file.readUInt32LE(CRC_OFFSET) !== crc32(file.subarray(CRC_OFFSET + 4))) return undefined;
  if (file.readBigUInt64LE(16) !== BigInt(expected.granularityBytes)) return undefined;
  if (file.readBigUInt64LE(24) !== BigInt(expected.sizeBytes)) return undefined;
  const bits = new Bitmap(expected.sizeBytes, expected.granularityBytes);
  const payload = file.subarray(HEADER_BYTES);
  if (payload.length !== bits.serializedBytes) return undefined;
  bits.deserialize(payload);
  return bits;
}
