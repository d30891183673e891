// Following a job of a storage node to its end, and ending one.
import { isErrorCode, type JobStatus, type StorageNodeClients, TidemarkError } from '@tidemark/proto';
import { JobFailed } from '../errors.ts';
import type { RunContext } from './run-definition.ts';
import { JobSteering } from './steer-job.ts';
import { tolerate } from './tolerate.ts';

const CONCLUDED = 'concluded';

export interface WatchedJob {
  readonly storageNode: StorageNodeClients;
  readonly jobId: string;
}

/**
 * Resolves with the last status of a job that concluded with success; the run's progress follows meanwhile, and the
 * job does what the operator wants of the run.
 * Rejects with `JobFailed` when it concluded otherwise, or is forgotten by its storage node; with the signal's
 * reason on stop or cancel (the job goes on); and with `storage-node-unreachable` when the connection ends
 * first.
 */
export function watchToEnd(context: RunContext, job: WatchedJob): Promise<JobStatus> {
  return watchUntil(context, job, () => false);
}

/** The same, or resolves earlier: with the first status of the job that `isThere` accepts. */
export async function watchUntil(
  context: RunContext,
  job: WatchedJob,
  isThere: (status: JobStatus) => boolean,
): Promise<JobStatus> {
  try {
    return await watch(context, job, isThere);
  } catch (error) {
    if (!(error instanceof TidemarkError) || error.code !== 'job-not-found') throw error;
    throw new JobFailed(
      'job-interrupted',
      `Storage node ${job.storageNode.name} was restarted while it copied, and job ${job.jobId} ended with ` +
        'that. Start it again.',
      error,
    );
  }
}

async function watch(
  context: RunContext,
  job: WatchedJob,
  isThere: (status: JobStatus) => boolean,
): Promise<JobStatus> {
  const signal = AbortSignal.any([context.stop, context.cancel]);
  signal.throwIfAborted();
  const steering = new JobSteering(context, job);
  try {
    return await follow(context, job, { isThere, signal, steering });
  } finally {
    await steering.end();
  }
}

interface Following {
  readonly isThere: (status: JobStatus) => boolean;
  readonly signal: AbortSignal;
  readonly steering: JobSteering;
}

async function follow(
  context: RunContext,
  job: WatchedJob,
  { isThere, signal, steering }: Following,
): Promise<JobStatus> {
  let writtenAt = Number.NEGATIVE_INFINITY;
  let first: JobStatus | undefined;
  for await (const status of job.storageNode.watchJob({ jobId: job.jobId }, { signal })) {
    steering.note(status);
    const ended = status.state === CONCLUDED || isThere(status);
    if (ended || performance.now() - writtenAt >= context.limits.progressMs) {
      first ??= status;
      // What only begins anew, and fails each time, has not moved.
      const goesOn = context.budget.isTouched && status.currentBytes > first.currentBytes;
      await writeProgress(context, status, goesOn);
      writtenAt = performance.now();
    }
    if (!ended) continue;
    if (status.error) throw jobFailed(status, job);
    return status;
  }
  throw new TidemarkError(
    'storage-node-unreachable',
    `Storage node ${job.storageNode.name} stopped telling about job ${job.jobId} before it ended.`,
  );
}

/** Afterwards the job has ended, one way or the other, or is unknown. Does not dismiss it. */
export async function endJob(context: RunContext, job: WatchedJob, step: string): Promise<void> {
  const { storageNode, jobId } = job;
  const cancel = storageNode.jobs.cancelJob({ step: context.call(step), jobId }, { signal: context.stop });
  // `job-state`: it has concluded already.
  await tolerate(['job-not-found', 'job-state'], cancel);
  const late = AbortSignal.timeout(context.limits.jobEndMs);
  try {
    await tolerate(['job-not-found'], waitForEnd(job, AbortSignal.any([context.stop, late])));
  } catch (error) {
    if (error !== late.reason) throw error;
    throw new TidemarkError(
      'job-state',
      `Job ${jobId} of storage node ${storageNode.name} was asked to end and still goes on after ` +
        `${context.limits.jobEndMs} ms. It is asked again later; look for it in the log of the storage node.`,
      error,
    );
  }
}

async function waitForEnd({ storageNode, jobId }: WatchedJob, signal: AbortSignal): Promise<void> {
  for await (const status of storageNode.watchJob({ jobId }, { signal })) {
    if (status.state === CONCLUDED) return;
  }
}

/** Good to repeat. */
export function dismissJob(context: RunContext, job: WatchedJob, step: string): Promise<void> {
  const { storageNode, jobId } = job;
  const dismiss = storageNode.jobs.dismissJob({ step: context.call(step), jobId }, { signal: context.stop });
  return tolerate(['job-not-found'], dismiss);
}

async function writeProgress(context: RunContext, status: JobStatus, goesOn: boolean): Promise<void> {
  const { currentBytes, totalBytes, sentBytes } = status;
  await context.update({ progress: { currentBytes, totalBytes, sentBytes }, goesOn });
}

function jobFailed(status: JobStatus, job: WatchedJob): JobFailed {
  const { code, message } = status.error!;
  const known = isErrorCode(code) ? code : 'internal-error';
  return new JobFailed(known, message || `Job ${job.jobId} of storage node ${job.storageNode.name} failed.`);
}
