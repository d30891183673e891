// The metrics of a storage node. Nothing is kept for them here: who serves guests counts in plain numbers, and they
// are read when somebody looks.
import { type HostPort, type HttpListener, startMetricsServer } from '@tidemark/proto';
import { ProcessMetrics, type Series } from '@tidemark/proto/metrics';
import type { NbdExports } from '../exports/nbd-exports.ts';
import { METRIC_VOLUMES_MAX } from '../limits.ts';
import type { Moments } from '../moment/moments.ts';
import type { VolumeRegistry } from '../volume/volume-registry.ts';
import { diskSpace } from './disk-space.ts';
import type { JobRunner } from './job-runner.ts';

export interface NodeMetricsSources {
  readonly stateFolder: string;
  readonly exports: NbdExports;
  readonly moments: Moments;
  readonly jobs: JobRunner;
  readonly volumes: VolumeRegistry;
}

export class NodeMetrics {
  readonly #metrics: ProcessMetrics;
  readonly #jobsEnded;
  #server: HttpListener | undefined;

  /** `runtime`: with the metrics of process and runtime, which a process has once. */
  constructor(options: { failed: (error: unknown) => void; runtime: boolean }) {
    this.#metrics = new ProcessMetrics(options);
    this.#jobsEnded = this.#metrics.counter('tidemark_jobs_ended_total');
  }

  jobEnded({ type, error }: { type: string; error: unknown }): void {
    this.#jobsEnded.inc({ type, outcome: error === undefined ? 'succeeded' : 'failed' });
  }

  /** Once. */
  show(sources: NodeMetricsSources): void {
    this.#showTraffic(sources.exports);
    this.#showMoments(sources.moments);
    this.#metrics.gauge('tidemark_jobs', () => jobsByState(sources.jobs));
    this.#metrics.gauge('tidemark_volume_dirty_bytes', () => dirtyBytes(sources.volumes));
    const space = () => diskSpace(sources.stateFolder);
    this.#metrics.gauge('tidemark_storage_capacity_bytes', async () => [[(await space()).capacityBytes]]);
    this.#metrics.gauge('tidemark_storage_available_bytes', async () => [[(await space()).availableBytes]]);
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

  #showTraffic(exports: NbdExports): void {
    const { traffic } = exports;
    this.#metrics.counted('tidemark_nbd_requests_total', () => [
      ['read', traffic.readRequests],
      ['write', traffic.writeRequests],
      ['write-zeroes', traffic.writeZeroesRequests],
      ['trim', traffic.trimRequests],
      ['flush', traffic.flushRequests],
      ['cache', traffic.cacheRequests],
      ['block-status', traffic.blockStatusRequests],
    ]);
    this.#metrics.counted('tidemark_nbd_bytes_total', () => [
      ['read', traffic.readBytes],
      ['write', traffic.writeBytes],
      ['write-zeroes', traffic.writeZeroesBytes],
      ['trim', traffic.trimBytes],
    ]);
    this.#metrics.gauge('tidemark_nbd_connections', () => [[exports.clients]]);
  }

  #showMoments(moments: Moments): void {
    const { waits } = moments;
    this.#metrics.gauge('tidemark_moments', () => [[moments.count]]);
    this.#metrics.bucketed('tidemark_copy_before_write_wait_seconds', () => waits);
    const percentile = (share: number): Series[] => {
      const seconds = waits.percentile(share);
      return seconds === undefined ? [] : [[seconds]];
    };
    this.#metrics.gauge('tidemark_copy_before_write_wait_p50_seconds', () => percentile(0.5));
    this.#metrics.gauge('tidemark_copy_before_write_wait_p99_seconds', () => percentile(0.99));
  }
}

function jobsByState(jobs: JobRunner): Series[] {
  const counts = new Map<string, number>();
  for (const { type, state } of jobs.list()) {
    const key = `${type} ${state}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return [...counts].map(([key, count]) => [...(key.split(' ') as [string, string]), count]);
}

/** The bitmap counts its bits: no one is looked at. */
function dirtyBytes(volumes: VolumeRegistry): Series[] {
  return volumes
    .list()
    .slice(0, METRIC_VOLUMES_MAX)
    .flatMap(({ chain, record }): Series[] => {
      const last = chain.last;
      return last === undefined ? [] : [[record.name, chain.bitmap(last.checkpointId).bits.dirtyBytes]];
    });
}
