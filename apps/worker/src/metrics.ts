// The metrics of a worker: what it did itself, counted, and what the catalog says, asked when somebody looks.
import type { Catalog, CatalogCounts, Run, VolumeBackupFacts } from '@tidemark/catalog';
import { type HostPort, type HttpListener, startMetricsServer } from '@tidemark/proto';
import { ProcessMetrics } from '@tidemark/proto/metrics';
import type { Logger } from 'pino';
import {
  METRIC_VOLUMES_MAX,
  METRICS_KEPT_MS,
  QUEUE_WAIT_BUCKETS_SECONDS,
  RUN_BUCKETS_SECONDS,
} from './limits.ts';
import type { Outcome, RunObserver } from './run-executor.ts';

/** Outcomes after which the run has ended, too. */
const ENDS: ReadonlySet<Outcome> = new Set(['succeeded', 'failed', 'cancelled']);

/** The answer to a question, for a while; who asks meanwhile waits for the same. */
class Kept<T> {
  readonly #ask: () => Promise<T>;
  #answer: Promise<T> | undefined;
  #askedAt = Number.NEGATIVE_INFINITY;

  constructor(ask: () => Promise<T>) {
    this.#ask = ask;
  }

  get(): Promise<T> {
    const now = performance.now();
    if (this.#answer === undefined || now - this.#askedAt > METRICS_KEPT_MS) {
      this.#askedAt = now;
      this.#answer = this.#ask();
      this.#answer.catch(() => {
        this.#answer = undefined;
      });
    }
    return this.#answer;
  }
}

export class WorkerMetrics implements RunObserver {
  readonly #metrics: ProcessMetrics;
  readonly #now: () => number;
  readonly #attempts;
  readonly #durations;
  readonly #waits;
  readonly #deliveries;
  #server: HttpListener | undefined;

  constructor(options: { catalog: Catalog; log: Logger; now: () => number; runtime: boolean }) {
    const { catalog, log, now, runtime } = options;
    const metrics = new ProcessMetrics({
      failed: error => log.warn({ err: error }, 'metric not read'),
      runtime,
    });
    this.#metrics = metrics;
    this.#now = now;
    this.#attempts = metrics.counter('tidemark_run_attempts_total');
    this.#durations = metrics.histogram('tidemark_run_duration_seconds', RUN_BUCKETS_SECONDS);
    this.#waits = metrics.histogram('tidemark_run_queue_wait_seconds', QUEUE_WAIT_BUCKETS_SECONDS);
    this.#deliveries = metrics.counter('tidemark_webhook_deliveries_total');
    showCounts(metrics, new Kept(() => catalog.metrics.counts()));
    showVolumes(metrics, new Kept(() => catalog.metrics.volumes(METRIC_VOLUMES_MAX)));
  }

  claimed({ kind, attempt, createdAt }: Run): void {
    if (attempt === 1) this.#waits.observe({ kind }, this.#secondsSince(createdAt));
  }

  ended({ kind, createdAt }: Run, outcome: Outcome): void {
    this.#attempts.inc({ kind, outcome });
    if (ENDS.has(outcome)) this.#durations.observe({ kind, outcome }, this.#secondsSince(createdAt));
  }

  attempted(delivered: boolean): void {
    this.#deliveries.inc({ outcome: delivered ? 'taken' : 'failed' });
  }

  /** Rejects when the address cannot be listened on. */
  async listen(listen: HostPort): Promise<void> {
    this.#server = await startMetricsServer({ listen, text: () => this.#metrics.text() });
  }

  get address(): string | undefined {
    return this.#server?.address;
  }

  async close(): Promise<void> {
    await this.#server?.close();
  }

  /** Of a moment that another clock may have written. */
  #secondsSince(moment: Date): number {
    return Math.max(0, (this.#now() - moment.getTime()) / 1000);
  }
}

function showCounts(metrics: ProcessMetrics, counts: Kept<CatalogCounts>): void {
  metrics.gauge('tidemark_runs', async () =>
    (await counts.get()).runs.map(({ state, count }) => [state, count] as const),
  );
  metrics.gauge('tidemark_schedule_lag_seconds', async () => [[(await counts.get()).scheduleLagSeconds]]);
  metrics.gauge('tidemark_webhook_deliveries_pending', async () => [
    [(await counts.get()).deliveriesPending],
  ]);
}

type Volumes = Kept<{ volumes: VolumeBackupFacts[]; leftOut: number }>;

function showVolumes(metrics: ProcessMetrics, facts: Volumes): void {
  const series = async (value: (volume: VolumeBackupFacts) => number | null) =>
    (await facts.get()).volumes.flatMap(one => {
      const number = value(one);
      return number === null ? [] : [[one.volume, number] as const];
    });
  metrics.gauge('tidemark_volumes', async () => {
    const { volumes } = await facts.get();
    const backedUp = volumes.filter(({ ageSeconds }) => ageSeconds !== null).length;
    return [
      ['yes', backedUp],
      ['no', volumes.length - backedUp],
    ];
  });
  metrics.gauge('tidemark_volumes_left_out', async () => [[(await facts.get()).leftOut]]);
  metrics.gauge('tidemark_volume_last_good_backup_age_seconds', () => series(one => one.ageSeconds));
  metrics.gauge('tidemark_volume_last_good_backup_stored_bytes', () => series(one => one.storedBytes));
  metrics.gauge('tidemark_volume_last_good_backup_sent_bytes', () => series(one => one.sentBytes));
  metrics.gauge('tidemark_volume_last_good_backup_duration_seconds', () =>
    series(one => one.durationSeconds),
  );
}
