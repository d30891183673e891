// Bitmap audits: what a volume's bitmaps call unchanged since a checkpoint is read from a frozen moment, and compared
// with the checksums of that checkpoint's backup. Only the sample is kept from being overwritten meanwhile, so that
// guests hardly notice.
import {
  type Bitmap,
  type BlockGraph,
  PERMISSION,
  PERMISSIONS_ALL,
  type TaskControl,
  TaskJob,
} from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { NbdDriver } from '../exports/nbd-driver.ts';
import type { JobRunner } from '../host/job-runner.ts';
import { NBD_CONNECT_TIMEOUT_MS } from '../limits.ts';
import { JobDamage } from '../restore/job-damage.ts';
import { agreesAsync, CLUSTER_BYTES, isNothing, RECORD_BYTES, recordsOf } from '../sums/sums-format.ts';
import { SumsReader } from '../sums/sums-reader.ts';
import type { Volume } from '../volume/volume.ts';
import type { VolumeRegistry } from '../volume/volume-registry.ts';
import { chooseSample, inClusters, leaveOut } from './audit-sample.ts';
import type { Moment } from './moment.ts';
import type { Moments } from './moments.ts';

export interface AuditRequest {
  readonly runId: string;
  readonly volumeId: string;
  readonly baseCheckpointId: string;
  readonly sumsUri: string;
  /** 0: all that is clean. */
  readonly sampleBytes: number;
  readonly seed: number;
}

export interface AuditAnswer {
  readonly jobId: string;
  readonly cleanBytes: number;
}

/** Runs of clusters kept one by one; a sample of more is kept with all of the disk. */
const KEPT_AREAS_MAX = 65_536;

export class AuditRunner {
  readonly #graph: BlockGraph;
  readonly #volumes: VolumeRegistry;
  readonly #jobs: JobRunner;
  readonly #moments: Moments;
  readonly #answers = new Map<string, AuditAnswer>();

  constructor(options: { graph: BlockGraph; volumes: VolumeRegistry; jobs: JobRunner; moments: Moments }) {
    this.#graph = options.graph;
    this.#volumes = options.volumes;
    this.#jobs = options.jobs;
    this.#moments = options.moments;
  }

  /**
   * Good to repeat by the same run while its job is known. Rejects with `volume-not-found`, `checkpoint-not-found`,
   * `checkpoint-inconsistent`, and with what the checksums' host says, with nothing left behind. The job ends with
   * `audit-failed` at the first cluster that differs.
   */
  start(request: AuditRequest): Promise<AuditAnswer> {
    const jobId = `audit-${request.runId}`;
    return this.#volumes.inTurn(request.volumeId, async volume => {
      const known = this.#jobs.find(jobId) && this.#answers.get(jobId);
      if (known !== undefined) return known;
      const answer = await this.#begin(jobId, volume, request);
      for (const old of this.#answers.keys()) if (!this.#jobs.find(old)) this.#answers.delete(old);
      this.#answers.set(jobId, answer);
      return answer;
    });
  }

  async #begin(jobId: string, volume: Volume, request: AuditRequest): Promise<AuditAnswer> {
    const { baseCheckpointId, sumsUri, runId } = request;
    volume.chain.namesFrom(baseCheckpointId);
    const signal = AbortSignal.timeout(NBD_CONNECT_TIMEOUT_MS);
    const sums = await NbdDriver.open(sumsUri, { readOnly: true, signal });
    try {
      const sample = chooseSample(inClusters(volume.chain.changedSince(baseCheckpointId)), request);
      const moment = await this.#freeze(volume, request, sample);
      const dirty = inClusters(moment.changes.get(baseCheckpointId)!);
      // What was written since the sample was chosen has been changed rightly.
      leaveOut(sample, dirty);
      const { sizeBytes } = volume.record;
      const known = Math.min(recordsOf(sizeBytes), Math.floor(sums.sizeBytes / RECORD_BYTES));
      this.#startJob(jobId, { volume, moment, sample, sums, records: new SumsReader(sums, known) });
      return { jobId, cleanBytes: Math.max(0, sizeBytes - dirty.dirtyBytes) };
    } catch (error) {
      await this.#moments.release(runId);
      await sums.close();
      throw error;
    }
  }

  /** Keeps the sample alone, where that is not too many pieces. */
  #freeze(volume: Volume, request: AuditRequest, sample: Bitmap): Promise<Moment> {
    const { runId: momentId, baseCheckpointId } = request;
    const some = sample.dirtyGranules <= KEPT_AREAS_MAX;
    const kept = some ? { baseNames: [], also: [...sample.dirtyAreas()] } : {};
    const changesSince = [baseCheckpointId];
    return this.#moments.freeze(volume, { momentId, kind: 'audit', changesSince, ...kept });
  }

  #startJob(id: string, audit: Omit<Audit, 'graph' | 'damage'> & { sums: NbdDriver }): void {
    const { moment, volume, sums } = audit;
    const damage = new JobDamage();
    const job = new TaskJob({
      id,
      type: 'audit',
      clock: this.#jobs.clock,
      work: control => compare({ ...audit, graph: this.#graph, damage }, control),
    });
    this.#jobs.registry.add(job);
    job.start();
    moment.usedUntil(async () => {
      job.cancelInternally();
      await job.concluded;
    });
    const after = async (succeeded: boolean) => {
      const { broken } = moment;
      await this.#moments.release(moment.momentId);
      await sums.close();
      if (!succeeded && broken !== undefined) moment.assertWhole();
      if (succeeded && damage.bytes > 0) throw auditFailed(volume, damage);
    };
    this.#jobs.adopt(job, after, damage);
  }
}

interface Audit {
  readonly graph: BlockGraph;
  readonly volume: Volume;
  readonly moment: Moment;
  readonly sample: Bitmap;
  readonly records: SumsReader;
  readonly damage: JobDamage;
}

/** Ends at the first difference, which is in the damage then. */
async function compare(
  { graph, moment, sample, records, damage }: Audit,
  control: TaskControl,
): Promise<void> {
  const disk = graph.attach(moment.snapshotNode, {
    user: `audit '${moment.momentId}'`,
    uses: PERMISSION.consistentRead,
    shares: PERMISSIONS_ALL,
  });
  const buffer = Buffer.allocUnsafe(CLUSTER_BYTES);
  try {
    control.progress.totalBytes = sample.dirtyBytes;
    for (const area of sample.dirtyAreas()) {
      for (let at = area.offset; at < area.offset + area.length; at += CLUSTER_BYTES) {
        const index = at / CLUSTER_BYTES;
        if (index >= records.count) break;
        const bytes = buffer.subarray(0, Math.min(CLUSTER_BYTES, disk.sizeBytes - at));
        const record = await records.records(index, 1);
        await disk.read(at, bytes);
        control.progress.currentBytes += bytes.length;
        // Of a cluster that no backup of the chain has a checksum of nothing can be said.
        if (!isNothing(record) && !(await agreesAsync(record, bytes))) {
          damage.add(at, bytes.length);
          return;
        }
        await control.pace(bytes.length);
      }
    }
    control.progress.currentBytes = control.progress.totalBytes;
  } finally {
    await disk.close();
  }
}

function auditFailed({ record }: Volume, { ranges }: JobDamage): TidemarkError {
  const [first] = ranges;
  return new TidemarkError(
    'audit-failed',
    `By the bitmaps of volume '${record.name}' nothing was written at ${first!.offset} since the checkpoint, and yet ` +
      'its backup has other data there. Increments since then may miss changes: make a full backup.',
  );
}
