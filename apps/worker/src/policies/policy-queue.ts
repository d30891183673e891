// The queue of policies: a job scheduler for each enabled one wakes a worker when it is due. The queue may be lost: who
// looks finds in the catalog what ought to be there, and puts it back.
import type { Catalog, Policy } from '@tidemark/catalog';
import { Schedule } from '@tidemark/catalog';
import { POLICY_QUEUE_NAME, type PolicyPayload, policyPayloadSchema } from '@tidemark/proto';
import { createQueue, createQueueWorker, type QueueAddress } from '@tidemark/proto/queue-connection';
import type { RepeatOptions } from 'bullmq';
import type { Logger } from 'pino';
import type { WorkerLimits } from '../limits.ts';
import { Rhythm } from '../rhythm.ts';

type Queue = ReturnType<typeof createQueue<PolicyPayload>>;

export interface PolicyQueueOptions {
  readonly catalog: Catalog;
  readonly queue: QueueAddress;
  readonly limits: WorkerLimits;
  readonly log: Logger;
  readonly now: () => number;
  /** The policy is due. */
  readonly onDue: (policyId: string) => Promise<void>;
}

/** What is due is written down in milliseconds; a few at once are plenty. */
const CONCURRENCY = 4;
/** An idle worker asks again this often, should it not have been woken. */
const DRAIN_DELAY_S = 1;
/** Schedulers looked at in one go. */
const SCHEDULERS_MAX = 100_000;

export class PolicyQueue {
  readonly #options: PolicyQueueOptions;
  readonly #rhythm: Rhythm;
  #queue: Queue | null = null;
  #worker: ReturnType<typeof createQueueWorker<PolicyPayload>> | undefined;

  constructor(options: PolicyQueueOptions) {
    this.#options = options;
    this.#rhythm = new Rhythm(() => this.#fill(), options.limits.policySyncMs, options.log);
  }

  async start(): Promise<void> {
    const { queue, log, onDue } = this.#options;
    const worker = createQueueWorker<PolicyPayload>(
      POLICY_QUEUE_NAME,
      async job => {
        const payload = policyPayloadSchema.safeParse(job.data);
        if (payload.success) await onDue(payload.data.policyId);
      },
      queue,
      { concurrency: CONCURRENCY, drainDelay: DRAIN_DELAY_S, settings: this.#settings() },
    );
    worker.on('error', error => log.warn({ err: error }, 'queue connection failed'));
    this.#worker = worker;
    await worker.waitUntilReady();
    this.#rhythm.start();
  }

  async close(): Promise<void> {
    await this.#rhythm.close();
    await Promise.all([this.#worker?.close(), this.#drop()]);
  }

  /** Schedulers of enabled policies as they are now, and no others. */
  async #fill(): Promise<void> {
    const policies = await this.#options.catalog.policies.listEnabled();
    this.#queue ??= this.#open();
    try {
      await this.#bring(this.#queue, policies);
    } catch (error) {
      // On Postgres a queue whose first connection failed stays broken.
      await this.#drop();
      throw error;
    }
  }

  async #bring(queue: Queue, policies: readonly Policy[]): Promise<void> {
    const found = await queue.getJobSchedulers(0, SCHEDULERS_MAX);
    const revisions = new Map(found.map(({ key, template }) => [key, template?.data?.revision]));
    for (const policy of policies) {
      const { id, revision, nextDueAt } = policy;
      const isThere = revisions.get(id) === revision;
      revisions.delete(id);
      if (!isThere && nextDueAt !== null) await this.#put(queue, policy);
    }
    for (const id of revisions.keys()) await queue.removeJobScheduler(id);
  }

  async #put(queue: Queue, { id, revision, definition }: Policy): Promise<void> {
    const { cron: pattern, timeZone: tz } = definition.schedule;
    await queue.upsertJobScheduler(
      id,
      { pattern, tz },
      { name: 'due', data: { policyId: id, revision }, opts: { priority: definition.priority } },
    );
    this.#options.log.debug({ policyId: id, revision }, 'policy scheduled');
  }

  /** Due moments are ours, and not those of the queue: it knows of days on which clocks are set what it likes. */
  #settings() {
    const { now } = this.#options;
    return {
      repeatStrategy: (fromMs: number, { pattern, tz }: RepeatOptions) => {
        const aheadMs = now() - Date.now();
        const from = new Date(Math.max(fromMs, Date.now()) + aheadMs);
        const next = new Schedule({ cron: pattern ?? '', timeZone: tz ?? 'UTC' }).next(from);
        return next === null ? undefined : next.getTime() - aheadMs;
      },
    };
  }

  #open(): Queue {
    const { queue: address, log } = this.#options;
    const queue = createQueue<PolicyPayload>(POLICY_QUEUE_NAME, address, { settings: this.#settings() });
    queue.on('error', error => log.warn({ err: error }, 'queue connection failed'));
    return queue;
  }

  async #drop(): Promise<void> {
    const queue = this.#queue;
    this.#queue = null;
    await queue?.close().catch(error => this.#options.log.debug({ err: error }, 'queue not closed cleanly'));
  }
}
