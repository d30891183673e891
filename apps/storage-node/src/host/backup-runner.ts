// A backup as this storage node does it: the transaction that is the point in time, the copy to another
// storage node over NBD, and what has to go when that is over.
import {
  addBitmap,
  type BackupAction,
  mergeBitmaps,
  removeBitmap,
  runTransaction,
  startBackup,
  type TransactionAction,
} from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { NbdDriver } from '../exports/nbd-driver.ts';
import { CBW_TIMEOUT_MS, CHECKPOINT_GRANULARITY_BYTES, NBD_CONNECT_TIMEOUT_MS } from '../limits.ts';
import type { JobRecord } from './job-record.ts';
import type { JobRunner } from './job-runner.ts';
import { checkId } from './plain-id.ts';
import type { Volume, VolumeHost } from './volume.ts';
import type { VolumeRegistry } from './volume-registry.ts';

export interface BackupRequest {
  volumeId: string;
  checkpointId: string;
  checkpointName: string;
  /** Empty: the whole disk. */
  baseCheckpointId: string;
  targetUri: string;
  speedBytesPerSecond: number;
}

export interface BackupAnswer {
  jobId: string;
  pointInTimeMs: number;
  dirtyBytes: number;
}

export class BackupRunner {
  readonly #graph: VolumeHost['graph'];
  readonly #volumes: VolumeRegistry;
  readonly #jobs: JobRunner;
  readonly #answers = new WeakMap<JobRecord, BackupAnswer>();

  constructor(options: { graph: VolumeHost['graph']; volumes: VolumeRegistry; jobs: JobRunner }) {
    this.#graph = options.graph;
    this.#volumes = options.volumes;
    this.#jobs = options.jobs;
  }

  /**
   * Resolves after the point in time, with the job running; a repeated request for the same checkpoint is
   * answered as before while its job is known, and with `job-interrupted` once it is not. Rejects with
   * `checkpoint-not-found`, `checkpoint-inconsistent`, `checkpoint-name-taken`, `volume-not-found` or what
   * the target says, with nothing changed.
   */
  start(request: BackupRequest): Promise<BackupAnswer> {
    checkId(request.checkpointId, 'checkpoint');
    return this.#volumes.inTurn(request.volumeId, async volume => {
      const again = this.#answerAgain(volume, request);
      if (again !== undefined) return again;
      const target = `target-${request.checkpointId}`;
      const base = request.baseCheckpointId === '' ? [] : volume.chain.namesFrom(request.baseCheckpointId);
      await this.#addTarget(target, request.targetUri, volume);
      try {
        return await this.#begin(volume, request, { target, base });
      } catch (error) {
        await this.#graph.remove(target).catch(() => undefined);
        throw error;
      }
    });
  }

  async #begin(
    volume: Volume,
    request: BackupRequest,
    { target, base }: { target: string; base: readonly string[] },
  ): Promise<BackupAnswer> {
    const { node } = volume;
    const createdAtMs = this.#jobs.clock.wallMs();
    const scratch = { node: node.name, name: `scratch-${request.checkpointId}` };
    const incremental = base.length > 0;
    const bitmaps: TransactionAction[] = incremental
      ? [
          addBitmap({ ...scratch, granularityBytes: CHECKPOINT_GRANULARITY_BYTES, recording: false }),
          mergeBitmaps(
            scratch,
            base.map(name => ({ node: node.name, name })),
          ),
        ]
      : [];
    const backup = this.#action(volume, request, { target, scratch: incremental ? scratch.name : undefined });
    const dropScratch = async () => {
      if (incremental) await runTransaction(this.#graph, [removeBitmap(scratch)]);
    };
    await volume.addCheckpoint(
      {
        checkpointId: request.checkpointId,
        name: request.checkpointName,
        createdAtMs,
        granularityBytes: CHECKPOINT_GRANULARITY_BYTES,
      },
      {
        actions: [...bitmaps, backup],
        undo: async () => {
          backup.job!.cancelInternally();
          await backup.job!.concluded;
          await dropScratch();
        },
      },
    );
    const job = backup.job!;
    const record = this.#jobs.adopt(job, async succeeded => {
      await dropScratch();
      const closing = this.#graph.remove(target);
      // The job flushed the target before it succeeded; after a failure the connection may be gone already.
      await closing.catch(() => undefined);
      if (!succeeded) throw asRepositoryFull(job.error);
    });
    const dirtyBytes = job.progress().totalBytes;
    const answer = { jobId: job.id, pointInTimeMs: createdAtMs, dirtyBytes };
    this.#answers.set(record, answer);
    return answer;
  }

  #answerAgain(volume: Volume, { checkpointId }: BackupRequest): BackupAnswer | undefined {
    const record = this.#jobs.find(jobIdOf(checkpointId));
    const answer = record && this.#answers.get(record);
    if (answer !== undefined) return answer;
    if (!volume.chain.has(checkpointId)) return undefined;
    throw new TidemarkError(
      'job-interrupted',
      `The backup of volume '${volume.record.name}' for checkpoint ${checkpointId} ended with its storage node. ` +
        'Delete the checkpoint and back up again.',
    );
  }

  #action(
    volume: Volume,
    request: BackupRequest,
    names: { target: string; scratch: string | undefined },
  ): BackupAction {
    return startBackup({
      id: jobIdOf(request.checkpointId),
      clock: this.#jobs.clock,
      jobs: this.#jobs.registry,
      source: volume.node.name,
      target: names.target,
      speedBytesPerSecond: request.speedBytesPerSecond,
      // The repository is on another host: it must not be able to hold up or fail the guest's writes.
      onCbwError: 'break-snapshot',
      cbwTimeoutMs: CBW_TIMEOUT_MS,
      targetIsZero: names.scratch === undefined,
      ...(names.scratch === undefined ? {} : { bitmap: names.scratch, bitmapMode: 'never' as const }),
    });
  }

  async #addTarget(name: string, uri: string, volume: Volume): Promise<void> {
    const signal = AbortSignal.timeout(NBD_CONNECT_TIMEOUT_MS);
    const driver = await NbdDriver.open(uri, { readOnly: false, signal });
    if (driver.sizeBytes !== volume.record.sizeBytes) {
      await driver.close();
      throw new TidemarkError(
        'invalid-request',
        `Target ${uri} has ${driver.sizeBytes} bytes and volume '${volume.record.name}' has ` +
          `${volume.record.sizeBytes}: prepare a target of the volume's size.`,
      );
    }
    try {
      this.#graph.add({ name }, () => driver);
    } catch (error) {
      await driver.close();
      throw error;
    }
  }
}

function jobIdOf(checkpointId: string): string {
  return `backup-${checkpointId}`;
}

/** On a backup's target "no space" means the repository, on this or another host, not this disk. */
function asRepositoryFull(error: BackupError): unknown {
  if (!isNoSpace(error)) return error;
  const text =
    `The repository has no room left: ${error!.message}. ` +
    'Free space there or raise its limit, then back up again.';
  return new TidemarkError('repository-full', text, error);
}

type BackupError = NonNullable<BackupAction['job']>['error'];

function isNoSpace(error: BackupError): boolean {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if ((cause as { context?: { errno?: string } }).context?.errno === 'ENOSPC') return true;
  }
  return false;
}
