// Writes records of checksums in any order, such as to another storage node: gathered page by page, so that a
// request carries many. Records that were never set stay as they are below.
import type { BlockNode } from '@tidemark/engine';
import { RECORD_BYTES } from './sums-format.ts';

/** Records of a page: those of 64 MiB of disk, in 16 KiB. */
const PAGE_RECORDS = 1024;
/** Pages held back: a copy goes through the disk in order, with guests' writes anywhere in between. */
const PAGES_MAX = 64;

interface Page {
  readonly bytes: Buffer;
  /** One byte for each record that was set. */
  readonly set: Uint8Array;
}

/** Records one behind the other, from that of cluster `first` on. */
export interface RunOfRecords {
  readonly first: number;
  readonly records: Buffer;
}

export class SumsWriter {
  readonly #node: Pick<BlockNode, 'write' | 'flush'>;
  /** By index, the one that was touched last at the end. */
  readonly #pages = new Map<number, Page>();
  /** Writes happen one after the other: a record that is set again is never overtaken by its older value. */
  #written: Promise<void> = Promise.resolve();
  #failed = false;
  #failure: unknown;
  /** Those whose write failed, or was not tried any more. */
  readonly #lost: (Page & { readonly index: number })[] = [];

  constructor(node: Pick<BlockNode, 'write' | 'flush'>) {
    this.#node = node;
  }

  /**
   * Sets the records of `count` clusters from `first` on. Resolves when there is room for more. Rejects with what a
   * write below said, and from then on always.
   */
  async set(first: number, record: Buffer, count = 1): Promise<void> {
    for (let done = 0; done < count; ) {
      const index = Math.floor((first + done) / PAGE_RECORDS);
      const from = (first + done) % PAGE_RECORDS;
      const to = Math.min(PAGE_RECORDS, from + count - done);
      const page = this.#touch(index);
      page.bytes.fill(record, from * RECORD_BYTES, to * RECORD_BYTES);
      page.set.fill(1, from, to);
      done += to - from;
      if (this.#pages.size <= PAGES_MAX) continue;
      this.#putOldest();
      await this.#settled();
    }
    if (this.#failed) throw this.#failure;
  }

  /** Afterwards all records that were set before the call are durable. Rejects as `set` does. */
  async flush(): Promise<void> {
    while (this.#pages.size > 0) this.#putOldest();
    await this.#settled();
    await this.#node.flush();
  }

  /** What was set and is not known to be there, with nothing under way; after a failure. The newest comes last. */
  unwritten(): RunOfRecords[] {
    const held = [...this.#pages].map(([index, page]) => ({ index, ...page }));
    return [...this.#lost, ...held].flatMap(({ index, bytes, set }) =>
      [...runs(set)].map(([from, to]) => ({
        first: index * PAGE_RECORDS + from,
        records: bytes.subarray(from * RECORD_BYTES, to * RECORD_BYTES),
      })),
    );
  }

  /** Sets what another writer to the same place did not come to write. Resolves and rejects as `set` does. */
  async takeOver(unwritten: readonly RunOfRecords[]): Promise<void> {
    for (const { first, records } of unwritten) {
      for (let at = 0; at < records.length; at += RECORD_BYTES) {
        await this.set(first + at / RECORD_BYTES, records.subarray(at, at + RECORD_BYTES));
      }
    }
  }

  async #settled(): Promise<void> {
    await this.#written;
    if (this.#failed) throw this.#failure;
  }

  #touch(index: number): Page {
    const page = this.#pages.get(index) ?? {
      bytes: Buffer.alloc(PAGE_RECORDS * RECORD_BYTES),
      set: new Uint8Array(PAGE_RECORDS),
    };
    this.#pages.delete(index);
    this.#pages.set(index, page);
    return page;
  }

  #putOldest(): void {
    const [index, page] = this.#pages.entries().next().value!;
    this.#pages.delete(index);
    this.#written = this.#written
      .then(() => this.#put(index, page))
      .catch((error: unknown) => {
        this.#lost.push({ index, ...page });
        this.#failed = true;
        this.#failure ??= error;
      });
  }

  async #put(index: number, { bytes, set }: Page): Promise<void> {
    if (this.#failed) throw this.#failure;
    for (const [from, to] of runs(set)) {
      const offset = (index * PAGE_RECORDS + from) * RECORD_BYTES;
      await this.#node.write(offset, bytes.subarray(from * RECORD_BYTES, to * RECORD_BYTES));
    }
  }
}

/** Where the runs of records that were set begin and end. */
function* runs(set: Uint8Array): IterableIterator<[from: number, to: number]> {
  for (let from = set.indexOf(1); from >= 0; ) {
    const end = set.indexOf(0, from);
    const to = end < 0 ? PAGE_RECORDS : end;
    yield [from, to];
    from = set.indexOf(1, to);
  }
}
