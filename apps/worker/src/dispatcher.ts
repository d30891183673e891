// Hands runs to the queue that have no queue job: those written while the queue was away, those that waited
// for another attempt, those whose worker died, and after the queue was lost all that wait.
import type { Catalog } from '@tidemark/catalog';
import { QUEUE_NAME, type RunPayload, runJobId } from '@tidemark/proto';
import { createQueue, type QueueAddress } from '@tidemark/proto/queue-connection';
import type { Logger } from 'pino';
import { ClockWatch } from './clock-watch.ts';
import type { WorkerLimits } from './limits.ts';
import { Rhythm } from './rhythm.ts';

type RunQueue = ReturnType<typeof createQueue<RunPayload>>;

/** Adding one queue job takes milliseconds; a queue that takes this long is away. */
const ADD_TIMEOUT_MS = 10_000;

export class Dispatcher {
  readonly #catalog: Catalog;
  readonly #address: QueueAddress;
  readonly #limits: WorkerLimits;
  readonly #log: Logger;
  readonly #rhythm: Rhythm;
  readonly #clock: ClockWatch;
  #queue: RunQueue | null = null;

  constructor(options: { catalog: Catalog; queue: QueueAddress; limits: WorkerLimits; log: Logger }) {
    this.#catalog = options.catalog;
    this.#address = options.queue;
    this.#limits = options.limits;
    this.#log = options.log;
    this.#clock = new ClockWatch({ settleMs: options.limits.leaseMs });
    this.#rhythm = new Rhythm(() => this.#dispatch(), options.limits.dispatchMs, options.log);
  }

  start(): void {
    this.#rhythm.start();
  }

  async close(): Promise<void> {
    await this.#rhythm.close();
    await this.#dropQueue();
  }

  async #dispatch(): Promise<void> {
    await this.#takeOver();
    const runs = await this.#catalog.runs.listDispatchable(this.#limits.dispatchMax);
    if (runs.length === 0) return;
    this.#queue ??= this.#openQueue();
    const jobs = runs.map(({ id, attempt, priority }) => {
      const payload = { runId: id, attempt };
      return { name: 'run', data: payload, opts: { jobId: runJobId(payload), priority } };
    });
    try {
      // Those that the queue has already are left as they are.
      await withTimeout(this.#queue.addBulk(jobs), ADD_TIMEOUT_MS);
    } catch (error) {
      // On Postgres a queue whose first connection failed stays broken.
      await this.#dropQueue();
      throw error;
    }
  }

  async #takeOver(): Promise<void> {
    const { runs } = this.#catalog;
    const moment = { wallMs: (await runs.databaseTime()).getTime(), monotonicMs: performance.now() };
    if (!this.#clock.isSteady(moment)) return;
    for (const { id, attempt } of await runs.takeOverExpired()) {
      this.#log.warn({ runId: id, attempt }, 'run taken over from a worker that went silent');
    }
  }

  #openQueue(): RunQueue {
    const queue = createQueue<RunPayload>(QUEUE_NAME, this.#address);
    queue.on('error', error => this.#log.warn({ err: error }, 'queue connection failed'));
    return queue;
  }

  async #dropQueue(): Promise<void> {
    const queue = this.#queue;
    this.#queue = null;
    await queue?.close().catch(error => this.#log.debug({ err: error }, 'queue not closed cleanly'));
  }
}

async function withTimeout<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new Error(`The queue did not answer within ${timeoutMs} ms.`)),
      timeoutMs,
    );
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
