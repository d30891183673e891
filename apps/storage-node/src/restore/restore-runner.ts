// Restores as this storage node does them: a backup, read over NBD through its chain, is copied to a new volume, to a
// plain file or over a volume; or a new volume reads from it at once, and pulls it behind (stream-runner.ts).
import { type Bitmap, type Job, PERMISSION, PERMISSIONS_ALL, RestoreJob } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import type { JobRunner } from '../host/job-runner.ts';
import { Turns } from '../host/turns.ts';
import { keepDiffering } from '../sums/differing-clusters.ts';
import { recordsOf } from '../sums/sums-format.ts';
import { SumsReader } from '../sums/sums-reader.ts';
import { JobDamage } from './job-damage.ts';
import {
  explainEnd,
  openSource,
  openSums,
  type SourceOptions,
  type SourceRequest,
} from './restore-source.ts';
import {
  checkFileName,
  firstCheckpoint,
  type InPlaceTarget,
  type NewVolumeTarget,
  newFile,
  newVolume,
  overVolume,
  type RestoreTarget,
  type TargetHost,
} from './restore-target.ts';
import { RestoredFiles } from './restored-files.ts';
import { streamJobId } from './stream-runner.ts';

export interface RestoreRequest extends SourceRequest {
  /** Unique among restores; becomes the job's id. */
  restoreId: string;
  /** Of the source's checksums; empty: none. */
  sumsUri: string;
  speedBytesPerSecond: number;
  target:
    | ({ kind: 'volume' } & NewVolumeTarget)
    | ({ kind: 'instant' } & NewVolumeTarget)
    | { kind: 'file'; name: string }
    | ({ kind: 'in-place' } & InPlaceTarget);
}

export interface RestoreAnswer {
  jobId: string;
  filePath: string;
  /** In place: as far as that is known before the copy. */
  differingBytes: number;
}

export class RestoreRunner {
  readonly #host: TargetHost;
  readonly #jobs: JobRunner;
  readonly #reading: SourceOptions;
  readonly #turns = new Turns();

  /** To be undone as soon as they have ended. */
  readonly #withdrawn = new Set<string>();

  /** @param options.reconnectMs how long reads of a backup wait for a connection that was lost */
  constructor(options: Omit<TargetHost, 'files'> & { jobs: JobRunner; reconnectMs: number }) {
    const { graph, store, volumes, now, jobs, reconnectMs } = options;
    this.#host = { graph, store, volumes, now, files: new RestoredFiles(store) };
    this.#jobs = jobs;
    this.#reading = { clock: jobs.clock, reconnectMs };
  }

  /** Removes files that an earlier life of the process did not finish. */
  load(): Promise<void> {
    return this.#host.files.sweep();
  }

  /**
   * The run takes back what it asked for: a file that has its name already goes. A start that is under way has its job
   * then, or has failed. Good to repeat.
   */
  withdraw(restoreId: string): Promise<void> {
    return this.#turns.take(restoreId, async () => {
      const record = this.#jobs.find(jobIdOf(restoreId));
      if (record !== undefined && !record.isEnded) this.#withdrawn.add(restoreId);
      else await this.#host.files.withdraw(restoreId);
    });
  }

  /** The run has recorded what it made. Good to repeat. */
  takeOver(restoreId: string): Promise<void> {
    return this.#host.files.takeOver(restoreId);
  }

  /**
   * Resolves with the job running; a repeated request is answered as before while its job is known. Rejects,
   * with nothing left behind, when it cannot start.
   */
  start(request: RestoreRequest): Promise<RestoreAnswer> {
    const { target } = request;
    const start =
      target.kind === 'instant'
        ? () => this.#startInstant(request, target)
        : () => this.#startCopy(request, jobIdOf(request.restoreId));
    return this.#turns.take(request.restoreId, start);
  }

  async #startCopy(request: RestoreRequest, jobId: string): Promise<RestoreAnswer> {
    const { graph } = this.#host;
    const source = `source-${request.restoreId}`;
    const answer = { jobId, filePath: this.#filePath(request), differingBytes: 0 };
    if (this.#jobs.find(jobId) !== undefined) return answer;
    const disk = await openSource(request, this.#reading);
    let target: RestoreTarget | undefined;
    try {
      graph.add({ name: source }, () => disk);
      target = await this.#makeTarget(request);
      const differingBytes = target.isShared
        ? (target.candidates?.().dirtyBytes ?? request.sizeBytes)
        : answer.differingBytes;
      this.#startJob({ jobId, request, source, target });
      return { ...answer, differingBytes };
    } catch (error) {
      // Whatever becomes of the target: the backup's name is free for a repeat.
      const close = graph.has(source) ? graph.remove(source) : disk.close();
      await Promise.allSettled([target?.discard(), close]);
      throw error;
    }
  }

  /** A volume that is there may have been made by this request, maybe long ago. */
  async #startInstant(request: RestoreRequest, target: NewVolumeTarget): Promise<RestoreAnswer> {
    const { volumes, now } = this.#host;
    const { volumeId, name, backupId } = target;
    const answer = { jobId: streamJobId(volumeId), filePath: '', differingBytes: 0 };
    const known = volumes.all().find(({ record }) => record.volumeId === volumeId);
    // Those of an older version do not tell.
    if (known !== undefined && (known.record.madeBy ?? request.restoreId) === request.restoreId) {
      await known.resumeStream();
      return answer;
    }
    if (target.format === 'raw') {
      const text = `Instant volume '${name}' cannot be raw: only a qcow2 image can lack what is not pulled yet.`;
      throw new TidemarkError('invalid-request', text);
    }
    await (await openSource(request, this.#reading)).close();
    const { sourceUri: uri, sizeBytes, speedBytesPerSecond } = request;
    const source = { backupId, uri, speedBytesPerSecond, damage: [] };
    const madeBy = request.restoreId;
    const empty = { volumeId, name, format: 'qcow2', sizeBytes, state: 'restoring', source, madeBy } as const;
    const volume = await volumes.create(empty);
    try {
      if (target.checkpointId !== '') await volume.addCheckpoint(firstCheckpoint(target, now()));
      await volume.becomeReady();
    } catch (error) {
      await volumes.delete(volumeId, madeBy);
      throw error;
    }
    return answer;
  }

  #filePath({ target }: RestoreRequest): string {
    if (target.kind !== 'file') return '';
    checkFileName(target.name);
    return this.#host.store.path(this.#host.files.file(target.name));
  }

  #makeTarget({ target, restoreId, sizeBytes }: RestoreRequest): Promise<RestoreTarget> {
    if (target.kind === 'file') return newFile(this.#host, { name: target.name, restoreId }, sizeBytes);
    if (target.kind === 'in-place') return overVolume(this.#host, target, sizeBytes);
    return newVolume(this.#host, { target, restoreId }, sizeBytes);
  }

  #startJob(options: {
    jobId: string;
    request: RestoreRequest;
    source: string;
    target: RestoreTarget;
  }): void {
    const { jobId, request, source, target } = options;
    const damage = new JobDamage();
    // First: a job that is never listed would keep the block nodes.
    this.#jobs.registry.assertIdFree(jobId);
    const job = new RestoreJob({
      id: jobId,
      clock: this.#jobs.clock,
      graph: this.#host.graph,
      sourceNode: source,
      targetNode: target.node,
      targetIsZero: target.isZero,
      sharesTarget: target.isShared,
      speedBytesPerSecond: request.speedBytesPerSecond,
      narrow: target.isShared ? (copy, rest) => this.#narrow(copy, { request, target, rest }) : undefined,
      onUnreadable: request.skipDamage ? (offset, length) => damage.add(offset, length) : undefined,
    });
    this.#jobs.registry.add(job);
    job.start();
    this.#follow(job, { request, source, target, damage });
  }

  #follow(
    job: Job,
    options: { request: RestoreRequest; source: string; target: RestoreTarget; damage: JobDamage },
  ): void {
    const { request, source, target, damage } = options;
    const { restoreId } = request;
    const finish = async () => {
      try {
        await target.complete(damage);
        if (this.#withdrawn.has(restoreId)) await this.#host.files.withdraw(restoreId);
      } catch (error) {
        await target.discard();
        throw error;
      }
    };
    const after = async (succeeded: boolean) => {
      await this.#host.graph.remove(source).catch(() => undefined);
      try {
        if (succeeded) return await finish();
        await target.discard();
        throw explainEnd(job.error, request);
      } finally {
        // A restore of this name that comes later is another one.
        this.#withdrawn.delete(restoreId);
      }
    };
    this.#jobs.adopt(job, after, damage);
  }

  /** Leaves of a copy over a disk what changed since the source, and of that what its checksums call different. */
  async #narrow(
    copy: Bitmap,
    { request, target, rest }: { request: RestoreRequest; target: RestoreTarget; rest: () => Promise<void> },
  ): Promise<void> {
    const candidates = target.candidates?.();
    if (candidates !== undefined) {
      copy.clear();
      copy.merge(candidates);
    }
    if (request.sumsUri === '') return;
    const uses = { uses: PERMISSION.consistentRead, shares: PERMISSIONS_ALL & ~PERMISSION.resize };
    const disk = this.#host.graph.attach(target.node, {
      user: 'the restore that looks for differences',
      ...uses,
    });
    try {
      const node = await openSums(request.sumsUri, this.#reading);
      const sums = new SumsReader(node, recordsOf(request.sizeBytes));
      await keepDiffering(copy, { disk, sums, rest }).finally(() => node.close());
    } finally {
      await disk.close();
    }
  }
}

function jobIdOf(restoreId: string): string {
  return `restore-${restoreId}`;
}
