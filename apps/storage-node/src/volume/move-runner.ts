// The leaving side of a volume that moves to another storage node. A mirror job keeps the target's disk equal to this
// one while the guest goes on; then the volume is sealed: no guest, the last changes and the bitmaps sent, and a record
// that keeps it from being served here, whatever restarts (ADR 0055).
import { type BlockGraph, startMirror } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { openBackupDisk } from '../exports/backup-disk.ts';
import type { JobRecord } from '../host/job-record.ts';
import type { JobRunner } from '../host/job-runner.ts';
import { type ParcelItem, sendBitmaps } from './bitmap-parcel.ts';
import type { Volume } from './volume.ts';
import type { VolumeRegistry } from './volume-registry.ts';

export interface SealAnswer {
  readonly createdAtMs: number;
  readonly checkpoints: readonly ParcelItem[];
}

export class MoveRunner {
  readonly #graph: BlockGraph;
  readonly #volumes: VolumeRegistry;
  readonly #jobs: JobRunner;
  readonly #reconnectMs: number;
  /** By run; of this life of the process. */
  readonly #sealed = new Map<string, SealAnswer>();

  /** @param options.reconnectMs how long a connection to the target that was lost is waited for */
  constructor(options: {
    graph: BlockGraph;
    volumes: VolumeRegistry;
    jobs: JobRunner;
    reconnectMs: number;
  }) {
    this.#graph = options.graph;
    this.#volumes = options.volumes;
    this.#jobs = options.jobs;
    this.#reconnectMs = options.reconnectMs;
  }

  /** Good to repeat while the job is known. Throws `volume-busy`, and what connecting says; nothing is changed then. */
  start(request: {
    runId: string;
    volumeId: string;
    imageUri: string;
    speedBytesPerSecond: number;
  }): Promise<{ jobId: string }> {
    const { runId, volumeId, imageUri, speedBytesPerSecond } = request;
    const jobId = moveJobId(runId);
    return this.#volumes.inTurn(volumeId, async volume => {
      if (this.#jobs.find(jobId) !== undefined) return { jobId };
      volume.beginMove();
      const target = `move-${runId}`;
      try {
        const disk = await this.#connect(imageUri);
        this.#graph.add({ name: target }, () => disk);
        const job = await startMirror({
          ...{ graph: this.#graph, jobs: this.#jobs.registry, clock: this.#jobs.clock },
          ...{ id: jobId, source: volume.node.name, target, sync: 'full', speedBytesPerSecond },
        });
        this.#jobs.adopt(job, async () => {
          volume.use.isMoving = false;
          await this.#graph.remove(target);
        });
        return { jobId };
      } catch (error) {
        volume.use.isMoving = false;
        if (this.#graph.has(target)) await this.#graph.remove(target);
        throw error;
      }
    });
  }

  /**
   * Good to repeat by the run that sealed it. Throws `job-not-found`, `job-state` where the copy is not ready, and what
   * the sending says: the guest may come again then.
   */
  seal(request: { runId: string; volumeId: string; bitmapsUri: string }): Promise<SealAnswer> {
    const { runId, volumeId, bitmapsUri } = request;
    return this.#volumes.inTurn(volumeId, async volume => {
      const { sealedBy } = volume.record;
      const known = this.#sealed.get(runId);
      if (sealedBy === runId && known !== undefined) return known;
      if (sealedBy !== undefined && sealedBy !== runId) throw sealedByAnother(volume, sealedBy);
      const disk = await this.#connect(bitmapsUri);
      try {
        const job = sealedBy === undefined ? this.#readyJob(volume, runId) : undefined;
        let checkpoints: ParcelItem[] = [];
        await volume.seal(runId, async () => {
          // Without a job, of an earlier life of the process, the disks are equal: only the bitmaps are sent again.
          if (job !== undefined) await endCopy(job);
          checkpoints = await sendBitmaps(volume, disk);
        });
        const answer = { createdAtMs: volume.record.createdAtMs, checkpoints };
        this.#sealed.set(runId, answer);
        return answer;
      } catch (error) {
        // Also where nobody knows whether the seal is on the disk: what is in memory goes by it, and decides.
        if (volume.record.sealedBy === undefined) await volume.unseal();
        throw error;
      } finally {
        await disk.close();
      }
    });
  }

  /** Another storage node has the volume for good: here it serves nobody any more. Good to repeat. */
  withhold(volumeId: string, runId: string): Promise<void> {
    return this.#volumes.inTurn(volumeId, async volume => {
      if (volume.record.sealedBy === undefined) await volume.seal(runId, async () => {});
    });
  }

  /** Where that run has sealed it, or any where none is named. Good to repeat. */
  unseal(volumeId: string, runId: string | undefined): Promise<void> {
    return this.#volumes.inTurn(volumeId, async volume => {
      const { sealedBy = runId } = volume.record;
      if (runId === undefined || sealedBy === runId) await volume.unseal();
    });
  }

  #readyJob(volume: Volume, runId: string): JobRecord {
    const jobId = moveJobId(runId);
    const record = this.#jobs.get(jobId);
    const { state } = record.snapshot();
    if (!record.isEnded && (state === 'ready' || state === 'standby')) return record;
    const text = `Job '${jobId}' is ${state}, not ready: volume '${volume.record.name}' is not copied. Wait for it.`;
    throw new TidemarkError('job-state', text);
  }

  #connect(uri: string) {
    return openBackupDisk(uri, { readOnly: false, clock: this.#jobs.clock, reconnectMs: this.#reconnectMs });
  }
}

function moveJobId(runId: string): string {
  return `move-${runId}`;
}

/** With the guest gone the copy becomes equal, and the job ends. */
async function endCopy(record: JobRecord): Promise<void> {
  if (record.snapshot().state === 'standby') record.job.resume();
  record.job.cancel({ force: false });
  await record.ended;
  const { error } = record.snapshot();
  if (error !== undefined) throw new TidemarkError(error.code, error.message);
}

function sealedByAnother({ record }: Volume, runId: string): TidemarkError {
  const text = `Volume '${record.name}' was sealed by move-volume run ${runId}. Wait for the end of that run.`;
  return new TidemarkError('volume-busy', text);
}
