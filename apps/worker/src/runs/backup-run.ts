// A backup and its checkpoint: the same instant, made by one transaction of the storage node that owns the
// volume, copied into a repository on another.
import { TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import { dropCheckpoints, droppedBy, keepDropped } from './drop-checkpoints.ts';
import type { RunContext, RunDefinition, Step } from './run-definition.ts';
import { tolerate } from './tolerate.ts';
import { dismissJob, endJob, type WatchedJob, watchToEnd } from './watch-job.ts';

type Context = RunContext<'backup'>;

const prepared = z.object({ uri: z.string(), sumsUri: z.string().default('') });
type Prepared = z.output<typeof prepared>;
const started = z.object({ jobId: z.string(), pointInTimeMs: z.number(), dirtyBytes: z.number() });
const copied = z.object({ sentBytes: z.number() });
const published = z.object({ storedBytes: z.number(), fileName: z.string() });

const prepareTarget: Step<'backup'> = {
  name: 'prepare-target',
  async run(context) {
    return { output: await prepare(context, 'prepare-target', context.request.parentBackupId ?? '') };
  },
  // `backup-not-usable`: it was published, and only the answer got lost; it is whole, and stays.
  undo: context => tolerate(['backup-not-usable'], discardTarget(context, 'undo-prepare-target')),
};

const start: Step<'backup'> = {
  name: 'start',
  async run(context) {
    const { request, run, catalog } = context;
    const backup = await catalog.backups.get(request.backupId);
    const fellBack = request.baseCheckpointId !== null && backup.kind === 'full';
    const answer = fellBack ? await startFull(context) : await startAsAsked(context);
    const pointInTime = new Date(answer.pointInTimeMs);
    const { jobId, pointInTimeMs, dirtyBytes } = answer;
    return {
      output: { jobId, pointInTimeMs, dirtyBytes },
      facts: { checkpointAt: pointInTime, progress: { dirtyBytes } },
      commit: async tx => {
        await tx.checkpoints.markReady(request.checkpointId, pointInTime, run.id);
        await tx.backups.markStarted(request.backupId, { pointInTime, dirtyBytes });
      },
    };
  },
  async undo(context) {
    const { request, storageNodes, call, stop } = context;
    const { volumeId, checkpointId } = request;
    const job = await findJob(context);
    if (job) await endJob(context, job, 'undo-start');
    await releaseMoment(context, 'undo-start');
    const { checkpoints } = await storageNodes.ofVolume(volumeId);
    const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
    const merge = checkpoints.deleteCheckpoint({ step: call('undo-start'), volumeId, checkpointId }, options);
    await tolerate(['checkpoint-not-found', 'volume-not-found'], merge);
    if (job) await dismissJob(context, job, 'undo-start');
  },
};

const copy: Step<'backup'> = {
  name: 'copy',
  // The job needs no worker; a storage node that was restarted says so, and that ends the run at once.
  patient: true,
  async run(context) {
    const status = await watchToEnd(context, await startedJob(context));
    return { output: { sentBytes: status.sentBytes } };
  },
};

const publish: Step<'backup'> = {
  name: 'publish',
  final: true,
  patient: true,
  async run(context) {
    const { request, run, storageNodes, catalog, call, stop } = context;
    const { backupId, repositoryId, checkpointId, checkpoint } = request;
    const { repositories } = await storageNodes.ofRepository(repositoryId);
    const { kind, reason, volumeName } = await catalog.backups.get(backupId);
    const { pointInTimeMs } = context.output('start', started);
    const { sentBytes } = context.output('copy', copied);
    const manifest = { volumeName, checkpointId, checkpointName: checkpoint, pointInTimeMs, kind, reason };
    const stored = await repositories.publishBackup(
      { step: call('publish'), repositoryId, backupId, ...manifest },
      { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS },
    );
    const facts = { storedBytes: stored.storedBytes, fileName: stored.fileName };
    const compression = stored.compression || 'none';
    return {
      output: facts,
      commit: tx => tx.backups.markAvailable(backupId, { ...facts, sentBytes, compression }, run.id),
    };
  },
};

const finish: Step<'backup'> = {
  name: 'finish',
  final: true,
  // A storage node forgets ended jobs by itself; the backup is published.
  dispensable: true,
  async run(context) {
    await releaseMoment(context, 'finish');
    await dismissJob(context, await startedJob(context), 'finish');
    return {};
  },
};

export const backupRun: RunDefinition<'backup'> = {
  steps: [prepareTarget, start, copy, publish, dropCheckpoints, finish],
  result: context => ({
    backupId: context.request.backupId,
    checkpointId: context.request.checkpointId,
    ...context.output('start', started),
    ...context.output('copy', copied),
    ...context.output('publish', published),
    ...droppedBy(context),
  }),
  async withdraw(catalog, context) {
    const { request, run } = context;
    await keepDropped(catalog, context);
    await catalog.backups.deleteUnfinished(request.backupId, run.id);
    await catalog.checkpoints.delete(request.checkpointId, run.id);
  },
};

async function prepare(context: Context, step: string, parentBackupId: string): Promise<Prepared> {
  const { request, storageNodes, catalog, call, stop } = context;
  const { backupId, repositoryId, volumeId } = request;
  const { sizeBytes } = await catalog.backups.get(backupId);
  const { repositories } = await storageNodes.ofRepository(repositoryId);
  const wanted = { step: call(step), repositoryId, backupId, volumeId, sizeBytes, parentBackupId };
  const { uri, sumsUri } = await repositories.prepareBackup(wanted, { signal: stop });
  return { uri, sumsUri };
}

/** A start that is repeated prepares again: its target is gone if the repository's host has restarted. */
async function preparedTarget(context: Context): Promise<Prepared> {
  const isRepeated = context.run.steps.some(step => step.name === 'start');
  if (isRepeated) return prepare(context, 'prepare-target', context.request.parentBackupId ?? '');
  return context.output('prepare-target', prepared);
}

async function discardTarget(context: Context, step: string): Promise<void> {
  const { request, storageNodes, call, stop } = context;
  const { repositories } = await storageNodes.ofRepository(request.repositoryId);
  const { repositoryId, backupId } = request;
  const discard = repositories.discardBackup({ step: call(step), repositoryId, backupId }, { signal: stop });
  await tolerate(['backup-not-found', 'repository-not-found'], discard);
}

type StartOptions = { step: string; baseCheckpointId: string; target: Prepared };

async function startBackup(context: Context, { step, baseCheckpointId, target }: StartOptions) {
  const { request, storageNodes, call, stop } = context;
  const { jobs } = await storageNodes.ofVolume(request.volumeId);
  return jobs.startBackup(
    {
      step: call(step),
      volumeId: request.volumeId,
      checkpointId: request.checkpointId,
      checkpointName: request.checkpoint,
      speedBytesPerSecond: request.speedBytesPerSecond ?? 0,
      baseCheckpointId,
      targetUri: target.uri,
      sumsUri: target.sumsUri,
    },
    { signal: stop },
  );
}

/** Falls back to a full backup, and says so, when the changes since the base cannot be known. */
async function startAsAsked(context: Context) {
  const { request, run, catalog } = context;
  const baseCheckpointId = request.baseCheckpointId ?? '';
  const target = await preparedTarget(context);
  try {
    return await startBackup(context, { step: 'start', baseCheckpointId, target });
  } catch (error) {
    if (!(error instanceof TidemarkError) || baseCheckpointId === '') throw error;
    if (error.code !== 'checkpoint-inconsistent' && error.code !== 'checkpoint-not-found') throw error;
    const reason = `full: the changes since the base checkpoint are not known (${error.message})`;
    await catalog.backups.fallBackToFull(request.backupId, reason, run.id);
    await context.update({ reason });
    return startFull(context);
  }
}

/**
 * From here on the backup's row says full, so that an attempt that follows takes this way at once. Only the
 * target of the increment is discarded: an earlier attempt's job may be writing to the full one already.
 */
async function startFull(context: Context) {
  const target = await prepare(context, 'prepare-target-full', '').catch(async error => {
    if (!(error instanceof TidemarkError) || error.code !== 'backup-not-usable') throw error;
    await discardTarget(context, 'fall-back');
    return prepare(context, 'prepare-target-full', '');
  });
  return startBackup(context, { step: 'start-full', baseCheckpointId: '', target });
}

/** Good to repeat. */
async function releaseMoment({ request, storageNodes, call, stop }: Context, step: string): Promise<void> {
  const { volumeId, checkpointId: momentId } = request;
  const { jobs } = await storageNodes.ofVolume(volumeId);
  await jobs.releaseMoment({ step: call(step), volumeId, momentId }, { signal: stop });
}

async function startedJob(context: Context): Promise<WatchedJob> {
  const { jobId } = context.output('start', started);
  return { storageNode: await context.storageNodes.ofVolume(context.request.volumeId), jobId };
}

/** The job to undo, if there is one. */
async function findJob(context: Context): Promise<WatchedJob | undefined> {
  if (context.findOutput('start', started)) return startedJob(context);
  if (!context.isInDoubt('start') || !context.findOutput('prepare-target', prepared)) return undefined;
  return settleStart(context);
}

/**
 * An answer was lost: the same call again is answered as it was then, or starts now what is ended right
 * away, or is refused, and then there is no job.
 */
async function settleStart(context: Context): Promise<WatchedJob | undefined> {
  const { request, catalog, storageNodes } = context;
  const backup = await catalog.backups.find(request.backupId);
  const fellBack = request.baseCheckpointId !== null && backup?.kind === 'full';
  try {
    const target = context.output('prepare-target', prepared);
    const baseCheckpointId = request.baseCheckpointId ?? '';
    const options = fellBack
      ? { step: 'start-full', baseCheckpointId: '', target }
      : { step: 'start', baseCheckpointId, target };
    const { jobId } = await startBackup(context, options);
    return { storageNode: await storageNodes.ofVolume(request.volumeId), jobId };
  } catch (error) {
    if (error instanceof TidemarkError && error.code !== 'storage-node-unreachable') return undefined;
    throw error;
  }
}
