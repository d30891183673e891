// Backups leave their chains, and checkpoints that have lost their last backup follow. What has gone stays gone; what
// cannot go yet stays hidden, and the next prune of the repository tries again.
import { planChain } from '@tidemark/catalog';
import { type StorageNodeClients, type StoredBackup, TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { JobFailed } from '../errors.ts';
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import { NotYet, type RunContext, type RunDefinition, type Step } from './run-definition.ts';
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

const turn: Step<'prune'> = {
  // The name by which the catalog knows whose turn it is.
  name: 'turn',
  async run(context) {
    const { catalog, request, run, limits } = context;
    const { repositoryId } = request;
    const wait = async (other: string): Promise<never> => {
      const reason = `after prune run ${other}, which works on the same repository`;
      await context.update({ reason });
      throw new NotYet(reason, limits.turnMs);
    };
    const other = await catalog.retention.turnHolder(repositoryId, run.id);
    if (other !== null) await wait(other);
    return {
      commit: async tx => {
        const holder = await tx.retention.lockTurn(repositoryId, run.id);
        if (holder !== null) throw new NotYet(`prune run ${holder} was faster`, limits.turnMs);
      },
    };
  },
  // Whatever was begun was begun after it.
  undo: context =>
    context.findOutput('turn', z.object({})) === undefined ? Promise.resolve() : settle(context),
};

const remove: Step<'prune'> = {
  name: 'remove',
  // What was copied so far is too dear, and what is hidden stays hidden.
  patient: true,
  async run(context) {
    const { catalog, run } = context;
    const refused = new Map<string, string>();
    const failures: JobFailed[] = [];
    await finishGone(context, { refused, failures });
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
  steps: [turn, remove, dropCheckpoints],
  result(context) {
    const { removed, waiting } = context.output('remove', removal);
    const { checkpoints } = context.findOutput('drop-checkpoints', merged) ?? { checkpoints: [] };
    const freedBytes = removed.reduce((sum, item) => sum + item.freedBytes, 0);
    return { removed, waiting, checkpoints, freedBytes };
  },
  async withdraw(catalog, context) {
    // Once it had its turn, `settle` has asked the repository what became of each.
    if (context.findOutput('turn', z.object({})) !== undefined) return;
    await catalog.retention.withdrawPrune(context.request.repositoryId, context.run.id);
  },
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
async function links(context: Context, refused: ReadonlyMap<string, string>) {
  const { rows, leaving } = await look(context);
  const going = new Set(leaving.map(({ id }) => id));
  return rows.map(({ id, holders, ...row }) => {
    const why = refused.get(id);
    return { ...row, id, goes: going.has(id), holders: why === undefined ? holders : [...holders, why] };
  });
}

/** All backups of the repository, and those that this run takes out: its own, and what earlier ones had to leave. */
async function look({ catalog, request, run }: Context) {
  const { repositoryId } = request;
  const others = await catalog.retention.claimedByOthers(repositoryId, run.id);
  const own = new Set(request.backupIds);
  const rows = await catalog.retention.backups(repositoryId);
  const leaving = rows
    .filter(({ state }) => state === 'hidden' || state === 'removing')
    .filter(({ id }) => own.has(id) || !others.has(id));
  return { rows, leaving, others };
}

/**
 * Rows of what has left its repository already, without an answer that was heard: by what is in use now they would
 * wait.
 */
async function finishGone(
  context: Context,
  { refused, failures }: { refused: Map<string, string>; failures: JobFailed[] },
): Promise<void> {
  const storageNode = await context.storageNodes.ofRepository(context.request.repositoryId);
  const found = await stored(context, storageNode);
  for (const { id } of (await look(context)).leaving) {
    if (found.has(id)) continue;
    try {
      await finish(context, id, storageNode);
      const dismissed = dismissJob(context, { storageNode, jobId: `removal-${id}` }, `dismiss-${id}`);
      // It may be about to conclude.
      await tolerate(['job-state'], dismissed);
    } catch (error) {
      refused.set(id, notRemoved(context, { error, failures }));
    }
  }
}

/** Null when it is gone, else why it has to wait. */
async function removeOne(context: Context, backupId: string): Promise<string | null> {
  const { catalog, request, run, storageNodes, call, stop } = context;
  const { repositoryId } = request;
  const storageNode = await storageNodes.ofRepository(repositoryId);
  if (!(await catalog.retention.markRemoving(backupId, run.id))) return 'it is no longer to go';
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

/**
 * The row goes, and those that stood on it are as the repository has them. Rejects with `JobFailed` where that cannot
 * tell what one of them stands on now.
 */
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
    if (children.at(-1)?.backupId !== childId || children.at(-1)!.parentBackupId === backupId) {
      throw childLeft(backupId, childId);
    }
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

function childLeft(backupId: string, childId: string): JobFailed {
  return new JobFailed(
    'image-invalid',
    `The repository has no manifest of backup ${backupId} that can be read, and backup ${childId} stands on it ` +
      'still, or cannot be read either: neither row goes. Put the manifest back, then prune again.',
  );
}

/** Ends what is under way, and takes over what the repository says of each backup that was to go. */
async function settle(context: Context): Promise<void> {
  const { catalog, request, run, storageNodes } = context;
  const storageNode = await storageNodes.ofRepository(request.repositoryId);
  const { leaving, others } = await look(context);
  for (const { id } of leaving.filter(({ state }) => state === 'removing')) {
    const job = { storageNode, jobId: `removal-${id}` };
    await endJob(context, job, `end-${id}`);
    await dismissJob(context, job, `dismiss-${id}`);
  }
  const found = await stored(context, storageNode);
  const own = new Set(request.backupIds);
  for (const { id } of leaving) {
    const backup = found.get(id);
    if (backup === undefined) {
      const isGone = await finish(context, id, storageNode).then(() => true, isUnreadable);
      if (!isGone) await catalog.retention.markHidden(id, run.id);
    } else if (backup.hidden || others.has(id)) await catalog.retention.markHidden(id, run.id);
    else if (own.has(id)) await catalog.retention.unhide(id, run.id);
  }
}

/** False; rejects with every other error. */
function isUnreadable(error: unknown): false {
  if (error instanceof JobFailed) return false;
  throw error;
}
