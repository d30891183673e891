// A plain bitmap over a disk, one bit per granule, with summary levels so that long clean stretches are
// skipped at once. It knows bytes and granules and nothing of names or recording: see dirty-bitmap.ts.
//
// Level 0 holds the bits, 32 to a word. A bit of level k+1 says whether word i of level k is not zero.
// Invariant: every summary bit is exact, and bits past the last granule are zero on every level.
import { EngineError } from '../errors.ts';
import { isPowerOfTwo } from '../units.ts';
import { clearBits, findSet, findZero, newLevels, rebuildSummary, setBits } from './bitmap-levels.ts';

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
    return ((this.#levels[0]![granule >>> 5]! >>> (granule & 31)) & 1) === 1;
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
    if (other.#sizeBytes !== this.#sizeBytes) {
      throw new EngineError('invalid-argument', "Bitmaps are incompatible and can't be merged");
    }
    if (other === this || other.#count === 0) return;
    if (other.granularityBytes !== this.granularityBytes) {
      for (const area of other.dirtyAreas()) this.set(area.offset, area.length);
      return;
    }
    const words = this.#levels[0]!;
    const added = other.#levels[0]!;
    for (let i = 0; i < words.length; i++) words[i]! |= added[i]!;
    this.#count = rebuildSummary(this.#levels);
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
    this.#count = rebuildSummary(levels);
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
    return this.#levels[0]!.length * 4;
  }

  /** The bits as bytes, bit 0 of byte 0 first, padded to whole 32-bit words: little endian on any machine. */
  serialize(): Buffer {
    const words = this.#levels[0]!;
    const bytes = Buffer.alloc(words.length * 4);
    for (let i = 0; i < words.length; i++) bytes.writeUInt32LE(words[i]!, i * 4);
    return bytes;
  }

  /** Takes over the bits of `bytes`, the form `serialize` gives for the same size and granularity. */
  deserialize(bytes: Buffer): void {
    const words = this.#levels[0]!;
    if (bytes.length !== words.length * 4) {
      const wants = `${words.length * 4} bytes for ${this.#granules} granules`;
      throw new EngineError('invalid-format', `Bitmap data has ${bytes.length} bytes instead of ${wants}`);
    }
    for (let i = 0; i < words.length; i++) words[i] = bytes.readUInt32LE(i * 4);
    const beyond = this.#granules & 31;
    if (beyond !== 0 && words.length > 0) words[words.length - 1]! &= 2 ** beyond - 1;
    this.#count = rebuildSummary(this.#levels);
  }
}
