// Reads records of checksums, a page at a time, since whoever asks for one asks for its neighbours next.
import type { BlockNode } from '@tidemark/engine';
import { RECORD_BYTES } from './sums-format.ts';

/** Records read at once: those of 256 MiB of disk, in 64 KiB. */
const PAGE_RECORDS = 4096;
/** Pages kept: a few readers, each going through the disk in order; a chain has many of these files. */
const PAGES_MAX = 4;

/** Where records come from; indices count from 0, records lie one behind the other. */
export interface RecordSource {
  readonly count: number;
  /** Records of [first, first + count), which lies inside. Rejects with kind `io`. */
  records(first: number, count: number): Promise<Buffer>;
  /** Where the records that say nothing, from `first` on, end at the earliest, as far as that is known unread. */
  silentUntil?(first: number): Promise<number>;
}

type SumsNode = Pick<BlockNode, 'read' | 'sizeBytes'> & Partial<Pick<BlockNode, 'extents'>>;

export class SumsReader implements RecordSource {
  readonly count: number;
  readonly #node: SumsNode;
  /** By index, the one that was used last at the end. */
  readonly #pages = new Map<number, Promise<Buffer>>();

  /** `count`: records of the disk; the node may be larger. */
  constructor(node: SumsNode, count: number) {
    this.#node = node;
    this.count = count;
  }

  async records(first: number, count: number): Promise<Buffer> {
    const found = Buffer.allocUnsafe(count * RECORD_BYTES);
    for (let done = 0; done < count; ) {
      const index = Math.floor((first + done) / PAGE_RECORDS);
      const from = (first + done) % PAGE_RECORDS;
      const part = Math.min(PAGE_RECORDS - from, count - done);
      const page = await this.#page(index);
      page.copy(found, done * RECORD_BYTES, from * RECORD_BYTES, (from + part) * RECORD_BYTES);
      done += part;
    }
    return found;
  }

  /** By the holes of the file: records that were never set were never written. */
  async silentUntil(first: number): Promise<number> {
    const start = first * RECORD_BYTES;
    const end = this.count * RECORD_BYTES;
    if (this.#node.extents === undefined || start >= end) return first;
    let at = start;
    for (const { offset, length, zero } of await this.#node.extents(start, end - start)) {
      if (!zero) break;
      at = offset + length;
    }
    return Math.floor(at / RECORD_BYTES);
  }

  #page(index: number): Promise<Buffer> {
    const known = this.#pages.get(index);
    this.#pages.delete(index);
    const page = known ?? this.#read(index);
    this.#pages.set(index, page);
    if (this.#pages.size > PAGES_MAX) this.#pages.delete(this.#pages.keys().next().value!);
    return page;
  }

  async #read(index: number): Promise<Buffer> {
    const offset = index * PAGE_RECORDS * RECORD_BYTES;
    const records = Math.min(PAGE_RECORDS, this.count - index * PAGE_RECORDS);
    const page = Buffer.alloc(records * RECORD_BYTES);
    try {
      await this.#node.read(offset, page);
    } catch (error) {
      // What failed may be read the next time.
      this.#pages.delete(index);
      throw error;
    }
    return page;
  }
}
