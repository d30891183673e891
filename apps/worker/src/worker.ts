// The worker: takes runs from the queue and drives them, fills the queue from the catalog, and watches the
// storage nodes. Any number of workers may share one catalog and queue.
import { Catalog } from '@tidemark/catalog';
import {
  type FleetKeys,
  type HostPort,
  type PassPoint,
  QUEUE_NAME,
  type RunPayload,
  runPayloadSchema,
  WebhookSecrets,
} from '@tidemark/proto';
import { createQueueWorker } from '@tidemark/proto/queue-connection';
import { UnrecoverableError } from 'bullmq';
import type { Logger } from 'pino';
import { auditLogPruner } from './audit-log-pruner.ts';
import { AuditScheduler } from './audit-scheduler.ts';
import { Dispatcher } from './dispatcher.ts';
import { WorkerStopping } from './errors.ts';
import { eventPruner } from './event-pruner.ts';
import { checkLimits, WORKER_LIMITS, type WorkerLimits } from './limits.ts';
import { WorkerMetrics } from './metrics.ts';
import { Policies } from './policies/policies.ts';
import type { Pruner } from './pruner.ts';
import { ReconcileSchedule } from './reconcile/reconcile-schedule.ts';
import { ReplicationScheduler } from './replication-scheduler.ts';
import { RunExecutor } from './run-executor.ts';
import { runPruner } from './run-pruner.ts';
import { StorageMonitor } from './storage-monitor.ts';
import { StorageNodes } from './storage-nodes.ts';
import { VerifyScheduler } from './verify-scheduler.ts';
import { WebhookSender } from './webhooks/webhook-sender.ts';

/** The keys are what storage nodes ask of those who command them. */
export interface WorkerOptions extends FleetKeys {
  readonly databaseUrl: string;
  /** redis:// or postgres:// */
  readonly queueUrl: string;
  /** Seal secrets of webhooks: the one in use first, then those from before. */
  readonly webhookKeys?: readonly string[];
  /** Runs worked on at the same time. */
  readonly concurrency: number;
  /** Unlike that of any other worker, and of an earlier life of this one. */
  readonly owner: string;
  readonly log: Logger;
  readonly limits?: Partial<WorkerLimits>;
  /** Names of differences that are only reported, also where their repair is safe. */
  readonly reportOnly?: readonly string[];
  /** Where metrics are shown; nowhere unless told. Those of the runtime a process has once. */
  readonly metrics?: { readonly listen: HostPort | undefined; readonly runtime: boolean } | undefined;
  /** Told between any two durable steps of a run. */
  readonly pass?: PassPoint | undefined;
  /** Milliseconds of the clock that schedules go by. */
  readonly now?: () => number;
}

/**
 * An idle worker asks again this often. One that comes wakes a worker at once, but it may be one that has
 * frozen and takes nothing.
 */
const DRAIN_DELAY_S = 1;

/**
 * A worker that died between taking a queue job and claiming its run holds no lease that could run out: the queue has
 * to notice by itself, and as soon. A job that is taken for lost and is not finds its run claimed.
 */
function stalls({ leaseMs }: WorkerLimits): { lockDuration: number; stalledInterval: number } {
  return { lockDuration: leaseMs, stalledInterval: Math.ceil(leaseMs / 3) };
}

export class RunWorker {
  readonly #options: WorkerOptions;
  readonly #limits: WorkerLimits;
  readonly #catalog: Catalog;
  readonly #storageNodes: StorageNodes;
  readonly #executor: RunExecutor;
  readonly #dispatcher: Dispatcher;
  readonly #monitor: StorageMonitor;
  readonly #audits: AuditScheduler;
  readonly #verifications: VerifyScheduler;
  readonly #replications: ReplicationScheduler;
  readonly #eventPruner: Pruner;
  readonly #runPruner: Pruner;
  readonly #auditLogPruner: Pruner;
  readonly #webhooks: WebhookSender;
  readonly #policies: Policies;
  readonly #metrics: WorkerMetrics;
  readonly #stop = new AbortController();
  #queueWorker: ReturnType<typeof createQueueWorker<RunPayload>> | undefined;

  constructor(options: WorkerOptions) {
    const limits = { ...WORKER_LIMITS, ...options.limits };
    checkLimits(limits);
    const { log, owner, now = () => Date.now() } = options;
    this.#options = options;
    this.#limits = limits;
    // Each run at work may hold one connection; the dispatcher, the monitor and renewals share the rest.
    const catalog = Catalog.connect(options.databaseUrl, {
      connectionsMax: Math.min(options.concurrency, 8) + 4,
      clock: () => new Date(now()),
    });
    const storageNodes = new StorageNodes(catalog, options);
    this.#catalog = catalog;
    this.#storageNodes = storageNodes;
    const { pass } = options;
    const reportOnly = new Set(options.reportOnly);
    const metrics = new WorkerMetrics({ catalog, log, now, runtime: options.metrics?.runtime === true });
    this.#metrics = metrics;
    const told = { owner, log, pass, observer: metrics };
    this.#executor = new RunExecutor({ catalog, storageNodes, limits, reportOnly }, told);
    const queue = { url: options.queueUrl };
    this.#dispatcher = new Dispatcher({ catalog, queue, limits, log: log.child({ part: 'dispatcher' }) });
    this.#audits = new AuditScheduler({ catalog, limits, log: log.child({ part: 'audit-scheduler' }), now });
    this.#monitor = new StorageMonitor({
      catalog,
      storageNodes,
      limits,
      schedule: new ReconcileSchedule({ catalog, limits }),
      log: log.child({ part: 'storage-monitor' }),
    });
    this.#eventPruner = eventPruner({ catalog, limits, log: log.child({ part: 'event-pruner' }), now });
    this.#runPruner = runPruner({ catalog, limits, log: log.child({ part: 'run-pruner' }), now });
    const auditLog = log.child({ part: 'audit-log-pruner' });
    this.#auditLogPruner = auditLogPruner({ catalog, limits, log: auditLog, now });
    this.#webhooks = new WebhookSender({
      ...{ catalog, owner, now, databaseUrl: options.databaseUrl },
      log: log.child({ part: 'webhook-sender' }),
      ...{ random: Math.random, observer: metrics },
      secrets: new WebhookSecrets(options.webhookKeys ?? []),
    });
    const parts = { catalog, storageNodes, queue, limits, now };
    this.#policies = new Policies({ ...parts, log: log.child({ part: 'policies' }) });
    const replicationLog = log.child({ part: 'replication-scheduler' });
    this.#replications = new ReplicationScheduler({ catalog, limits, now, log: replicationLog });
    this.#verifications = new VerifyScheduler({
      catalog,
      limits,
      log: log.child({ part: 'verify-scheduler' }),
      now,
    });
  }

  /** Resolves when runs are taken. Rejects when the catalog or the queue does not answer. */
  async start(): Promise<void> {
    await this.#catalog.ping();
    const { concurrency, queueUrl, log } = this.#options;
    const worker = createQueueWorker<RunPayload>(
      QUEUE_NAME,
      job => this.#process(job.data),
      { url: queueUrl },
      { concurrency, drainDelay: DRAIN_DELAY_S, ...stalls(this.#limits) },
    );
    worker.on('error', error => log.warn({ err: error }, 'queue connection failed'));
    this.#queueWorker = worker;
    await worker.waitUntilReady();
    await this.#policies.start();
    this.#dispatcher.start();
    this.#monitor.start();
    this.#audits.start();
    this.#verifications.start();
    this.#replications.start();
    this.#eventPruner.start();
    this.#runPruner.start();
    this.#auditLogPruner.start();
    this.#webhooks.start();
    const listen = this.#options.metrics?.listen;
    if (listen !== undefined) await this.#metrics.listen(listen);
  }

  /** host:port at which metrics are shown; undefined where they are not. */
  get metricsAddress(): string | undefined {
    return this.#metrics.address;
  }

  /** Rejects while the catalog does not answer. */
  check(): Promise<void> {
    return this.#catalog.ping();
  }

  /** Hands runs at work to the next worker; resolves when nothing of this one is left. */
  async close(): Promise<void> {
    this.#stop.abort(new WorkerStopping());
    await Promise.all([
      this.#policies.close(),
      this.#dispatcher.close(),
      this.#monitor.close(),
      this.#audits.close(),
      this.#verifications.close(),
      this.#replications.close(),
      this.#eventPruner.close(),
      this.#runPruner.close(),
      this.#auditLogPruner.close(),
      this.#webhooks.close(),
      this.#metrics.close(),
      this.#queueWorker?.close(),
    ]);
    this.#storageNodes.close();
    await this.#catalog.close();
  }

  async #process(data: RunPayload): Promise<string> {
    const payload = runPayloadSchema.safeParse(data);
    if (!payload.success) throw new UnrecoverableError(`Not a run: ${payload.error.message}`);
    const outcome = await this.#executor.execute(payload.data, this.#stop.signal);
    if (outcome === 'failed') throw new UnrecoverableError(`Run ${payload.data.runId} failed.`);
    return outcome;
  }
}
