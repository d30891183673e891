// What QMP commands work on: one block graph, its jobs and exports, and the monitors that hear of events.
import {
  BlockGraph,
  type Clock,
  type EngineError,
  type Fleece,
  type GraphNode,
  JobRegistry,
  systemClock,
  type ThrottleGroup,
} from '@tidemark/engine';
import type { Blockdev } from '../blockdev/blockdev-driver.ts';
import { ExportRegistry } from './export-registry.ts';
import { toQmpEvent } from './job-events.ts';

/** What happened, as QMP tells it. */
export interface QmpEvent {
  readonly event: string;
  readonly data?: object;
}

export interface StorageDaemonOptions {
  readonly clock?: Clock;
  /** Of this program, for `query-version`. */
  readonly version: string;
  readonly graph?: BlockGraph;
  readonly jobs?: JobRegistry;
}

export class StorageDaemon {
  readonly clock: Clock;
  readonly version: string;
  readonly graph: BlockGraph;
  readonly jobs: JobRegistry;
  readonly exports: ExportRegistry;
  /** By the name of the snapshot-access node. */
  readonly fleeces = new Map<string, Fleece>();
  /** By the id of the object. */
  readonly throttleGroups = new Map<string, ThrottleGroup>();
  /** What the block nodes were opened with, for those that were by their options. */
  readonly blockdevs = new WeakMap<GraphNode, Blockdev>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #quit = Promise.withResolvers<void>();
  readonly #closers: (() => Promise<void>)[] = [];
  #closed: Promise<void> | undefined;

  constructor(options: StorageDaemonOptions) {
    this.clock = options.clock ?? systemClock;
    this.version = options.version;
    this.graph = options.graph ?? new BlockGraph();
    this.jobs = options.jobs ?? new JobRegistry(this.clock);
    this.exports = new ExportRegistry({
      graph: this.graph,
      deleted: id => this.emit('BLOCK_EXPORT_DELETED', { id }),
    });
    this.onQuit(() => this.#removeBlockNodes());
    this.onQuit(() => this.exports.close());
    this.jobs.subscribe(({ event }) => {
      const told = toQmpEvent(event);
      if (told !== undefined) this.emit(told.event, told.data);
    });
    this.onQuit(() => this.jobs.cancelAll());
  }

  /** Tells every monitor. */
  emit(event: string, data?: object): void {
    const told: QmpEvent = data === undefined ? { event } : { event, data };
    for (const listener of this.#listeners) listener(told);
  }

  /** An event of ours: QEMU lets readers of a lost moment find out by their errors. */
  emitSnapshotBroken(filterNodeName: string, reason: EngineError): void {
    this.emit('X_TIDEMARK_SNAPSHOT_BROKEN', { 'node-name': filterNodeName, reason: reason.message });
  }

  /** Returns the function that ends the subscription. */
  subscribe(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** What has to be ended at `quit`, the latest first. */
  onQuit(close: () => Promise<void>): void {
    this.#closers.push(close);
  }

  /** Resolves when somebody has asked to quit. */
  get quitting(): Promise<void> {
    return this.#quit.promise;
  }

  quit(): void {
    this.#quit.resolve();
  }

  /**
   * Ends jobs, exports and block nodes, in this order, and makes everything durable. Good to repeat. Rejects with the
   * first failure, when all has been tried.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const failures: unknown[] = [];
    for (let close = this.#closers.pop(); close !== undefined; close = this.#closers.pop()) {
      // What cannot end is no reason to leave images open.
      await close().catch(error => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }

  /** Block nodes that were added here; those of others stay. */
  async #removeBlockNodes(): Promise<void> {
    for (const fleece of this.fleeces.values()) await fleece.remove().catch(() => undefined);
    for (;;) {
      const all = [...this.graph.nodes].sort((one, other) => other.sequence - one.sequence);
      const free = all.find(node => this.blockdevs.has(node) && node.parents.size === 0);
      if (free === undefined) return;
      // An image that could not be closed is as after a crash: consistent. Nobody is left who could be told.
      await this.graph.remove(free.name).catch(() => undefined);
      if (this.graph.find(free.name) === free) return;
    }
  }
}
