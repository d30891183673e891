// How every run begins: its row, the row of its noun and their events are written at once or not at all;
// afterwards the queue is told, and whether the queue listens decides nothing.
import { randomUUID } from 'node:crypto';
import type { Catalog, CatalogTransaction, JsonObject, Run } from '@tidemark/catalog';
import type { PassPoint } from '@tidemark/proto';
import type { FastifyBaseLogger } from 'fastify';
import { currentRequest } from '../access/current-request.ts';
import type { RunQueue } from '../queue/run-queue.ts';
import { type StartedRun, toRunJson } from './run-json.ts';

/** A request that is sent again is answered with this, also when this process ends before it has answered. */
function acceptWith({ run, ...noun }: { run: Run }): void {
  const request = currentRequest();
  if (request === undefined) return;
  // As JSON has it: the body is kept as such.
  const body = JSON.parse(JSON.stringify({ ...noun, run: toRunJson(run) })) as JsonObject;
  request.accepted = { body, location: `/v1/runs/${run.id}` };
}

export class RunStarter {
  readonly #catalog: Catalog;
  readonly #queue: RunQueue;
  readonly #log: FastifyBaseLogger;
  readonly #pass: PassPoint | undefined;

  constructor(options: {
    catalog: Catalog;
    queue: RunQueue;
    log: FastifyBaseLogger;
    pass?: PassPoint | undefined;
  }) {
    this.#catalog = options.catalog;
    this.#queue = options.queue;
    this.#log = options.log;
    this.#pass = options.pass;
  }

  /** Tells the queue of a run that is written. */
  handOver(run: Run): void {
    this.#queue.handOver(run);
  }

  /**
   * `write` runs in one transaction of the catalog: it checks, writes and returns what it wrote. When it
   * throws, nothing was written.
   */
  async start<Noun extends object>(
    write: (catalog: CatalogTransaction, runId: string) => Promise<Noun & { run: Run }>,
  ): Promise<StartedRun<Omit<Noun, 'run'>>> {
    this.#pass?.('intent begins');
    const { run, ...noun } = await this.#catalog.transaction(async catalog => {
      const written = await write(catalog, randomUUID());
      acceptWith(written);
      return written;
    });
    this.#pass?.(`${run.kind} intent written`);
    const { id: runId, kind, requestedBy } = run;
    this.#log.info({ runId, kind, requestedBy }, 'run accepted');
    this.#queue.handOver(run);
    this.#pass?.(`${run.kind} handing over`);
    return { ...noun, run: toRunJson(run) };
  }
}
