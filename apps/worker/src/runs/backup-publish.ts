// What follows the copy of a backup: the repository reads back what it was sent, and then lists it. Reading takes as
// long as the repository's disk takes, so that it can be paused and cancelled; for the listing a cancel comes too late.
import { TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { PUBLISH_TIMEOUT_MS } from '../limits.ts';
import { type Copied, copied, copyAgain } from './backup-copy.ts';
import { noteChecked, noteMember } from './backup-of-group.ts';
import { started } from './backup-start.ts';
import { discardTarget } from './backup-target.ts';
import type { RunContext, Step } from './run-definition.ts';
import { dismissJob, endJob, type WatchedJob, watchToEnd } from './watch-job.ts';

type Context = RunContext<'backup'>;

export const published = z.object({ storedBytes: z.number(), fileName: z.string(), sentBytes: z.number() });

export const check: Step<'backup'> = {
  name: 'check',
  patient: true,
  async run(context) {
    const copy = context.output('copy', copied);
    const [, whole] = await withWholeCopy(context, copy, one => checkOnce(context, one));
    return { output: { ...whole }, commit: tx => noteChecked(tx, context) };
  },
  async undo(context) {
    const job = await jobOf(context);
    await endJob(context, job, 'undo-check');
    await dismissJob(context, job, 'undo-check');
  },
};

export const publish: Step<'backup'> = {
  name: 'publish',
  final: true,
  patient: true,
  async run(context) {
    const { request, run } = context;
    const checked = context.output('check', copied);
    const [publication, { sentBytes }] = await withWholeCopy(context, checked, one =>
      publishOnce(context, one),
    );
    const { compression, ...facts } = { ...publication, sentBytes };
    const { resent } = context.output('start', started);
    return {
      output: facts,
      commit: async tx => {
        await tx.backups.markAvailable(request.backupId, { ...facts, compression }, run.id);
        if (resent.length > 0) await tx.backupDamage.markSent(request.backupId, resent);
        await noteMember(tx, context, { state: 'ready' });
      },
    };
  },
};

/**
 * A repository that has lost the copy, or finds it damaged, gets another one of the same moment. Where that is
 * interrupted, the next attempt asks for the lost one again, is refused, and goes on with the other.
 */
async function withWholeCopy<T>(
  context: Context,
  first: Copied,
  act: (whole: Copied) => Promise<T>,
): Promise<[T, Copied]> {
  let whole = first;
  for (let copies = 1; ; copies++) {
    try {
      return [await act(whole), whole];
    } catch (error) {
      const code = error instanceof TidemarkError ? error.code : undefined;
      const isLost = code === 'backup-not-found' || code === 'job-interrupted';
      if (!isLost && code !== 'image-invalid') throw error;
      if (copies >= context.limits.copiesMax) throw error;
      // Without its job the repository says itself what it still has.
      if (code === 'job-interrupted') continue;
      if (code === 'image-invalid') await discardTarget(context, 'discard-damaged');
      whole = await copyAgain(context);
    }
  }
}

async function checkOnce(context: Context, { targetUri, sentBytes }: Copied): Promise<void> {
  const { request, controls, call, stop } = context;
  const { backupId, repositoryId } = request;
  const job = await jobOf(context);
  const speedBytesPerSecond = controls.wanted.speedBytesPerSecond ?? 0;
  const wanted = { step: call('check'), repositoryId, backupId, targetUri, speedBytesPerSecond };
  await job.storageNode.repositories.startCheck(wanted, { signal: stop });
  // What was sent stays as it is told: nothing is sent by this.
  const update: Context['update'] = facts =>
    context.update({ ...facts, ...(facts.progress && { progress: { ...facts.progress, sentBytes } }) });
  await watchToEnd({ ...context, update }, job);
  await dismissJob(context, job, 'check');
}

async function jobOf({ request, run, storageNodes }: Context): Promise<WatchedJob> {
  const storageNode = await storageNodes.ofRepository(request.repositoryId);
  return { storageNode, jobId: `check-${run.id}` };
}

async function publishOnce(context: Context, { targetUri }: Copied) {
  const { request, storageNodes, catalog, call, stop } = context;
  const { backupId, repositoryId, checkpointId, checkpoint } = request;
  const [{ repositories }, { kind, reason, volumeName }] = await Promise.all([
    storageNodes.ofRepository(repositoryId),
    catalog.backups.get(backupId),
  ]);
  const { pointInTimeMs } = context.output('start', started);
  const manifest = { volumeName, checkpointId, checkpointName: checkpoint, pointInTimeMs, kind, reason };
  const { storedBytes, fileName, compression } = await repositories.publishBackup(
    { step: call('publish'), repositoryId, backupId, ...manifest, targetUri },
    { signal: stop, timeoutMs: PUBLISH_TIMEOUT_MS },
  );
  return { storedBytes, fileName, compression: compression || 'none' };
}
