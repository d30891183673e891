// A bitmap audit: what a volume's bitmaps call unchanged since a checkpoint is read from a frozen moment, and compared
// with the checksums of that checkpoint's backup. A difference is an alarm, not a failure of the run.
import { type Backup, PAGE_ITEMS_MAX } from '@tidemark/catalog';
import { TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { JobFailed } from '../errors.ts';
import type { RunContext, RunDefinition, Step } from './run-definition.ts';
import { tolerate } from './tolerate.ts';
import { dismissJob, endJob, type WatchedJob, watchToEnd } from './watch-job.ts';

type Context = RunContext<'audit'>;

const chosen = z.object({ backupId: z.string(), repositoryId: z.string(), checkpointId: z.string() });
const started = z.object({ jobId: z.string(), cleanBytes: z.number() });
const range = z.object({ offset: z.number(), length: z.number() });
const audited = z.object({
  result: z.enum(['equal', 'different']),
  checkedBytes: z.number(),
  differing: z.array(range),
});

/** As many places as a result shows; the first is enough for the alarm. */
const RANGES_SHOWN_MAX = 100;

const choose: Step<'audit'> = {
  name: 'choose',
  async run(context) {
    const { catalog, run } = context;
    const { id: backupId, repositoryId, checkpointId } = await chooseBackup(context);
    // The row is locked: a prune that has begun is seen, and one that begins sees the lease.
    await catalog.backupLeases.take(backupId, 'run', run.id);
    return { output: { backupId, repositoryId, checkpointId } };
  },
};

const start: Step<'audit'> = {
  name: 'start',
  async run(context) {
    const { jobId, cleanBytes } = await startAudit(context);
    return { output: { jobId, cleanBytes } };
  },
  async undo(context) {
    const known = context.findOutput('start', started);
    const jobId = known?.jobId ?? (context.isInDoubt('start') ? jobIdOf(context) : undefined);
    if (jobId !== undefined) {
      const storageNode = await context.storageNodes.ofVolume(context.request.volumeId);
      await endJob(context, { storageNode, jobId }, 'undo-start');
      await dismissJob(context, { storageNode, jobId }, 'undo-start');
    }
    await closeBackup(context, 'undo-start');
  },
};

const compare: Step<'audit'> = {
  name: 'compare',
  patient: true,
  async run(context) {
    const { request, run } = context;
    const job = await startedJob(context);
    const outcome = await outcomeOf(context, job);
    const { startedAtMs, ...output } = outcome;
    const { backupId, checkpointId } = context.output('choose', chosen);
    const data = { ...output, backupId, checkpointId };
    return {
      output,
      commit: tx =>
        tx.volumes.markAudited(
          request.volumeId,
          { at: new Date(startedAtMs), result: output.result, data },
          run.id,
        ),
    };
  },
};

const finish: Step<'audit'> = {
  name: 'finish',
  final: true,
  dispensable: true,
  async run(context) {
    await closeBackup(context, 'finish');
    await dismissJob(context, await startedJob(context), 'finish');
    return {};
  },
};

export const auditRun: RunDefinition<'audit'> = {
  steps: [choose, start, compare, finish],
  result: context => ({
    volumeId: context.request.volumeId,
    ...context.output('choose', chosen),
    cleanBytes: context.output('start', started).cleanBytes,
    ...context.output('compare', audited),
  }),
  withdraw: async () => {},
};

/** The newest that has checksums, and whose checkpoint the volume still has, with changes that are known. */
async function chooseBackup(context: Context): Promise<Backup> {
  const { request, catalog, storageNodes, stop: signal } = context;
  const { volumeId, repositoryId } = request;
  const { checkpoints } = await (await storageNodes.ofVolume(volumeId)).checkpoints.listCheckpoints(
    { volumeId },
    { signal },
  );
  const trusted = new Set(checkpoints.filter(one => !one.inconsistent).map(one => one.checkpointId));
  const filter = { volumeId, ...(repositoryId !== null && { repositoryId }), limit: PAGE_ITEMS_MAX };
  const { items } = await catalog.backups.list(filter);
  const usable = items.filter(one => one.state === 'available' && trusted.has(one.checkpointId));
  for (const backup of usable) {
    const { repositories } = await storageNodes.ofRepository(backup.repositoryId);
    const wanted = { repositoryId: backup.repositoryId, backupId: backup.id };
    if ((await repositories.getBackup(wanted, { signal })).hasSums) return backup;
  }
  const { name } = await catalog.volumes.get(volumeId);
  throw new TidemarkError(
    'backup-not-found',
    `Volume '${name}' has no backup to compare its bitmaps with: one is needed that is available, has checksums, ` +
      'and whose checkpoint the volume still has. Make a backup first.',
  );
}

const jobIdOf = ({ run }: Context) => `audit-${run.id}`;

/** Good to repeat: the backup is opened again where its repository's host has restarted. */
async function startAudit(context: Context) {
  const { request, run, storageNodes, call, stop: signal } = context;
  const { backupId, repositoryId, checkpointId } = context.output('choose', chosen);
  const { repositories } = await storageNodes.ofRepository(repositoryId);
  const open = { step: call('open'), repositoryId, backupId };
  const { sumsUri } = await repositories.openBackup(open, { signal });
  const { jobs } = await storageNodes.ofVolume(request.volumeId);
  return jobs.startAudit(
    {
      ...{ step: call('start'), volumeId: request.volumeId, baseCheckpointId: checkpointId, sumsUri },
      sampleBytes: request.sampleBytes,
      // Another sample each time, and the same one when the start is repeated.
      seed: Number.parseInt(run.id.slice(0, 8), 16),
    },
    { signal },
  );
}

async function startedJob(context: Context): Promise<WatchedJob> {
  const { jobId } = context.output('start', started);
  return { storageNode: await context.storageNodes.ofVolume(context.request.volumeId), jobId };
}

async function outcomeOf(context: Context, job: WatchedJob) {
  try {
    const { currentBytes, startedAtMs } = await watchToEnd(context, job);
    const none: z.output<typeof range>[] = [];
    return { result: 'equal' as const, checkedBytes: currentBytes, differing: none, startedAtMs };
  } catch (error) {
    if (!(error instanceof JobFailed) || error.code !== 'audit-failed') throw error;
    const { jobs } = job.storageNode;
    const options = { signal: context.stop };
    const { currentBytes, startedAtMs } = await jobs.getJob({ jobId: job.jobId }, options);
    const { ranges } = await jobs.getJobDamage({ jobId: job.jobId }, options);
    const differing = ranges.slice(0, RANGES_SHOWN_MAX).map(({ offset, length }) => ({ offset, length }));
    return { result: 'different' as const, checkedBytes: currentBytes, differing, startedAtMs };
  }
}

async function closeBackup(context: Context, step: string): Promise<void> {
  const { storageNodes, call, stop: signal } = context;
  const known = context.findOutput('choose', chosen);
  if (!known) return;
  const { repositoryId, backupId } = known;
  const { repositories } = await storageNodes.ofRepository(repositoryId);
  const close = repositories.closeBackup({ step: call(step), repositoryId, backupId }, { signal });
  await tolerate(['backup-not-found', 'repository-not-found'], close);
}
