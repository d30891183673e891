// How every run begins: its row, the row of its noun and their events are written at once or not at all;
// afterwards the queue is told, and whether the queue listens decides nothing.
import { randomUUID } from 'node:crypto';
import type { Catalog, CatalogTransaction, Run } from '@tidemark/catalog';
import type { RunQueue } from '../queue/run-queue.ts';
import { type StartedRun, toRunJson } from './run-json.ts';

export class RunStarter {
  readonly #catalog: Catalog;
  readonly #queue: RunQueue;

  constructor(catalog: Catalog, queue: RunQueue) {
    this.#catalog = catalog;
    this.#queue = queue;
  }

  /**
   * `write` runs in one transaction of the catalog: it checks, writes and returns what it wrote. When it
   * throws, nothing was written.
   */
  async start<Noun extends object>(
    write: (catalog: CatalogTransaction, runId: string) => Promise<Noun & { run: Run }>,
  ): Promise<StartedRun<Omit<Noun, 'run'>>> {
    const { run, ...noun } = await this.#catalog.transaction(catalog => write(catalog, randomUUID()));
    this.#queue.handOver(run);
    return { ...noun, run: toRunJson(run) };
  }
}
