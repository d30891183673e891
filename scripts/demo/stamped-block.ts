// One block of the writer: it says which write it is and where it belongs, and proves that it is whole.
//
//   0 magic (8 bytes)   8 sequence   12 block   16 crc32 of the rest   20 filling that follows from the sequence

import { crc32 } from 'node:zlib';

export const BLOCK_BYTES = 4096;
const MAGIC = Buffer.from('TIDESTMP');
const CHECKSUM_OFFSET = 16;
const FILLING_OFFSET = 20;

export interface Stamp {
  /** 1 for the writer's first write. */
  readonly sequence: number;
  /** Index of the block in the writer's region. */
  readonly block: number;
}

/** What a block holds: a stamp, nothing (all zero), or something that no writer wrote. */
export type Reading = Stamp | 'blank' | 'damaged';

/** Fills the buffer, which is one block long. */
export function writeStamp(buffer: Buffer, { sequence, block }: Stamp): void {
  MAGIC.copy(buffer);
  buffer.writeUInt32LE(sequence, 8);
  buffer.writeUInt32LE(block, 12);
  // Xorshift: differs from write to write in every word, so that no mixture of two passes for one.
  let word = ((Math.imul(sequence, 0x9e3779b1) ^ block) | 1) >>> 0;
  for (let at = FILLING_OFFSET; at < BLOCK_BYTES; at += 4) {
    word ^= word << 13;
    word ^= word >>> 17;
    word ^= word << 5;
    buffer.writeInt32LE(word | 0, at);
  }
  buffer.writeUInt32LE(checksum(buffer), CHECKSUM_OFFSET);
}

export function readStamp(buffer: Buffer): Reading {
  if (buffer.compare(MAGIC, 0, MAGIC.length, 0, MAGIC.length) !== 0) {
    return isZero(buffer) ? 'blank' : 'damaged';
  }
  if (buffer.readUInt32LE(CHECKSUM_OFFSET) !== checksum(buffer)) return 'damaged';
  return { sequence: buffer.readUInt32LE(8), block: buffer.readUInt32LE(12) };
}

function checksum(buffer: Buffer): number {
  return crc32(buffer.subarray(FILLING_OFFSET, BLOCK_BYTES), crc32(buffer.subarray(0, CHECKSUM_OFFSET)));
}

const ZEROES = Buffer.alloc(1024 * 1024);

/** Whether all bytes are zero; compares memory, without a loop of ours. */
export function isZero(buffer: Buffer): boolean {
  for (let at = 0; at < buffer.length; at += ZEROES.length) {
    const length = Math.min(ZEROES.length, buffer.length - at);
    if (buffer.compare(ZEROES, 0, length, at, at + length) !== 0) return false;
  }
  return true;
}
