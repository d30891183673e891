// One table of metadata in memory (L1, L2, refcount table or block) and which of its bytes the file lacks.
import { alignDown, alignUp, SECTOR_BYTES } from '../../units.ts';

/** A table's dirty bytes as they were at one moment, on their way to the file. */
export interface TableWrite {
  table: MetadataTable;
  /** Bytes from the start of the table. */
  from: number;
  bytes: Buffer;
}

export class MetadataTable {
  /** Index of the entry that points here; 0 for the L1 and the refcount table. */
  readonly key: number;
  /** Where it lies in the file, in bytes. */
  readonly offset: number;
  readonly bytes: Buffer;
  #dirtyFrom = Number.POSITIVE_INFINITY;
  #dirtyTo = 0;
  /** A write of it is under way: the file does not have it yet, so it must not be forgotten. */
  #writing = false;

  constructor(key: number, offset: number, bytes: Buffer) {
    this.key = key;
    this.offset = offset;
    this.bytes = bytes;
  }

  get dirty(): boolean {
    return this.#dirtyTo > 0;
  }

  /** The file has all of it. */
  get forgettable(): boolean {
    return !this.dirty && !this.#writing;
  }

  markDirty(from: number, to: number): void {
    this.#dirtyFrom = Math.min(this.#dirtyFrom, from);
    this.#dirtyTo = Math.max(this.#dirtyTo, to);
  }

  /** Copies the dirty bytes, widened to sectors, and counts them clean; `settle` must follow. */
  take(): TableWrite | undefined {
    if (!this.dirty) return undefined;
    const from = alignDown(this.#dirtyFrom, SECTOR_BYTES);
    const to = Math.min(alignUp(this.#dirtyTo, SECTOR_BYTES), this.bytes.length);
    this.#dirtyFrom = Number.POSITIVE_INFINITY;
    this.#dirtyTo = 0;
    this.#writing = true;
    return { table: this, from, bytes: Buffer.from(this.bytes.subarray(from, to)) };
  }

  /** The write has ended; after a failed one the bytes are dirty again. */
  settle(write: TableWrite, written: boolean): void {
    this.#writing = false;
    if (!written) this.markDirty(write.from, write.from + write.bytes.length);
  }
}
