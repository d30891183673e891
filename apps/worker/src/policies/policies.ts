// The part of the worker that runs policies: the queue that wakes it, the driver of firings, and a rhythm that needs
// no queue.
import type { Catalog } from '@tidemark/catalog';
import type { QueueAddress } from '@tidemark/proto/queue-connection';
import type { Logger } from 'pino';
import type { WorkerLimits } from '../limits.ts';
import { Rhythm } from '../rhythm.ts';
import type { StorageNodes } from '../storage-nodes.ts';
import { Admission } from './admission.ts';
import { BandwidthKeeper } from './bandwidth-keeper.ts';
import { FiringDriver } from './firing-driver.ts';
import { Needs } from './needs.ts';
import { PolicyQueue } from './policy-queue.ts';
import { Replicas } from './replicas.ts';

/** Of each end of the queue, on Postgres: little goes through it. */
const CONNECTIONS_MAX = 2;

export interface PoliciesOptions {
  readonly catalog: Catalog;
  readonly storageNodes: StorageNodes;
  readonly queue: QueueAddress;
  readonly limits: WorkerLimits;
  readonly log: Logger;
  readonly now: () => number;
}

export class Policies {
  readonly #driver: FiringDriver;
  readonly #queue: PolicyQueue;
  readonly #rhythm: Rhythm;

  constructor(options: PoliciesOptions) {
    const { catalog, storageNodes, limits, log, now } = options;
    const needs = new Needs(catalog, storageNodes);
    const admission = new Admission({ catalog, needs, limits, log, now });
    const bandwidth = new BandwidthKeeper({ catalog, now });
    const replicas = new Replicas({ catalog, limits, now });
    this.#driver = new FiringDriver({ catalog, admission, bandwidth, replicas, limits, log, now });
    const onDue = (policyId: string) => this.#driver.due(policyId);
    const queue = { ...options.queue, connectionsMax: CONNECTIONS_MAX };
    this.#queue = new PolicyQueue({ ...options, queue, onDue });
    this.#rhythm = new Rhythm(() => this.#driver.drive(), limits.policyBeatMs, log);
  }

  async start(): Promise<void> {
    await this.#queue.start();
    this.#rhythm.start();
  }

  /** Afterwards nothing of it is under way. */
  async close(): Promise<void> {
    const driving = this.#driver.close();
    await Promise.all([this.#queue.close(), this.#rhythm.close(), driving]);
  }
}
