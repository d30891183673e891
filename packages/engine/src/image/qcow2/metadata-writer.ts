// Writes dirty metadata in the order that keeps the file consistent at every moment:
//
//   1. refcount blocks, then a flush: clusters count as used, and guest data is on the disk;
//   2. the refcount table, where it changed, then a flush: new blocks are reachable;
//   3. L2 tables; then, where it changed, a flush and the L1 table: the mapping may use those clusters;
//   4. a flush; from here on the clusters that were unlinked before step 1 may be given away.
//
// Each round works on a copy of what was dirty when it began, so that requests go on meanwhile. A crash
// between any two steps leaks clusters at worst.
import type { BlockNode } from '../../node/block-node.ts';
import type { ClusterMap } from './clusters.ts';
import type { EpochGate } from './epoch-gate.ts';
import type { TableWrite } from './metadata-table.ts';
import type { HostRun, Refcounts } from './refcounts.ts';

export interface MetadataWriterOptions {
  file: BlockNode;
  refcounts: Refcounts;
  clusters: ClusterMap;
  gate: EpochGate;
}

export class MetadataWriter {
  readonly #options: MetadataWriterOptions;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #releasing: Promise<void> = Promise.resolve();
  #releaseFailure: unknown;

  constructor(options: MetadataWriterOptions) {
    this.#options = options;
  }

  /**
   * What was changed before the call is durable afterwards, guest data included. Calls made while a
   * round is running share the next one. Rejects with `io`: what was not written stays dirty.
   */
  writeBack(): Promise<void> {
    if (this.#next !== undefined) return this.#next;
    if (this.#running === undefined) return this.#start();
    this.#next = this.#running.then(
      () => this.#startNext(),
      () => this.#startNext(),
    );
    return this.#next;
  }

  /** Waits until all unlinked clusters of past rounds are free; rejects where one could not be freed. */
  async released(): Promise<void> {
    await this.#releasing;
    if (this.#releaseFailure !== undefined) throw this.#releaseFailure;
  }

  #startNext(): Promise<void> {
    this.#next = undefined;
    return this.#start();
  }

  #start(): Promise<void> {
    this.#running = this.#round().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #round(): Promise<void> {
    const { file, refcounts, clusters } = this.#options;
    const blocks = refcounts.blocks.take();
    const table = refcounts.table.take();
    const l2 = clusters.l2.take();
    const l1 = clusters.l1.take();
    const unlinked = clusters.takeUnlinked();
    const mapped = l2.length > 0 || l1 !== undefined;
    const writes = [...blocks, ...(table ? [table] : []), ...l2, ...(l1 ? [l1] : [])];
    try {
      await this.#write(blocks);
      if (table !== undefined) {
        await file.flush();
        await this.#write([table]);
      }
      if (mapped) await file.flush();
      await this.#write(l2);
      if (l1 !== undefined) {
        await file.flush();
        await this.#write([l1]);
      }
      await file.flush();
      for (const write of writes) write.table.settle(write, true);
    } catch (error) {
      // Also what was written: without the flush nobody knows whether it arrived.
      for (const write of writes) write.table.settle(write, false);
      clusters.restoreUnlinked(unlinked);
      throw error;
    }
    this.#release(unlinked);
  }

  async #write(writes: TableWrite[]): Promise<void> {
    const { file } = this.#options;
    for (const { table, from, bytes } of writes) {
      // A table is a cluster, and one of the last cluster may begin before the end of the file and end behind.
      const end = table.offset + from + bytes.length;
      if (end > file.sizeBytes) await file.resize?.(end);
      await file.write(table.offset + from, bytes);
    }
  }

  /** In the background: requests that still use the clusters end first, and may wait for a round. */
  #release(runs: HostRun[]): void {
    if (runs.length === 0) return;
    this.#releasing = this.#releasing.then(async () => {
      try {
        await this.#options.gate.quiesce();
        for (const run of runs) await this.#options.refcounts.free(run);
      } catch (error) {
        this.#releaseFailure ??= error;
      }
    });
  }
}
