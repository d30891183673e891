// Backups as this storage node does them: the point in time with its checkpoint, and the copy to another storage
// node. By way of a frozen moment, which can be copied again when a copy fails; or directly, on request.
import { type BlockGraph, ON_CBW_ERROR, type OnCbwError } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import type { JobRecord } from '../host/job-record.ts';
import type { JobRunner } from '../host/job-runner.ts';
import { checkId } from '../host/plain-id.ts';
import { CHECKPOINT_GRANULARITY_BYTES } from '../limits.ts';
import type { Volume } from '../volume/volume.ts';
import type { CheckpointRecord } from '../volume/volume-record.ts';
import type { VolumeRegistry } from '../volume/volume-registry.ts';
import { explainEnd } from './backup-errors.ts';
import { BackupTarget } from './backup-target.ts';
import { startDirectBackup } from './direct-backup.ts';
import type { Moment } from './moment.ts';
import type { DiskRange } from './moment-actions.ts';
import { backupJobId, type CopyPlace, MomentBackup, targetName } from './moment-backup.ts';
import type { Moments } from './moments.ts';

export interface BackupRequest extends CopyPlace {
  readonly volumeId: string;
  readonly checkpointId: string;
  readonly checkpointName: string;
  readonly checkpointDescription: string;
  /** Empty: the whole disk. */
  readonly baseCheckpointId: string;
  readonly direct: boolean;
  /** Empty: break-snapshot. */
  readonly onCbwError: string;
  /** 0: the default. */
  readonly cbwTimeoutMs: number;
  readonly scratchLimitBytes: number;
  readonly also: readonly DiskRange[];
}

export interface BackupAnswer {
  readonly jobId: string;
  readonly pointInTimeMs: number;
  readonly dirtyBytes: number;
  /** Of these: marked only because a crash left it open whether they changed. */
  readonly grownBytes: number;
  readonly continued: boolean;
  /** Where the job copies to. */
  readonly targetUri: string;
}

/** What is known of a backup while its storage node lives. */
interface Known {
  readonly answer: BackupAnswer;
  readonly targetUri: string;
  /** Undefined before the first copy of a moment that a group froze. */
  readonly record: JobRecord | undefined;
  /** Undefined for a direct one. */
  readonly copies: MomentBackup | undefined;
}

export class BackupRunner {
  readonly #graph: BlockGraph;
  readonly #volumes: VolumeRegistry;
  readonly #jobs: JobRunner;
  readonly #moments: Moments;
  readonly #targetReconnectMs: number;
  /** By checkpoint; as long as the job is known, or the moment kept. */
  readonly #known = new Map<string, Known>();

  constructor(options: {
    graph: BlockGraph;
    volumes: VolumeRegistry;
    jobs: JobRunner;
    moments: Moments;
    targetReconnectMs: number;
  }) {
    this.#graph = options.graph;
    this.#volumes = options.volumes;
    this.#jobs = options.jobs;
    this.#moments = options.moments;
    this.#targetReconnectMs = options.targetReconnectMs;
  }

  /**
   * Resolves after the point in time, with the job running; a repeated request for the same checkpoint is
   * answered as before, with the target of then, while its job is known, and with `job-interrupted` once it is not.
   * Rejects with `checkpoint-not-found`, `checkpoint-inconsistent`, `checkpoint-name-taken`, `volume-not-found` or
   * what the target says, with nothing changed.
   */
  start(request: BackupRequest): Promise<BackupAnswer> {
    checkId(request.checkpointId, 'checkpoint');
    const onCbwError = toOnCbwError(request.onCbwError);
    return this.#volumes.inTurn(request.volumeId, async volume => {
      this.#forgetOld();
      const again = this.#answerAgain(volume, request);
      if (again !== undefined) return again;
      const isFull = request.baseCheckpointId === '';
      const baseNames = isFull ? undefined : volume.chain.namesFrom(request.baseCheckpointId);
      const target = await this.#openTarget(volume, request);
      try {
        const grownBytes = isFull ? 0 : volume.chain.grownBytesSince(request.baseCheckpointId);
        const start = { ...request, onCbwError, baseNames, target, grownBytes };
        return await (request.direct ? this.#startDirect(volume, start) : this.#startCopy(volume, start));
      } catch (error) {
        await target.close();
        throw error;
      }
    });
  }

  /**
   * Copies the moment of a backup once more, or tells of the copy to that target which is under way or has
   * succeeded. Rejects with `moment-lost` where it is not whole, and with what the target says.
   */
  continue(request: CopyPlace & { volumeId: string; checkpointId: string }): Promise<BackupAnswer> {
    const { volumeId, checkpointId, targetUri } = request;
    return this.#volumes.inTurn(volumeId, async volume => {
      const known = this.#known.get(checkpointId);
      if (known === undefined) throw momentGone(volume, checkpointId);
      if (known.copies !== undefined) {
        const record = await known.copies.copyTo(request);
        return { ...known.answer, jobId: record.job.id, continued: true, targetUri };
      }
      const failed = known.record?.isEnded && known.record.snapshot().error !== undefined;
      if (failed || known.targetUri !== targetUri) throw momentGone(volume, checkpointId);
      return { ...known.answer, continued: true };
    });
  }

  /** A moment that a group froze is a backup's from here on: `continue` copies it. */
  adopt(volume: Volume, moment: Moment, grown: number): Pick<BackupAnswer, 'dirtyBytes' | 'grownBytes'> {
    const { momentId, pointInTimeMs, bits } = moment;
    const dirtyBytes = bits?.dirtyBytes ?? volume.record.sizeBytes;
    const sizes = { dirtyBytes, grownBytes: Math.min(grown, dirtyBytes) };
    const answer = { ...sizes, jobId: '', pointInTimeMs, continued: true, targetUri: '' };
    const copies = this.#copiesOf(volume, moment);
    this.#forgetOld();
    this.#known.set(momentId, { answer, targetUri: '', record: undefined, copies });
    return sizes;
  }

  /** The job, if one is under way, is cancelled. Good to repeat. */
  async release(momentId: string): Promise<void> {
    await this.#moments.release(momentId);
    const known = this.#known.get(momentId);
    if (known?.copies !== undefined || known?.record?.isEnded) this.#known.delete(momentId);
  }

  async #startCopy(volume: Volume, start: Start): Promise<BackupAnswer> {
    const { checkpointId, target } = start;
    const checkpoint = this.#checkpoint(start);
    const moment = await this.#moments.freeze(volume, {
      ...start,
      momentId: checkpointId,
      kind: 'backup',
      checkpoint,
    });
    try {
      const copies = this.#copiesOf(volume, moment);
      const record = await copies.copyInto(target, start);
      return this.#remember(start, checkpoint, { record, copies });
    } catch (error) {
      await this.#moments.release(checkpointId);
      await volume.deleteCheckpoint(checkpointId);
      throw error;
    }
  }

  #copiesOf(volume: Volume, moment: Moment): MomentBackup {
    const { momentId } = moment;
    const host = { graph: this.#graph, jobs: this.#jobs, targetReconnectMs: this.#targetReconnectMs };
    return new MomentBackup(host, { volume, moment, release: () => this.release(momentId) });
  }

  async #startDirect(volume: Volume, start: Start): Promise<BackupAnswer> {
    const { target, targetUri, checkpointId } = start;
    const checkpoint = this.#checkpoint(start);
    const jobId = backupJobId(checkpointId);
    const { waits } = this.#moments;
    const job = await startDirectBackup(volume, { ...start, jobs: this.#jobs, jobId, checkpoint, waits });
    const record = this.#jobs.adopt(job, async succeeded => {
      await target.close();
      if (!succeeded) throw explainEnd({ job, volumeName: volume.record.name, targetUri });
    });
    return this.#remember(start, checkpoint, { record, copies: undefined });
  }

  #checkpoint(request: Start): CheckpointRecord {
    return {
      checkpointId: request.checkpointId,
      name: request.checkpointName,
      createdAtMs: this.#jobs.clock.wallMs(),
      granularityBytes: CHECKPOINT_GRANULARITY_BYTES,
      description: request.checkpointDescription,
      originBackupId: '',
    };
  }

  #remember(
    { targetUri, grownBytes: grown }: Start,
    { checkpointId, createdAtMs: pointInTimeMs }: CheckpointRecord,
    { record, copies }: { record: JobRecord; copies: MomentBackup | undefined },
  ): BackupAnswer {
    const { id: jobId } = record.job;
    const dirtyBytes = record.job.progress().totalBytes;
    const grownBytes = Math.min(grown, dirtyBytes);
    const answer = { jobId, pointInTimeMs, dirtyBytes, grownBytes, continued: false, targetUri };
    this.#known.set(checkpointId, { answer, targetUri, record, copies });
    return answer;
  }

  #answerAgain(volume: Volume, { checkpointId }: BackupRequest): BackupAnswer | undefined {
    const known = this.#known.get(checkpointId);
    if (known !== undefined) return known.answer;
    if (!volume.chain.has(checkpointId)) return undefined;
    throw new TidemarkError(
      'job-interrupted',
      `The backup of volume '${volume.record.name}' for checkpoint ${checkpointId} ended with its storage node. ` +
        'Delete the checkpoint and back up again.',
    );
  }

  #openTarget(volume: Volume, request: BackupRequest): Promise<BackupTarget> {
    const { targetUri, sumsUri, direct, checkpointId } = request;
    return BackupTarget.open({
      graph: this.#graph,
      clock: this.#jobs.clock,
      name: targetName(checkpointId),
      targetUri,
      sumsUri,
      sizeBytes: volume.record.sizeBytes,
      // Guests wait for a direct target: it is given up first.
      reconnectMs: direct ? 0 : this.#targetReconnectMs,
    });
  }

  /** Jobs are forgotten by themselves; what has no moment is known no longer than they are. */
  #forgetOld(): void {
    for (const [checkpointId, { record, copies }] of this.#known) {
      const hasMoment = copies !== undefined && this.#moments.find(checkpointId) !== undefined;
      const hasJob = record !== undefined && this.#jobs.find(record.job.id) !== undefined;
      if (!hasMoment && !hasJob) this.#known.delete(checkpointId);
    }
  }
}

interface Start extends Omit<BackupRequest, 'onCbwError'> {
  readonly onCbwError: OnCbwError;
  readonly baseNames: readonly string[] | undefined;
  readonly target: BackupTarget;
  /** Since the base. */
  readonly grownBytes: number;
}

export function toOnCbwError(text: string): OnCbwError {
  if (text === '') return 'break-snapshot';
  const found = ON_CBW_ERROR.find(policy => policy === text);
  if (found !== undefined) return found;
  throw new TidemarkError('invalid-request', `on_cbw_error is ${ON_CBW_ERROR.join(' or ')}, not '${text}'.`);
}

function momentGone(volume: Volume, checkpointId: string): TidemarkError {
  return new TidemarkError(
    'moment-lost',
    `The frozen moment of volume '${volume.record.name}' for checkpoint ${checkpointId} is not kept any more. ` +
      'Delete the checkpoint and back up from a new point in time.',
  );
}
