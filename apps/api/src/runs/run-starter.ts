// How every run begins: its row, the row of its noun and their events are written at once or not at all;
// afterwards the queue is told, and whether the queue listens decides nothing.
import { randomUUID } from 'node:crypto';
import type { Catalog, CatalogTransaction, Run } from '@tidemark/catalog';
import type { PassPoint } from '@tidemark/proto';
import type { RunQueue } from '../queue/run-queue.ts';
import { type StartedRun, toRunJson } from './run-json.ts';

export class RunStarter {
  readonly #catalog: Catalog;
  readonly #queue: RunQueue;
  readonly #pass: PassPoint | undefined;

  constructor(catalog: Catalog, queue: RunQueue, pass?: PassPoint) {
    this.#catalog = catalog;
    this.#queue = queue;
    this.#pass = pass;
  }

  /**
   * `write` runs in one transaction of the catalog: it checks, writes and returns what it wrote. When it
   * throws, nothing was written.
   */
  async start<Noun extends object>(
    write: (catalog: CatalogTransaction, runId: string) => Promise<Noun & { run: Run }>,
  ): Promise<StartedRun<Omit<Noun, 'run'>>> {
    this.#pass?.('intent begins');
    const { run, ...noun } = await this.#catalog.transaction(catalog => write(catalog, randomUUID()));
    this.#pass?.(`${run.kind} intent written`);
    this.#queue.handOver(run);
    this.#pass?.(`${run.kind} handing over`);
    return { ...noun, run: toRunJson(run) };
  }
}
