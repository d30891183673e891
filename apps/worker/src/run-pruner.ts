// Removes runs that ended longer ago than they are kept, a few hundred at a time, in a sweep from the oldest on. Any
// number of workers may do so at once.
import type { Catalog, RunHistoryCursor } from '@tidemark/catalog';
import type { Logger } from 'pino';
import type { WorkerLimits } from './limits.ts';
import { Rhythm } from './rhythm.ts';

export class RunPruner {
  readonly #catalog: Catalog;
  readonly #limits: WorkerLimits;
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #rhythm: Rhythm;
  #closed = false;

  constructor(options: { catalog: Catalog; limits: WorkerLimits; log: Logger; now: () => number }) {
    this.#catalog = options.catalog;
    this.#limits = options.limits;
    this.#log = options.log;
    this.#now = options.now;
    this.#rhythm = new Rhythm(() => this.#sweep(), options.limits.runPruneMs, options.log);
  }

  start(): void {
    if (this.#limits.runRetentionMs > 0) this.#rhythm.start();
  }

  close(): Promise<void> {
    this.#closed = true;
    return this.#rhythm.close();
  }

  async #sweep(): Promise<void> {
    const { runRetentionMs, runPruneMax } = this.#limits;
    const before = new Date(this.#now() - runRetentionMs);
    let pruned = 0;
    let cursor: RunHistoryCursor | null = null;
    do {
      const step = await this.#catalog.runHistory.prune(before, runPruneMax, cursor);
      pruned += step.pruned;
      cursor = step.next;
    } while (cursor !== null && !this.#closed);
    if (pruned > 0) this.#log.info({ pruned, before }, 'runs pruned');
  }
}
