// The copy of a backup's frozen moment. One that fails is made again, of the same point in time, as long as the
// storage node keeps the moment; when that is lost the run begins anew, from a new point in time, and says so.
import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { JobFailed, TargetAway } from '../errors.ts';
import { retryDelay } from '../limits.ts';
import { beginAnew } from './backup-anew.ts';
import { started } from './backup-start.ts';
import { type Prepared, prepare } from './backup-target.ts';
import type { RunContext, Step } from './run-definition.ts';
import { type WatchedJob, watchToEnd } from './watch-job.ts';

type Context = RunContext<'backup'>;

export const copied = z.object({
  sentBytes: z.number(),
  /** Which has all of it. A partial backup that is there later may be another one, and hold nothing. */
  targetUri: z.string().default(''),
});
export type Copied = z.output<typeof copied>;

interface CopyJob extends WatchedJob {
  readonly targetUri: string;
}

/** A copy that ended so may end better the next time: the line, the repository's or this storage node failed. */
const WORTH_ANOTHER: readonly ErrorCode[] = ['io-error', 'job-interrupted', 'internal-error'];

export const copy: Step<'backup'> = {
  name: 'copy',
  patient: true,
  async run(context) {
    const isRepeated = context.run.steps.some(step => step.name === 'copy' && step.state !== 'undone');
    const first = isRepeated ? continueCopy(context) : startedJob(context);
    return { output: await copyToEnd(context, await first) };
  },
};

/** The moment's copy to the target as it is now. Rejects as the step does. */
export async function copyAgain(context: Context): Promise<Copied> {
  return copyToEnd(context, await continueCopy(context));
}

async function copyToEnd(context: Context, first: CopyJob): Promise<Copied> {
  const { limits } = context;
  let job = first;
  for (let copies = 1; ; copies++) {
    try {
      const { sentBytes } = await watchToEnd(context, job);
      return { sentBytes, targetUri: job.targetUri };
    } catch (error) {
      if (!(error instanceof JobFailed)) throw error;
      if (error.code === 'moment-lost') throw await beginAnew(context, error);
      if (!WORTH_ANOTHER.includes(error.code) || copies >= limits.copiesMax) throw error;
      const signal = AbortSignal.any([context.stop, context.cancel]);
      if (copies > 1) await sleep(retryDelay(limits, copies - 1), undefined, { signal });
      job = await continueCopy(context);
    }
  }
}

/** The job that copies to the target as it is now: the one that does so already, or another. */
async function continueCopy(context: Context): Promise<CopyJob> {
  const { request, storageNodes, controls, call, stop } = context;
  const { volumeId, checkpointId } = request;
  const storageNode = await storageNodes.ofVolume(volumeId);
  // Patience is for the storage node that keeps the moment: first of all it has to be there.
  await storageNode.volumes.getVolume({ volumeId }, { signal: stop });
  const { uri: targetUri, sumsUri } = await targetAgain(context);
  const speedBytesPerSecond = controls.wanted.speedBytesPerSecond ?? request.speedBytesPerSecond ?? 0;
  const wanted = { volumeId, checkpointId, targetUri, sumsUri, speedBytesPerSecond };
  try {
    const { jobs } = storageNode;
    const { jobId } = await jobs.continueBackup({ step: call('continue'), ...wanted }, { signal: stop });
    return { storageNode, jobId, targetUri };
  } catch (error) {
    if (!(error instanceof TidemarkError) || error.code !== 'moment-lost') throw error;
    throw await beginAnew(context, error);
  }
}

/**
 * A repository whose host reboots is waited for; one that stays away must not keep the moment, at the guest's cost, for
 * as long as it likes. Only time counts in which somebody asked for it: no clock, and no number of tries.
 */
async function targetAgain(context: Context): Promise<Prepared> {
  const { budget, limits } = context;
  const askedAt = performance.now();
  try {
    return await prepare(context);
  } catch (error) {
    if (!(error instanceof TidemarkError) || error.code !== 'storage-node-unreachable') throw error;
    const awayMs = budget.targetAwayMs + performance.now() - askedAt;
    if (awayMs >= limits.targetAwayMs) throw new JobFailed(error.code, error.message, error);
    // Twice as long each time, and once more right at the end of its time.
    const wanted = Math.min(Math.max(awayMs, limits.retryDelayMs), limits.retryDelayMaxMs);
    const delayMs = Math.min(wanted, limits.targetAwayMs - awayMs);
    throw new TargetAway(error, { awayMs: awayMs + delayMs, delayMs });
  }
}

async function startedJob(context: Context): Promise<CopyJob> {
  const { jobId, targetUri } = context.output('start', started);
  return { storageNode: await context.storageNodes.ofVolume(context.request.volumeId), jobId, targetUri };
}
