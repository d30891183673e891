// Backups leave their chains, and checkpoints that have lost their last backup follow. What has gone stays gone; what
// cannot go yet stays hidden, and the next prune of the repository tries again.
import { planChain } from '@tidemark/catalog';
import { type StorageNodeClients, type StoredBackup, TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { JobFailed } from '../errors.ts';
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import type { RunContext, RunDefinition, Step } from './run-definition.ts';
import { tolerate } from './tolerate.ts';
import { dismissJob, endJob, watchToEnd } from './watch-job.ts';

type Context = RunContext<'prune'>;

const removal = z.object({
  removed: z.array(z.object({ backup: z.string(), freedBytes: z.number() })),
  waiting: z.array(z.object({ backup: z.string(), why: z.string() })),
});
const merged = z.object({ checkpoints: z.array(z.object({ id: z.string(), name: z.string() })) });

/** Removed before the plan is made anew: reading a large repository's rows for each backup would take hours. */
const PLANNED_AT_ONCE = 100;
/** A storage node that ends with every removal is not to be asked for ever. */
const INTERRUPTIONS_MAX = 5;

const remove: Step<'prune'> = {
  name: 'remove',
  // What was copied so far is too dear, and what is hidden stays hidden.
  patient: true,
  async run(context) {
    const { catalog, run } = context;
    const refused = new Map<string, string>();
    const failures: JobFailed[] = [];
    for (;;) {
      const { removals, waits } = planChain(await links(context, refused));
      for (const { id } of removals.slice(0, PLANNED_AT_ONCE)) {
        context.stop.throwIfAborted();
        context.cancel.throwIfAborted();
        const why = await removeOne(context, id).catch(error => notRemoved(context, { error, failures }));
        if (why === null) continue;
        refused.set(id, why);
        break;
      }
      if (removals.length > 0) continue;
      // The others have gone nonetheless: one damaged backup keeps no repository from being pruned.
      if (failures[0] !== undefined) throw failures[0];
      const waiting = [...waits].map(([backup, why]) => ({ backup, why: refused.get(backup) ?? why }));
      const gone = await catalog.retention.removedBy(run.id);
      const removed = gone.map(({ id: backup, freedBytes }) => ({ backup, freedBytes }));
      return { output: { removed, waiting } };
    }
  },
  undo: settle,
};

const dropCheckpoints: Step<'prune'> = {
  name: 'drop-checkpoints',
  final: true,
  // Its storage node may be away while the repository's is not; the next prune finds what is left.
  dispensable: true,
  async run(context) {
    const { catalog, request, run, storageNodes, call, stop } = context;
    const dropped: { id: string; name: string }[] = [];
    for (const volumeId of request.volumeIds) {
      for (const { id, name } of await catalog.retention.unusedCheckpoints([volumeId])) {
        const { checkpoints } = await storageNodes.ofVolume(volumeId);
        const step = call(`drop-${id}`);
        const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
        const gone = checkpoints.deleteCheckpoint({ step, volumeId, checkpointId: id }, options);
        await tolerate(['checkpoint-not-found'], gone);
        await catalog.checkpoints.delete(id, run.id);
        dropped.push({ id, name });
      }
    }
    return { output: { checkpoints: dropped } };
  },
};

export const pruneRun: RunDefinition<'prune'> = {
  steps: [remove, dropCheckpoints],
  result(context) {
    const { removed, waiting } = context.output('remove', removal);
    const { checkpoints } = context.findOutput('drop-checkpoints', merged) ?? { checkpoints: [] };
    const freedBytes = removed.reduce((sum, item) => sum + item.freedBytes, 0);
    return { removed, waiting, checkpoints, freedBytes };
  },
  // `settle` has asked the repository what became of each.
  withdraw: async () => {},
};

/** Why it has to wait, where a job said so. Rejects with everything else. */
function notRemoved(
  { stop, cancel }: Context,
  { error, failures }: { error: unknown; failures: JobFailed[] },
): string {
  stop.throwIfAborted();
  cancel.throwIfAborted();
  if (!(error instanceof JobFailed) || error.code === 'job-interrupted') throw error;
  failures.push(error);
  return error.message;
}

/** The repository's backups; what was refused in this run counts as in use. */
async function links({ catalog, request }: Context, refused: ReadonlyMap<string, string>) {
  const rows = await catalog.retention.backups(request.repositoryId);
  return rows.map(({ id, state, holders, ...row }) => {
    const why = refused.get(id);
    const goes = state === 'hidden' || state === 'removing';
    return { ...row, id, goes, holders: why === undefined ? holders : [...holders, why] };
  });
}

/** Null when it is gone, else why it has to wait. */
async function removeOne(context: Context, backupId: string): Promise<string | null> {
  const { catalog, request, run, storageNodes, call, stop } = context;
  const { repositoryId } = request;
  const storageNode = await storageNodes.ofRepository(repositoryId);
  await catalog.retention.markRemoving(backupId, run.id);
  for (let attempt = 1; ; attempt++) {
    try {
      const speedBytesPerSecond = request.speedBytesPerSecond ?? 0;
      const step = call(`remove-${backupId}`);
      const wanted = { step, repositoryId, backupId, speedBytesPerSecond };
      const { jobId } = await storageNode.repositories.startRemoval(wanted, {
        signal: stop,
        timeoutMs: LONG_CALL_TIMEOUT_MS,
      });
      await watchToEnd(context, { storageNode, jobId });
      await finish(context, backupId, storageNode);
      await dismissJob(context, { storageNode, jobId }, `dismiss-${backupId}`);
      return null;
    } catch (error) {
      const code = error instanceof TidemarkError ? error.code : undefined;
      if (code === 'backup-in-use') {
        await catalog.retention.markHidden(backupId, run.id);
        return (error as TidemarkError).message;
      }
      if (code === 'backup-not-found') {
        // Its answer got lost, or the storage node ended it by itself when it started.
        await finish(context, backupId, storageNode);
        return null;
      }
      const isInterrupted = error instanceof JobFailed && code === 'job-interrupted';
      if (!isInterrupted || attempt === INTERRUPTIONS_MAX) throw error;
    }
  }
}

async function stored(
  context: Context,
  { repositories }: StorageNodeClients,
): Promise<Map<string, StoredBackup>> {
  const { repositoryId } = context.request;
  const { backups } = await repositories.listBackups({ repositoryId }, { signal: context.stop });
  return new Map(backups.map(backup => [backup.backupId, backup]));
}

/** The row goes, and those that stood on it are as the repository has them. */
async function finish(
  context: Context,
  backupId: string,
  { repositories }: StorageNodeClients,
): Promise<void> {
  const { catalog, request, run, stop } = context;
  const children: StoredBackup[] = [];
  for (const childId of await catalog.retention.childrenOf(backupId)) {
    const wanted = { repositoryId: request.repositoryId, backupId: childId };
    const get = repositories.getBackup(wanted, { signal: stop }).then(child => children.push(child));
    await tolerate(['backup-not-found'], get);
  }
  const facts = children.map(child => ({
    id: child.backupId,
    parentId: child.parentBackupId === '' ? null : child.parentBackupId,
    kind: child.kind,
    reason: child.reason,
    storedBytes: child.storedBytes,
  }));
  await catalog.retention.finish(backupId, facts, run.id);
}

/** Ends what is under way, and takes over what the repository says of each backup that was to go. */
async function settle(context: Context): Promise<void> {
  const { catalog, request, run, storageNodes } = context;
  const storageNode = await storageNodes.ofRepository(request.repositoryId);
  const rows = await catalog.retention.backups(request.repositoryId);
  const leaving = rows.filter(({ state }) => state === 'hidden' || state === 'removing');
  for (const { id } of leaving.filter(({ state }) => state === 'removing')) {
    const job = { storageNode, jobId: `removal-${id}` };
    await endJob(context, job, `end-${id}`);
    await dismissJob(context, job, `dismiss-${id}`);
  }
  const found = await stored(context, storageNode);
  const own = new Set(request.backupIds);
  for (const { id } of leaving) {
    const backup = found.get(id);
    if (backup === undefined) await finish(context, id, storageNode);
    else if (backup.hidden) await catalog.retention.markHidden(id, run.id);
    else if (own.has(id)) await catalog.retention.unhide(id, run.id);
  }
}
