// The producer's end of the queue. Losing it costs nothing but time: a run that could not be handed over
// stays in the catalog, and the worker's dispatcher hands it over later.
import { setTimeout as sleep } from 'node:timers/promises';
import { QUEUE_NAME, type RunPayload, runJobId } from '@tidemark/proto';
import { createQueue } from '@tidemark/proto/queue-connection';
import type { Queue } from 'bullmq';
import type { FastifyBaseLogger } from 'fastify';
import { HAND_OVERS_MAX, QUEUE_ANSWER_MAX_MS, QUEUE_CONNECTIONS_MAX, QUEUE_REOPEN_MS } from '../limits.ts';

export interface RunQueueOptions {
  readonly url: string;
  readonly log: FastifyBaseLogger;
}

/** Late is not broken: the connection may still come up, and its own time limit ends it otherwise. */
class QueueLate extends Error {}

async function within<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  const timer = new AbortController();
  const late = sleep(timeoutMs, undefined, { signal: timer.signal }).then(() => {
    throw new QueueLate(`the queue did not answer within ${timeoutMs} ms`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([work, late]);
  } finally {
    timer.abort();
    work.catch(() => {});
  }
}

export class RunQueue {
  readonly #url: string;
  readonly #log: FastifyBaseLogger;
  readonly #handOvers = new Set<Promise<void>>();
  #queue: Queue<RunPayload> | null = null;
  #reopenAt = 0;
  #lastFault = '';
  #closed = false;

  constructor({ url, log }: RunQueueOptions) {
    this.#url = url;
    this.#log = log;
  }

  /** Returns at once and never fails; what the queue does not take is the dispatcher's. */
  handOver(run: { id: string; attempt: number }): void {
    if (this.#closed || this.#handOvers.size >= HAND_OVERS_MAX) return;
    const handOver = this.#add({ runId: run.id, attempt: run.attempt })
      .then(() => this.#log.debug({ runId: run.id, attempt: run.attempt }, 'run handed to the queue'))
      .catch(error => this.#log.warn({ err: error, runId: run.id }, 'run not handed over'))
      .finally(() => this.#handOvers.delete(handOver));
    this.#handOvers.add(handOver);
  }

  /** Rejects when the queue does not answer in time. */
  async ping(): Promise<void> {
    await this.#use(queue => queue.getWaitingCount());
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#handOvers);
    await this.#drop();
  }

  async #add(payload: RunPayload): Promise<void> {
    await this.#use(queue => queue.add('run', payload, { jobId: runJobId(payload) }));
  }

  async #use(work: (queue: Queue<RunPayload>) => Promise<unknown>): Promise<void> {
    const queue = this.#open();
    try {
      await within(
        queue.waitUntilReady().then(() => work(queue)),
        QUEUE_ANSWER_MAX_MS,
      );
      this.#lastFault = '';
    } catch (error) {
      // On Postgres a failed first connection stays failed, so the next use starts with a new queue.
      if (this.#queue === queue && !(error instanceof QueueLate)) {
        this.#reopenAt = performance.now() + QUEUE_REOPEN_MS;
        await this.#drop();
      }
      throw error;
    }
  }

  #open(): Queue<RunPayload> {
    if (this.#queue) return this.#queue;
    if (this.#closed || performance.now() < this.#reopenAt) throw new Error('the queue does not answer');
    const queue = createQueue<RunPayload>(QUEUE_NAME, {
      url: this.#url,
      connectionsMax: QUEUE_CONNECTIONS_MAX,
    });
    queue.on('error', error => this.#report(error));
    this.#queue = queue;
    return queue;
  }

  async #drop(): Promise<void> {
    const queue = this.#queue;
    this.#queue = null;
    // A queue that never connected may not close in time; nothing depends on it any more.
    if (queue) await within(queue.close(), QUEUE_ANSWER_MAX_MS).catch(() => queue.disconnect());
  }

  /** A connection that is away repeats its error with every try: it is logged when it changes. */
  #report(error: Error): void {
    if (error.message === this.#lastFault) return;
    this.#lastFault = error.message;
    this.#log.warn({ err: error }, 'queue unreachable');
  }
}
