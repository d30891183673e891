// A bounded cache of L2 tables or refcount blocks, least recently used out first. Dirty ones leave only
// after they were written, in the order that `writeBack` keeps.
import type { BlockNode } from '../../node/block-node.ts';
import { MetadataTable, type TableWrite } from './metadata-table.ts';
import { readPadded } from './read-padded.ts';

export interface TableCacheOptions {
  file: BlockNode;
  tableBytes: number;
  /** Tables held at most; at least one is. */
  capacity: number;
  /** Makes dirty tables clean; called when there is no room otherwise. */
  writeBack: () => Promise<void>;
}

export class TableCache {
  readonly #options: TableCacheOptions;
  /** In order of use, the latest last. */
  readonly #tables = new Map<number, MetadataTable>();
  readonly #loading = new Map<number, Promise<void>>();
  #latest: MetadataTable | undefined;
  /**
   * Tables that came in this turn of the event loop. They stay until those who waited for them have run:
   * with few places and many requests, tables would otherwise push each other out for ever.
   */
  readonly #young = new Set<MetadataTable>();
  #reserved = 0;
  /** Resolved, and renewed, whenever there may be room again. */
  #arrival = Promise.withResolvers<void>();

  constructor(options: TableCacheOptions) {
    this.#options = options;
  }

  /** The table, if it is here. */
  peek(key: number): MetadataTable | undefined {
    if (this.#latest?.key === key) return this.#latest;
    const table = this.#tables.get(key);
    if (table === undefined) return undefined;
    this.#tables.delete(key);
    this.#tables.set(key, table);
    this.#latest = table;
    return table;
  }

  /**
   * Brings the table here; callers `peek` right afterwards, and come again where it has left already.
   * Concurrent calls for one table read it once.
   */
  load(key: number, offset: number): Promise<void> {
    return this.#share(key, async () => {
      const bytes = Buffer.allocUnsafeSlow(this.#options.tableBytes);
      await readPadded(this.#options.file, offset, bytes);
      return new MetadataTable(key, offset, bytes);
    });
  }

  /** Puts a new table of zeroes here that is dirty as a whole; its place must be allocated. */
  insert(key: number, offset: number): Promise<void> {
    return this.#share(key, async () => {
      const table = new MetadataTable(key, offset, Buffer.alloc(this.#options.tableBytes));
      table.markDirty(0, table.bytes.length);
      return table;
    });
  }

  /** Puts a table that is dirty as a whole in the place of the one that is here under the key, and is clean. */
  replace(key: number, offset: number, bytes: Buffer): void {
    const table = new MetadataTable(key, offset, bytes);
    table.markDirty(0, bytes.length);
    const old = this.#tables.get(key);
    this.#tables.set(key, table);
    if (old !== undefined && this.#young.delete(old)) this.#young.add(table);
    if (this.#latest?.key === key) this.#latest = table;
  }

  /** The dirty bytes of all tables at this moment; each must be settled. */
  take(): TableWrite[] {
    const writes: TableWrite[] = [];
    for (const table of this.#tables.values()) {
      const write = table.take();
      if (write !== undefined) writes.push(write);
    }
    return writes;
  }

  async #share(key: number, make: () => Promise<MetadataTable>): Promise<void> {
    if (this.#tables.has(key)) return;
    const running = this.#loading.get(key);
    if (running !== undefined) return running;
    const loading = this.#bring(make).finally(() => this.#loading.delete(key));
    this.#loading.set(key, loading);
    return loading;
  }

  async #bring(make: () => Promise<MetadataTable>): Promise<void> {
    await this.#reserveRoom();
    try {
      const table = await make();
      this.#tables.set(table.key, table);
      this.#keepForThisTurn(table);
    } finally {
      this.#reserved--;
      this.#announceRoom();
    }
  }

  #keepForThisTurn(table: MetadataTable): void {
    this.#young.add(table);
    if (this.#young.size > 1) return;
    setImmediate(() => {
      this.#young.clear();
      this.#announceRoom();
    });
  }

  #announceRoom(): void {
    this.#arrival.resolve();
    this.#arrival = Promise.withResolvers();
  }

  /** Tables on their way here count as well: many requests at once do not outgrow the bound. */
  async #reserveRoom(): Promise<void> {
    while (this.#tables.size + this.#reserved >= this.#options.capacity) {
      const victim = this.#oldestForgettable();
      if (victim !== undefined) {
        this.#tables.delete(victim.key);
        if (this.#latest === victim) this.#latest = undefined;
      } else if (this.#tables.size > this.#young.size) {
        await this.#options.writeBack();
      } else {
        await this.#arrival.promise;
      }
    }
    this.#reserved++;
  }

  #oldestForgettable(): MetadataTable | undefined {
    for (const table of this.#tables.values()) {
      if (table.forgettable && !this.#young.has(table)) return table;
    }
    return undefined;
  }
}
