// Jobs and frozen moments as a scripted storage node plays them: nothing is copied, jobs count up while nobody holds
// them, and what they would write to has to be there.
import type { ServerWritableStream } from '@grpc/grpc-js';
import {
  type Empty,
  JobStatus,
  Moment,
  type StartBackupRequest,
  type StartExportRequest,
  toServiceError,
} from '@tidemark/proto';
import { createCheckpoint } from './scripted-checkpoints.ts';
import type { Handlers } from './scripted-handlers.ts';
import { refuse } from './scripted-refusal.ts';
import type { ScriptedStorageNode } from './scripted-storage-node.ts';

const NONE: Empty = {};
const TICK_MS = 10;
const TICKS = 4;

interface Kept {
  volumeId: string;
  kind: string;
  broken: string;
  targetUri: string;
  copies: string[];
}

export class ScriptedJobs {
  readonly moments = new Map<string, Kept>();
  /** The latest. */
  backupRequest: StartBackupRequest | undefined;
  readonly #node: ScriptedStorageNode;
  readonly #started = new Map<string, { jobId: string; [fact: string]: unknown }>();

  constructor(node: ScriptedStorageNode) {
    this.#node = node;
  }

  /** What backups that start are told to have in doubt since a crash. */
  grownBytes = 0;

  /** As a restart of the storage node does. */
  forget(): void {
    this.#node.jobs.clear();
    this.moments.clear();
  }

  isBusy(volumeId: string): boolean {
    return [...this.#started.values()].some(
      ({ jobId, volume }) => volume === volumeId && this.#node.jobs.get(jobId)?.state === 'running',
    );
  }

  handlers(): Handlers {
    return {
      startBackup: request => this.#startBackup(request),
      continueBackup: request => this.#continue(request),
      startExport: request => this.#startExport(request),
      releaseMoment: ({ momentId }) => {
        this.moments.delete(momentId);
        this.#node.inventory.moments.delete(momentId);
        return NONE;
      },
      listMoments: () => ({
        moments: [
          ...this.#node.inventory.moments.values(),
          ...[...this.moments].map(([momentId, { volumeId, kind, broken }]) =>
            Moment.fromPartial({ momentId, volumeId, kind, broken }),
          ),
        ],
      }),
      listJobs: () => ({ jobs: [...this.#node.jobs.values()] }),
      getJob: ({ jobId }) => this.#job(jobId),
      cancelJob: ({ jobId }) => {
        const status = this.#live(jobId);
        status.state = 'concluded';
        status.error = { code: 'run-cancelled', message: 'The job was cancelled.' };
        return NONE;
      },
      pauseJob: ({ jobId }) => {
        this.#live(jobId).state = 'paused';
        return NONE;
      },
      resumeJob: ({ jobId }) => {
        this.#live(jobId).state = 'running';
        return NONE;
      },
      setJobSpeed: ({ jobId, speedBytesPerSecond }) => {
        this.#live(jobId).speedBytesPerSecond = speedBytesPerSecond;
        return NONE;
      },
      dismissJob: ({ jobId }) => {
        this.#node.jobs.delete(jobId);
        return NONE;
      },
    };
  }

  watch(call: ServerWritableStream<{ jobId: string }, JobStatus>): void {
    const job = this.#node.jobs.get(call.request.jobId);
    if (!job) {
      call.emit('error', toServiceError(refuse('job-not-found', call.request.jobId)));
      return;
    }
    const tell = () => {
      call.write({ ...job });
      if (job.state !== 'concluded') return;
      clearInterval(timer);
      call.end();
    };
    const timer = setInterval(tell, TICK_MS);
    call.on('cancelled', () => clearInterval(timer));
    tell();
  }

  #job(jobId: string): JobStatus {
    const status = this.#node.jobs.get(jobId);
    if (!status) throw refuse('job-not-found', jobId);
    return status;
  }

  #live(jobId: string): JobStatus {
    const status = this.#job(jobId);
    if (status.state === 'concluded') throw refuse('job-state', jobId);
    return status;
  }

  #startBackup(request: StartBackupRequest): unknown {
    this.backupRequest = request;
    const { volumeId, checkpointId, checkpointName: name, baseCheckpointId, targetUri } = request;
    const { checkpoints, jobs } = this.#node;
    const known = this.#started.get(checkpointId);
    if (known && jobs.has(known.jobId)) return known;
    if (checkpoints.has(checkpointId)) throw refuse('job-interrupted', checkpointId);
    const { sizeBytes } = this.#node.volume(volumeId);
    if (baseCheckpointId && !checkpoints.has(baseCheckpointId)) {
      throw refuse('checkpoint-not-found', baseCheckpointId);
    }
    const dirtyBytes = baseCheckpointId ? sizeBytes / 4 : sizeBytes;
    const jobId = `backup-${checkpointId}`;
    this.start(jobId, { type: 'backup', totalBytes: dirtyBytes, uri: targetUri });
    const { createdAtMs } = createCheckpoint(this.#node, { volumeId, checkpointId, name });
    const { grownBytes } = this;
    const facts = { dirtyBytes, grownBytes, targetUri, volume: volumeId };
    const answer = { jobId, pointInTimeMs: createdAtMs, ...facts };
    this.#started.set(checkpointId, answer);
    this.moments.set(checkpointId, { volumeId, kind: 'backup', broken: '', targetUri, copies: [jobId] });
    return answer;
  }

  /** The moment of a group's member: a continuation copies it for the first time. */
  freezeForGroup(member: {
    volumeId: string;
    checkpointId: string;
    dirtyBytes: number;
    pointInTimeMs: number;
  }) {
    const { checkpointId, volumeId, ...facts } = member;
    this.#started.set(checkpointId, { jobId: '', grownBytes: 0, volume: volumeId, ...facts });
    this.moments.set(checkpointId, { volumeId, kind: 'backup', broken: '', targetUri: '', copies: [] });
  }

  #continue({ checkpointId, targetUri }: { checkpointId: string; targetUri: string }): unknown {
    const moment = this.moments.get(checkpointId);
    if (moment?.broken !== '') throw refuse('moment-lost', checkpointId);
    const answer = this.#started.get(checkpointId)!;
    const last = this.#node.jobs.get(moment.copies.at(-1) ?? '');
    if (last && moment.targetUri === targetUri && !last.error)
      return { ...answer, jobId: last.jobId, targetUri };
    const count = moment.copies.length;
    const jobId = `backup-${checkpointId}${count === 0 ? '' : `-${count + 1}`}`;
    this.start(jobId, { type: 'backup', totalBytes: Number(answer.dirtyBytes), uri: targetUri });
    moment.targetUri = targetUri;
    moment.copies.push(jobId);
    return { ...answer, jobId, continued: true, targetUri };
  }

  #startExport(request: StartExportRequest): unknown {
    const { exportId, volumeId, checkpointId, checkpointName: name } = request;
    const { sizeBytes } = this.#node.volume(volumeId);
    const uri = `nbd://127.0.0.1:10809/${exportId}`;
    if (this.moments.has(exportId)) return { uri, sizeBytes, pointInTimeMs: Date.now(), contexts: [] };
    if (checkpointId !== '') createCheckpoint(this.#node, { volumeId, checkpointId, name });
    this.moments.set(exportId, { volumeId, kind: 'export', broken: '', targetUri: '', copies: [] });
    return { uri, sizeBytes, pointInTimeMs: Date.now(), contexts: [] };
  }

  start(
    jobId: string,
    { type, totalBytes, uri, ended }: { type: string; totalBytes: number; uri: string; ended?: () => void },
  ): void {
    const node = this.#node;
    if (!node.canReach(uri)) throw refuse('io-error', `nothing is at ${uri}`);
    const status = JobStatus.fromPartial({ jobId, type, state: 'running', totalBytes });
    node.jobs.set(jobId, status);
    let tick = 0;
    const timer = setInterval(() => {
      if (status.state === 'concluded') return clearInterval(timer);
      if (!node.canReach(uri)) {
        status.state = 'concluded';
        status.error = { code: 'io-error', message: `The connection to ${uri} was lost.` };
        return;
      }
      if (status.state === 'paused' || (node.holdJobs && tick >= TICKS / 2)) return;
      tick += 1;
      status.currentBytes = (totalBytes * tick) / TICKS;
      status.sentBytes = status.currentBytes / 2;
      if (tick < TICKS) return;
      ended?.();
      status.state = 'concluded';
      if (node.jobError) status.error = node.jobError;
    }, TICK_MS).unref();
  }
}
