// A block node in memory, kept by pages, so that a disk of terabytes costs only what was written.

import { appendExtent, type Extent } from '../extent.ts';
import type { BlockNode, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import { KiB } from '../units.ts';

const PAGE_BYTES = 4 * KiB;
/** Extents one call reports; small enough that tests meet a list that stops early. */
const EXTENTS_MAX = 64;

export interface MemoryNodeOptions {
  sizeBytes: number;
  /** Default false. */
  readOnly?: boolean;
  /** Default 1. */
  requestAlignmentBytes?: number;
  /** Default: none. */
  clusterSizeBytes?: number;
}

export class MemoryNode implements BlockNode {
  readonly driver = 'memory';
  readonly readOnly: boolean;
  readonly requestAlignmentBytes: number;
  readonly clusterSizeBytes: number | undefined;
  /** How often each request was made, for tests that count. */
  readonly counts = { read: 0, write: 0, writeZeroes: 0, discard: 0, flush: 0 };
  readonly #pages = new Map<number, Buffer>();
  #sizeBytes: number;

  constructor(options: MemoryNodeOptions) {
    this.#sizeBytes = options.sizeBytes;
    this.readOnly = options.readOnly ?? false;
    this.requestAlignmentBytes = options.requestAlignmentBytes ?? 1;
    this.clusterSizeBytes = options.clusterSizeBytes;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  read(offset: number, buffer: Buffer): Pending {
    this.counts.read++;
    this.#eachPage(offset, buffer.length, (index, from, to, position) => {
      const page = this.#pages.get(index);
      if (page === undefined) buffer.fill(0, position, position + to - from);
      else page.copy(buffer, position, from, to);
    });
    return undefined;
  }

  write(offset: number, buffer: Buffer): Pending {
    this.counts.write++;
    this.#sizeBytes = Math.max(this.#sizeBytes, offset + buffer.length);
    this.#eachPage(offset, buffer.length, (index, from, to, position) => {
      let page = this.#pages.get(index);
      if (page === undefined) {
        page = Buffer.alloc(PAGE_BYTES);
        this.#pages.set(index, page);
      }
      buffer.copy(page, from, position, position + to - from);
    });
    return undefined;
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    this.counts.writeZeroes++;
    this.#zero(offset, length, options.mayUnmap);
    return undefined;
  }

  discard(offset: number, length: number): Pending {
    this.counts.discard++;
    this.#zero(offset, length, true);
    return undefined;
  }

  flush(): Pending {
    this.counts.flush++;
    return undefined;
  }

  extents(offset: number, length: number): Extent[] {
    const extents: Extent[] = [];
    const end = offset + length;
    for (let position = offset; position < end && extents.length <= EXTENTS_MAX; ) {
      const data = this.#pages.has(Math.floor(position / PAGE_BYTES));
      const stop = Math.min(end, (Math.floor(position / PAGE_BYTES) + 1) * PAGE_BYTES);
      // Without this, a hole of terabytes would be walked page by page.
      const next = data ? stop : Math.min(end, this.#nextPageOffset(position) ?? end);
      appendExtent(extents, { offset: position, length: next - position, data, zero: !data, depth: 1 });
      position = next;
    }
    return extents.slice(0, EXTENTS_MAX);
  }

  async resize(sizeBytes: number): Promise<void> {
    if (sizeBytes < this.#sizeBytes) this.#zero(sizeBytes, this.#sizeBytes - sizeBytes, true);
    this.#sizeBytes = sizeBytes;
  }

  async allocatedBytes(): Promise<number> {
    return this.#pages.size * PAGE_BYTES;
  }

  async close(): Promise<void> {}

  #zero(offset: number, length: number, mayUnmap: boolean): void {
    const drop = (index: number, from: number, to: number) => {
      const page = this.#pages.get(index);
      if (page === undefined) return;
      if (mayUnmap && from === 0 && to === PAGE_BYTES) this.#pages.delete(index);
      else page.fill(0, from, to);
    };
    if (length / PAGE_BYTES <= this.#pages.size) {
      this.#eachPage(offset, length, drop);
      return;
    }
    for (const index of [...this.#pages.keys()]) {
      const from = Math.max(0, offset - index * PAGE_BYTES);
      const to = Math.min(PAGE_BYTES, offset + length - index * PAGE_BYTES);
      if (from < to) drop(index, from, to);
    }
  }

  #nextPageOffset(offset: number): number | undefined {
    let next: number | undefined;
    for (const index of this.#pages.keys()) {
      const start = index * PAGE_BYTES;
      if (start > offset && (next === undefined || start < next)) next = start;
    }
    return next;
  }

  #eachPage(
    offset: number,
    length: number,
    visit: (index: number, from: number, to: number, position: number) => void,
  ): void {
    for (let done = 0; done < length; ) {
      const index = Math.floor((offset + done) / PAGE_BYTES);
      const from = offset + done - index * PAGE_BYTES;
      const to = Math.min(PAGE_BYTES, from + length - done);
      visit(index, from, to, done);
      done += to - from;
    }
  }
}
