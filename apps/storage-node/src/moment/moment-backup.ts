// The copies of one backup's frozen moment: one after the other, until one has succeeded. What a copy that failed
// has left at a target that is still there is not copied again.
import { type Bitmap, type BlockGraph, type JobProgress, MomentJob } from '@tidemark/engine';
import type { JobRecord } from '../host/job-record.ts';
import type { JobRunner } from '../host/job-runner.ts';
import type { RunOfRecords } from '../sums/sums-writer.ts';
import type { Volume } from '../volume/volume.ts';
import { explainEnd } from './backup-errors.ts';
import { BackupTarget } from './backup-target.ts';
import type { Moment } from './moment.ts';

export interface CopyPlace {
  readonly targetUri: string;
  /** Empty: no checksums are kept. */
  readonly sumsUri: string;
  readonly speedBytesPerSecond: number;
}

export interface MomentBackupHost {
  readonly graph: BlockGraph;
  readonly jobs: JobRunner;
  readonly targetReconnectMs: number;
}

interface Copy {
  readonly targetUri: string;
  readonly record: JobRecord;
  readonly job: MomentJob;
}

interface Rest {
  readonly targetUri: string;
  readonly bits: Bitmap;
  /** Where that is nothing, it reads as zeroes. */
  readonly targetIsZero: boolean;
  readonly sums: readonly RunOfRecords[];
  /** Of the copies so far. */
  readonly done: JobProgress;
}

export class MomentBackup {
  readonly moment: Moment;
  readonly #host: MomentBackupHost;
  readonly #volume: Volume;
  readonly #release: () => Promise<void>;
  #copies = 0;
  #last: Copy | undefined;
  /** Of a copy that failed: what has to be done for the same target to have all. */
  #rest: Rest | undefined;
  #isReplaced = false;

  /** `release` gives up the moment. */
  constructor(
    host: MomentBackupHost,
    parts: { volume: Volume; moment: Moment; release: () => Promise<void> },
  ) {
    this.#host = host;
    this.#volume = parts.volume;
    this.moment = parts.moment;
    this.#release = parts.release;
    this.moment.usedUntil(() => this.#endCopy());
    this.moment.onBroken(() => {
      // Its end is the job's to see to, where there is one.
      if (this.#isUnderWay) this.#last!.job.giveUp();
      else this.moment.releaseSoon();
    });
  }

  /**
   * Begins a copy, or goes on with the one to that target which is under way or has succeeded. Rejects with
   * `moment-lost`, and with what the target says.
   */
  async copyTo(place: CopyPlace): Promise<JobRecord> {
    const known = this.#last;
    if (known?.targetUri === place.targetUri && !hasFailed(known.record)) return known.record;
    if (known !== undefined && !known.record.isEnded) {
      this.#isReplaced = true;
      known.job.cancelInternally();
      await known.record.ended;
      this.#isReplaced = false;
    }
    this.moment.assertWhole();
    return this.copyInto(await this.#open(place), place);
  }

  /** Begins the copy into a target that is open. Throws, with the target closed, when it cannot begin. */
  async copyInto(target: BackupTarget, place: CopyPlace): Promise<JobRecord> {
    const rest = this.#rest?.targetUri === place.targetUri ? this.#rest : undefined;
    try {
      await target.takeOver(rest?.sums ?? []);
      const isFull = this.moment.bits === undefined;
      const targetIsZero = rest?.targetIsZero ?? (isFull && (await target.readsAsZeroes()));
      // What the target was asked took a while.
      this.moment.assertWhole();
      const copy = { ...place, targetIsZero };
      const job = this.#makeJob(target, copy, rest);
      const record = this.#host.jobs.adopt(job, () => this.#afterCopy(job, target, copy));
      this.#last = { targetUri: place.targetUri, record, job };
      return record;
    } catch (error) {
      await target.close();
      throw error;
    }
  }

  get #isUnderWay(): boolean {
    return this.#last !== undefined && !this.#last.record.isEnded;
  }

  #makeJob(
    target: BackupTarget,
    { speedBytesPerSecond, targetIsZero }: CopyPlace & { targetIsZero: boolean },
    rest: Rest | undefined,
  ): MomentJob {
    const { graph, jobs } = this.#host;
    const { momentId, snapshotNode, bits } = this.moment;
    const id = backupJobId(momentId, ++this.#copies);
    const job = new MomentJob({
      id,
      clock: jobs.clock,
      graph,
      source: snapshotNode,
      target: target.name,
      bits: rest?.bits ?? bits,
      done: rest?.done,
      targetIsZero,
      speedBytesPerSecond,
      broken: () => this.moment.broken,
    });
    jobs.registry.add(job);
    job.start();
    return job;
  }

  async #open({ targetUri, sumsUri }: CopyPlace): Promise<BackupTarget> {
    const { graph, jobs, targetReconnectMs: reconnectMs } = this.#host;
    const { sizeBytes } = this.#volume.record;
    const name = targetName(this.moment.momentId);
    return BackupTarget.open({ graph, clock: jobs.clock, name, targetUri, sumsUri, sizeBytes, reconnectMs });
  }

  async #afterCopy(
    job: MomentJob,
    target: BackupTarget,
    { targetUri, targetIsZero }: CopyPlace & { targetIsZero: boolean },
  ): Promise<void> {
    const { broken } = this.moment;
    const failed = job.error !== undefined;
    if (failed) {
      const [bits, sums, done] = [job.remaining(), target.unwrittenSums(), job.progress()];
      this.#rest = { targetUri, bits, targetIsZero, sums, done };
    }
    await target.close();
    if (!failed) return;
    // Whoever cancels does not come back for it; of a moment that is lost nothing is left to be read.
    if (broken !== undefined) await this.moment.release();
    else if (job.cancelled && !this.#isReplaced) await this.#release();
    throw explainEnd({ job, volumeName: this.#volume.record.name, targetUri, broken });
  }

  /** Not until all that follows the job has ended: that may be what waits for this. */
  async #endCopy(): Promise<void> {
    if (!this.#isUnderWay) return;
    const { job } = this.#last!;
    job.cancelInternally();
    await job.concluded;
  }
}

/** Of the block node. */
export function targetName(momentId: string): string {
  return `target-${momentId}`;
}

/** The first copy has the name by which the backup is known. */
export function backupJobId(checkpointId: string, copy = 1): string {
  return copy === 1 ? `backup-${checkpointId}` : `backup-${checkpointId}-${copy}`;
}

function hasFailed(record: JobRecord): boolean {
  return record.isEnded && record.snapshot().error !== undefined;
}
