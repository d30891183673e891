// Looks at a backup without restoring it. That it is damaged is a result, not a failure of the run.
import type { TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { JobFailed } from '../errors.ts';
import { knownDamage } from './restore-damage.ts';
import type { RunContext, RunDefinition, Step } from './run-definition.ts';
import { dismissJob, endJob, type WatchedJob, watchToEnd } from './watch-job.ts';

type Context = RunContext<'verify'>;

/** Times that a storage node may restart meanwhile: it begins anew each time. */
const RESTARTS_MAX = 3;

const range = z.object({ offset: z.number(), length: z.number() });
const looked = z.object({
  result: z.enum(['sound', 'damaged']),
  damagedBytes: z.number(),
  ranges: z.array(range),
  /** There are more ranges than these. */
  truncated: z.boolean(),
  detail: z.string().nullable(),
});

type Looked = z.output<typeof looked>;

const SOUND: Looked = { result: 'sound', damagedBytes: 0, ranges: [], truncated: false, detail: null };

const verify: Step<'verify'> = {
  name: 'verify',
  patient: true,
  async run(context) {
    const { request, run, catalog } = context;
    const output = await look(context, RESTARTS_MAX);
    const { result } = output;
    const { sizeBytes } = await catalog.backups.get(request.backupId);
    const { ranges } = knownDamage({ ...output, bytes: output.damagedBytes }, sizeBytes);
    // Where only its own data was looked at, what is known of its parents stays.
    const adds = !request.chain;
    return {
      output,
      commit: tx => tx.verifications.record(request.backupId, { result, ranges, adds }, run.id),
    };
  },
  undo: async context => endJob(context, await job(context), 'undo-verify'),
};

const finish: Step<'verify'> = {
  name: 'finish',
  final: true,
  // A storage node forgets ended jobs by itself.
  dispensable: true,
  async run(context) {
    await dismissJob(context, await job(context), 'finish');
    return {};
  },
};

export const verifyRun: RunDefinition<'verify'> = {
  steps: [verify, finish],
  result: context => ({ backupId: context.request.backupId, ...context.output('verify', looked) }),
  withdraw: async () => {},
};

async function look(context: Context, restartsLeft: number): Promise<Looked> {
  const { request, storageNodes, call, stop } = context;
  const { repositoryId, backupId, chain } = request;
  const { repositories } = await storageNodes.ofRepository(repositoryId);
  const speedBytesPerSecond = request.speedBytesPerSecond ?? 0;
  const wanted = { step: call('verify'), repositoryId, backupId, chain, speedBytesPerSecond };
  await repositories.startVerify(wanted, { signal: stop });
  try {
    await watchToEnd(context, await job(context));
    return SOUND;
  } catch (error) {
    if (!(error instanceof JobFailed)) throw error;
    if (error.code === 'job-interrupted' && restartsLeft > 0) return look(context, restartsLeft - 1);
    if (error.code !== 'backup-damaged') throw error;
    return damaged(context, error);
  }
}

async function damaged(context: Context, error: TidemarkError): Promise<Looked> {
  const { storageNode, jobId } = await job(context);
  const { bytes, ranges, truncated } = await storageNode.jobs.getJobDamage(
    { jobId },
    { signal: context.stop },
  );
  return {
    result: 'damaged',
    damagedBytes: bytes,
    ranges: ranges.map(({ offset, length }) => ({ offset, length })),
    truncated,
    detail: error.message,
  };
}

async function job({ request, run, storageNodes }: Context): Promise<WatchedJob> {
  const storageNode = await storageNodes.ofRepository(request.repositoryId);
  return { storageNode, jobId: `verify-${run.id}` };
}
