// Removes events that are older than they are kept, and as old deliveries of them, a few thousand at a time. Any
// number of workers may do so at once.
import type { Catalog } from '@tidemark/catalog';
import type { Logger } from 'pino';
import type { WorkerLimits } from './limits.ts';
import { Rhythm } from './rhythm.ts';

export class EventPruner {
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
    this.#rhythm = new Rhythm(() => this.#prune(), options.limits.eventPruneMs, options.log);
  }

  start(): void {
    if (this.#limits.eventRetentionMs > 0) this.#rhythm.start();
  }

  close(): Promise<void> {
    this.#closed = true;
    return this.#rhythm.close();
  }

  async #prune(): Promise<void> {
    const { eventRetentionMs, eventPruneMax } = this.#limits;
    const before = new Date(this.#now() - eventRetentionMs);
    let pruned = 0;
    let step = 0;
    do {
      step = await this.#catalog.events.prune(before, eventPruneMax);
      pruned += step;
    } while (step > 0 && !this.#closed);
    let deliveries = 0;
    do {
      step = await this.#catalog.webhookDeliveries.pruneDeliveries(before, eventPruneMax);
      deliveries += step;
    } while (step > 0 && !this.#closed);
    if (pruned + deliveries > 0) this.#log.info({ pruned, deliveries, before }, 'events pruned');
  }
}
