// The hashes of a disk, one SHA-256 for each MiB and one of those for the whole: enough to say where two disks
// differ without keeping a copy of either.

import { hash } from 'node:crypto';
import { type DiskReader, scanDisk } from './disk-reader.ts';
import { type Range, REGION_BYTES } from './layout.ts';
import { isZero } from './stamped-block.ts';

const DIGEST_BYTES = 32;
/** Most regions of a fresh disk: found by comparing, which is far faster than hashing. */
const ZERO_REGION_DIGEST = hash('sha256', Buffer.alloc(REGION_BYTES), 'buffer');

export class DiskHash {
  readonly sizeBytes: number;
  readonly #digests: Buffer;

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
    this.#digests = Buffer.alloc(Math.ceil(sizeBytes / REGION_BYTES) * DIGEST_BYTES);
  }

  /** Takes one region, in any order; all must have been taken before anything else is asked. */
  take(offset: number, bytes: Buffer): void {
    const whole = bytes.length === REGION_BYTES;
    const digest = whole && isZero(bytes) ? ZERO_REGION_DIGEST : hash('sha256', bytes, 'buffer');
    digest.copy(this.#digests, (offset / REGION_BYTES) * DIGEST_BYTES);
  }

  /** Of the whole disk: SHA-256 of the regions' digests, in hexadecimal. */
  get whole(): string {
    return hash('sha256', this.#digests, 'hex');
  }

  /** Ranges whose hashes differ from the other disk's, neighbours as one; beyond the shorter disk all does. */
  differences(other: DiskHash): Range[] {
    const ranges: { offset: number; length: number }[] = [];
    const sizeBytes = Math.max(this.sizeBytes, other.sizeBytes);
    for (let offset = 0; offset < sizeBytes; offset += REGION_BYTES) {
      if (this.#digest(offset).equals(other.#digest(offset)) && !this.#endsApart(other, offset)) continue;
      const length = Math.min(REGION_BYTES, sizeBytes - offset);
      const last = ranges.at(-1);
      if (last && last.offset + last.length === offset) last.length += length;
      else ranges.push({ offset, length });
    }
    return ranges;
  }

  #digest(offset: number): Buffer {
    const at = (offset / REGION_BYTES) * DIGEST_BYTES;
    return this.#digests.subarray(at, at + DIGEST_BYTES);
  }

  #endsApart(other: DiskHash, offset: number): boolean {
    return offset >= Math.min(this.sizeBytes, other.sizeBytes);
  }
}

/** Reads the whole disk. What is written to it meanwhile may be in the hashes or not. */
export async function hashDisk(reader: DiskReader, signal?: AbortSignal): Promise<DiskHash> {
  const hashes = new DiskHash(reader.sizeBytes);
  await scanDisk(reader, (offset, bytes) => hashes.take(offset, bytes), signal);
  return hashes;
}

/** The part of each range that lies outside `left`. */
export function outside(ranges: readonly Range[], left: Range): Range[] {
  const leftEnd = left.offset + left.length;
  return ranges.flatMap(({ offset, length }) => {
    const end = offset + length;
    const before = { offset, length: Math.min(end, left.offset) - offset };
    const after = { offset: Math.max(offset, leftEnd), length: end - Math.max(offset, leftEnd) };
    return [before, after].filter(part => part.length > 0);
  });
}
