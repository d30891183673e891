// A backup and its checkpoint: the same instant, made by one transaction of the storage node that owns the
// volume, copied into a repository on another.
import { TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { PUBLISH_TIMEOUT_MS } from '../limits.ts';
import { type Copied, copied, copy, copyAgain } from './backup-copy.ts';
import { endBackupJobs, releaseMoment } from './backup-moment.ts';
import { start, started } from './backup-start.ts';
import { discardTarget, prepareTarget } from './backup-target.ts';
import { dropCheckpoints, droppedBy, keepDropped } from './drop-checkpoints.ts';
import type { RunContext, RunDefinition, Step } from './run-definition.ts';

type Context = RunContext<'backup'>;

const published = z.object({ storedBytes: z.number(), fileName: z.string(), sentBytes: z.number() });

type Publication = z.output<typeof published> & { compression: string };

const publish: Step<'backup'> = {
  name: 'publish',
  final: true,
  patient: true,
  async run(context) {
    const { request, run } = context;
    const { compression, ...facts } = await publishWhole(context);
    const available = { ...facts, compression };
    const { resent } = context.output('start', started);
    return {
      output: facts,
      commit: async tx => {
        await tx.backups.markAvailable(request.backupId, available, run.id);
        if (resent.length > 0) await tx.backupDamage.markSent(request.backupId, resent);
      },
    };
  },
};

/**
 * A repository that has lost the copy, or finds it damaged, gets another one of the same moment. Where that is
 * interrupted, the next attempt asks for the lost one again, is refused, and goes on with the other.
 */
async function publishWhole(context: Context): Promise<Publication> {
  let whole = context.output('copy', copied);
  for (let copies = 1; ; copies++) {
    try {
      return { ...(await publishOnce(context, whole)), sentBytes: whole.sentBytes };
    } catch (error) {
      const code = error instanceof TidemarkError ? error.code : undefined;
      if (code !== 'backup-not-found' && code !== 'image-invalid') throw error;
      if (copies >= context.limits.copiesMax) throw error;
      if (code === 'image-invalid') await discardTarget(context, 'discard-damaged');
      whole = await copyAgain(context);
    }
  }
}

async function publishOnce(context: Context, { targetUri }: Copied) {
  const { request, storageNodes, catalog, call, stop } = context;
  const { backupId, repositoryId, checkpointId, checkpoint } = request;
  const { repositories } = await storageNodes.ofRepository(repositoryId);
  const { kind, reason, volumeName } = await catalog.backups.get(backupId);
  const { pointInTimeMs } = context.output('start', started);
  const manifest = { volumeName, checkpointId, checkpointName: checkpoint, pointInTimeMs, kind, reason };
  const { storedBytes, fileName, compression } = await repositories.publishBackup(
    { step: call('publish'), repositoryId, backupId, ...manifest, targetUri },
    { signal: stop, timeoutMs: PUBLISH_TIMEOUT_MS },
  );
  return { storedBytes, fileName, compression: compression || 'none' };
}

const finish: Step<'backup'> = {
  name: 'finish',
  final: true,
  // A storage node forgets ended jobs by itself; the backup is published.
  dispensable: true,
  async run(context) {
    await endBackupJobs(context, 'finish');
    await releaseMoment(context, 'finish');
    return {};
  },
};

export const backupRun: RunDefinition<'backup'> = {
  steps: [prepareTarget, start, copy, publish, dropCheckpoints, finish],
  result(context) {
    const { backupId, checkpointId } = context.request;
    // Who knows a target may write to it.
    const { targetUri: _, ...start } = context.output('start', started);
    const { restarts } = context.run;
    const ids = { backupId, checkpointId };
    return { ...ids, ...start, ...context.output('publish', published), restarts, ...droppedBy(context) };
  },
  async withdraw(catalog, context) {
    const { request, run } = context;
    await keepDropped(catalog, context);
    await catalog.backups.deleteUnfinished(request.backupId, run.id);
    await catalog.checkpoints.delete(request.checkpointId, run.id);
  },
};
