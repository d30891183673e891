// A plain bitmap over a disk, one bit per granule, with summary levels so that long clean stretches are
// skipped at once. It knows bytes and granules and nothing of names or recording: see dirty-bitmap.ts.
//
// Level 0 holds the bits, 32 to a word. A bit of level k+1 says whether word i of level k is not zero.
// Invariant: every summary bit is exact, and bits past the last granule are zero on every level.
import { createHash } from 'node:crypto';
import { endianness } from 'node:os';
import { EngineError } from '../errors.ts';
import { alignUp, isPowerOfTwo, KiB } from '../units.ts';
import { clearBits, findSet, findZero, newLevels, orBits, rebuildSummary, setBits } from './bitmap-levels.ts';

/** Bytes of a bitmap that are serialised at once for its hash. */
const HASH_PART_BYTES = 64 * KiB;

/** A run of dirty bytes. */
export interface DirtyArea {
  offset: number;
  length: number;
}

export class Bitmap {
  readonly granularityBytes: number;
  #sizeBytes: number;
  #granules: number;
  #levels: Uint32Array[];
  #count = 0;

  /** `sizeBytes` need not be a multiple of the granularity; the last granule may stick out. */
  constructor(sizeBytes: number, granularityBytes: number) {
    if (!isPowerOfTwo(granularityBytes)) {
      throw new EngineError('invalid-argument', `Granularity ${granularityBytes} must be a power of 2`);
    }
    this.granularityBytes = granularityBytes;
    this.#sizeBytes = sizeBytes;
    this.#granules = Math.ceil(sizeBytes / granularityBytes);
    this.#levels = newLevels(this.#granules);
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get granules(): number {
    return this.#granules;
  }

  get dirtyGranules(): number {
    return this.#count;
  }

  /** Whole granules, also where the last one sticks out past the end (scenario notation 0.1). */
  get dirtyBytes(): number {
    return this.#count * this.granularityBytes;
  }

  /** Bytes of memory that the bits and their summary take. */
  get memoryBytes(): number {
    return this.#levels.reduce((sum, level) => sum + level.byteLength, 0);
  }

  get(offset: number): boolean {
    const granule = Math.floor(offset / this.granularityBytes);
    // Not shifted: there may be more granules than a shift keeps.
    return ((this.#levels[0]![Math.floor(granule / 32)]! >>> (granule & 31)) & 1) === 1;
  }

  /** Marks every granule that the range touches. */
  set(offset: number, length: number): void {
    if (length <= 0) return;
    const first = Math.floor(offset / this.granularityBytes);
    const last = Math.floor((offset + length - 1) / this.granularityBytes);
    this.#count += setBits(this.#levels, first, Math.min(last + 1, this.#granules));
  }

  /**
   * Cleans the granules that lie wholly inside the range: a partial granule keeps its bit, since the rest
   * of it may be dirty (scenario HB-02). A range up to the end covers a last granule that sticks out.
   */
  reset(offset: number, length: number): void {
    if (length <= 0) return;
    const end = offset + length;
    const first = Math.ceil(offset / this.granularityBytes);
    const last = end >= this.#sizeBytes ? this.#granules : Math.floor(end / this.granularityBytes);
    if (last > first) this.#count -= clearBits(this.#levels, first, last);
  }

  setAll(): void {
    this.#count += setBits(this.#levels, 0, this.#granules);
  }

  clear(): void {
    for (const level of this.#levels) level.fill(0);
    this.#count = 0;
  }

  /** First dirty byte in [offset, end), or -1. */
  nextDirty(offset: number, end: number = this.#sizeBytes): number {
    const limit = Math.min(end, this.#sizeBytes);
    if (offset >= limit) return -1;
    const granule = findSet(this.#levels, Math.floor(offset / this.granularityBytes), this.#granules);
    if (granule < 0) return -1;
    const start = Math.max(granule * this.granularityBytes, offset);
    return start < limit ? start : -1;
  }

  /** First clean byte in [offset, end), or -1. */
  nextZero(offset: number, end: number = this.#sizeBytes): number {
    const limit = Math.min(end, this.#sizeBytes);
    if (offset >= limit) return -1;
    const granule = findZero(this.#levels[0]!, Math.floor(offset / this.granularityBytes), this.#granules);
    if (granule < 0) return -1;
    const start = Math.max(granule * this.granularityBytes, offset);
    return start < limit ? start : -1;
  }

  /** First run of dirty bytes in [offset, end), cut to `lengthMax`; undefined where there is none. */
  nextDirtyArea(offset: number, end: number = this.#sizeBytes, lengthMax = Infinity): DirtyArea | undefined {
    const start = this.nextDirty(offset, end);
    if (start < 0) return undefined;
    const limit = Math.min(end, this.#sizeBytes, start + lengthMax);
    const stop = this.nextZero(start, limit);
    return { offset: start, length: (stop < 0 ? limit : stop) - start };
  }

  /** Every run of dirty bytes in order. Bits may change under way: later runs show the newer state. */
  *dirtyAreas(): IterableIterator<DirtyArea> {
    let area = this.nextDirtyArea(0);
    while (area !== undefined) {
      yield area;
      area = this.nextDirtyArea(area.offset + area.length);
    }
  }

  /**
   * Adds the dirty granules of `other`. With another granularity every granule that a dirty byte touches is
   * marked: more than needed, never less (scenario BM-14b). Rejects a bitmap of another size.
   */
  merge(other: Bitmap): void {
    this.assertMergeable(other);
    if (other === this || other.#count === 0) return;
    if (other.granularityBytes === this.granularityBytes) {
      this.#count += orBits(this.#levels, other.#levels);
      return;
    }
    let area = other.nextDirtyArea(0);
    while (area !== undefined) {
      this.set(area.offset, area.length);
      // What lies in a granule that is set as a whole need not be looked at again.
      area = other.nextDirtyArea(alignUp(area.offset + area.length, this.granularityBytes));
    }
  }

  /** Throws kind `invalid-argument` for a bitmap of another size. */
  assertMergeable(other: Bitmap): void {
    if (other.#sizeBytes === this.#sizeBytes) return;
    const sizes = `destination size is ${this.#sizeBytes}, source size is ${other.#sizeBytes}`;
    throw new EngineError(
      'invalid-argument',
      `Bitmaps are of different sizes (${sizes}) and can't be merged`,
      { hint: 'Merge bitmaps of block nodes that have the same size.' },
    );
  }

  /** Grows (new bytes clean) or shrinks (bits past the end are gone) (scenario HB-03). */
  truncate(sizeBytes: number): void {
    const granules = Math.ceil(sizeBytes / this.granularityBytes);
    if (granules < this.#granules) clearBits(this.#levels, granules, this.#granules);
    const levels = newLevels(granules);
    const kept = Math.min(levels[0]!.length, this.#levels[0]!.length);
    levels[0]!.set(this.#levels[0]!.subarray(0, kept));
    this.#levels = levels;
    this.#sizeBytes = sizeBytes;
    this.#granules = granules;
    this.#count = rebuildSummary(levels, granules);
  }

  clone(): Bitmap {
    const copy = new Bitmap(this.#sizeBytes, this.granularityBytes);
    copy.merge(this);
    return copy;
  }

  equals(other: Bitmap): boolean {
    if (this.#sizeBytes !== other.#sizeBytes || this.granularityBytes !== other.granularityBytes)
      return false;
    if (this.#count !== other.#count) return false;
    const theirs = other.#levels[0]!;
    return this.#levels[0]!.every((word, i) => word === theirs[i]);
  }

  /** Length of what `serialize` gives. */
  get serializedBytes(): number {
    return this.#levels[0]!.byteLength;
  }

  /** Offsets and lengths of parts are multiples of this, apart from the end of the last (scenario HB-06). */
  get partAlignmentBytes(): number {
    return 64 * this.granularityBytes;
  }

  /** The bits as bytes, bit 0 of byte 0 first, padded to whole 64-bit words: little endian on any machine. */
  serialize(): Buffer {
    return this.serializePart(0, this.#sizeBytes);
  }

  /** The bits of [offset, offset + length), which are whole parts. */
  serializePart(offset: number, length: number): Buffer {
    const { first, end } = this.#partWords(offset, length);
    return littleEndian(Buffer.from(this.#levels[0]!.slice(first, end).buffer));
  }

  /** Takes over the bits of `bytes`, the form `serialize` gives for the same size and granularity. */
  deserialize(bytes: Buffer): void {
    this.deserializePart(0, this.#sizeBytes, bytes);
  }

  /** Takes over what `serializePart` gave for the same range; the rest stays as it is. */
  deserializePart(offset: number, length: number, bytes: Buffer): void {
    const { first, end } = this.#partWords(offset, length);
    if (bytes.length !== (end - first) * 4) {
      const wants = `${(end - first) * 4} bytes for a part of ${this.#granules} granules`;
      throw new EngineError('invalid-format', `Bitmap data has ${bytes.length} bytes instead of ${wants}`);
    }
    const copy = littleEndian(Buffer.from(new Uint8Array(bytes).buffer));
    this.#levels[0]!.set(new Uint32Array(copy.buffer, copy.byteOffset, end - first), first);
    clearBits(this.#levels, this.#granules, this.#levels[0]!.length * 32);
    this.#count = rebuildSummary(this.#levels, this.#granules);
  }

  /** SHA-256 of the serialised bits, in hex: the same for the same bits and number of them (scenario BM-18). */
  sha256(): string {
    const hash = createHash('sha256');
    const step = HASH_PART_BYTES * 8 * this.granularityBytes;
    let offset = 0;
    do {
      hash.update(this.serializePart(offset, Math.min(step, this.#sizeBytes - offset)));
      offset += step;
    } while (offset < this.#sizeBytes);
    return hash.digest('hex');
  }

  #partWords(offset: number, length: number): { first: number; end: number } {
    const part = this.partAlignmentBytes;
    const toEnd = offset + length === this.#sizeBytes;
    if (offset % part !== 0 || (!toEnd && length % part !== 0) || offset + length > this.#sizeBytes) {
      const range = `${length} bytes at ${offset}`;
      throw new EngineError('invalid-argument', `${range} of a bitmap are not whole parts of ${part} bytes`);
    }
    const words = this.#levels[0]!.length;
    return { first: (offset / part) * 2, end: toEnd ? words : ((offset + length) / part) * 2 };
  }
}

/** Words as this machine has them to little-endian ones, or back, in place. */
function littleEndian(bytes: Buffer): Buffer {
  return endianness() === 'LE' ? bytes : bytes.swap32();
}
