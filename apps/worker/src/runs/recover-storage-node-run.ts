// A storage node is lost for good: each of its volumes is restored elsewhere, under its id and name, from the newest
// backup that can be restored, and the result says of each from which, how old that is, and what is lost with it.
import { chooseRoomiest, hasEnded, type LostVolume, type Run } from '@tidemark/catalog';
import { z } from 'zod';
import { toTidemarkError } from '../errors.ts';
import { CHILD_RUNS_MAX } from '../limits.ts';
import { childRunId, findChild, onBehalfOf } from './child-runs.ts';
import { nodesToChooseFrom, whyNowhere } from './placement-nodes.ts';
import { NotYet, type RunContext, type RunDefinition, type Step } from './run-definition.ts';

type Context = RunContext<'recover-storage-node'>;

const lost = z.object({
  volumes: z.array(
    z.object({ id: z.string(), name: z.string(), sizeBytes: z.number(), format: z.enum(['raw', 'qcow2']) }),
  ),
  repositories: z.array(z.string()),
});
const reportSchema = z.object({
  volumeId: z.string(),
  name: z.string(),
  state: z.enum(['restored', 'lost']),
  storageNode: z.string().nullable(),
  backupId: z.string().nullable(),
  repository: z.string().nullable(),
  pointInTime: z.string().nullable(),
  /** When the recovery was asked for, how long ago that was. */
  ageMs: z.number().nullable(),
  /** What is lost, in words. */
  lost: z.string(),
});
type Report = z.output<typeof reportSchema>;
/** Of one volume: how it ended, or that a run restores it, or that another run is to end first. */
type Stand = Report | 'under way' | 'waits';
const restored = z.object({ volumes: z.array(reportSchema) });

const list: Step<'recover-storage-node'> = {
  name: 'list',
  async run({ catalog, request: { storageNodeId } }) {
    const volumes = await catalog.losses.lostVolumes(storageNodeId);
    const repositories = await catalog.storageNodes.repositoryNames(storageNodeId);
    return { output: { volumes: volumes.map(volume => ({ ...volume })), repositories } };
  },
};

const restore: Step<'recover-storage-node'> = {
  name: 'restore',
  final: true,
  patient: true,
  async run(context) {
    const { volumes } = context.output('list', lost);
    const reports: Report[] = [];
    const promised = new Map<string, number>();
    let [underWay, waiting] = [0, 0];
    for (const volume of volumes) {
      const child = await findChild(context, volume.id);
      if (child === null && underWay >= CHILD_RUNS_MAX) {
        waiting += 1;
        continue;
      }
      const now =
        child === null ? await begin(context, volume, promised) : await reportOf(context, volume, child);
      if (now === 'under way') underWay += 1;
      else if (now === 'waits') waiting += 1;
      else reports.push(now);
    }
    const open = underWay + waiting;
    if (open > 0) throw new NotYet(`${open} volumes are to be restored still`, context.limits.turnMs);
    return { output: { volumes: reports } };
  },
};

export const recoverStorageNodeRun: RunDefinition<'recover-storage-node'> = {
  steps: [list, restore],
  result(context) {
    const { volumes } = context.output('restore', restored);
    const isComplete = volumes.every(({ state }) => state === 'restored');
    const { repositories } = context.output('list', lost);
    return { state: isComplete ? 'complete' : 'incomplete', volumes, repositories };
  },
  withdraw: async () => {},
};

const stillLost = ({ id, name }: LostVolume, why: string): Report => ({
  ...{ volumeId: id, name, state: 'lost', storageNode: null, backupId: null, repository: null },
  ...{ pointInTime: null, ageMs: null, lost: `all of it: ${why}` },
});

async function begin(context: Context, volume: LostVolume, promised: Map<string, number>): Promise<Stand> {
  const { catalog } = context;
  // It was asked to end: what it made elsewhere is gone by then, or is the volume, moved to safety.
  if ((await catalog.losses.unendedRun(volume.id)) !== null) return 'waits';
  const now = await catalog.volumes.find(volume.id);
  if (now === null) return stillLost(volume, 'it was deleted meanwhile');
  if (now.state !== 'lost') {
    const { storageNode } = now;
    const text = `nothing by this run: it is on storage node '${storageNode}' already, see the runs of the volume`;
    return { ...stillLost(volume, ''), state: 'restored', storageNode, lost: text };
  }
  try {
    return await restoreElsewhere(context, volume, promised);
  } catch (error) {
    // One volume that is refused does not keep the others from coming back.
    const { code, message } = toTidemarkError(error);
    if (code === 'catalog-unavailable' || code === 'internal-error') throw error;
    return stillLost(volume, message);
  }
}

async function restoreElsewhere(
  context: Context,
  volume: LostVolume,
  promised: Map<string, number>,
): Promise<Stand> {
  const { catalog, run, request } = context;
  const { best, why } = await catalog.losses.bestBackup(volume.id);
  if (best === null) return stillLost(volume, why);
  const { storageNodeId: from, selector, instant: isInstant } = request;
  const nodes = await nodesToChooseFrom(context, { selector, without: from });
  const target = chooseRoomiest(nodes, best.sizeBytes, promised);
  if (target === null) return stillLost(volume, whyNowhere(nodes, selector));
  promised.set(target.id, (promised.get(target.id) ?? 0) + best.sizeBytes);
  const id = childRunId(run.id, volume.id);
  await catalog.transaction(async tx => {
    await tx.backupLeases.take(best.id, 'run', id);
    if (isInstant) await tx.backupLeases.take(best.id, 'volume', volume.id);
    const wanted = { volume, backup: best, from, to: target.id, isInstant };
    const asked = await tx.losses.beginRestore(id, wanted);
    const ids = { volumeId: volume.id, repositoryId: best.repositoryId, backupId: best.id };
    const facts = { ...ids, ...onBehalfOf(context) };
    await tx.runs.create({ id, kind: 'restore', storageNodeId: target.id, ...facts, request: asked });
  });
  return 'under way';
}

/** A volume that is instant is there long before its run ends. */
async function reportOf({ catalog, run }: Context, volume: LostVolume, child: Run): Promise<Stand> {
  const now = await catalog.volumes.find(volume.id);
  if (now?.state !== 'ready') {
    if (!hasEnded(child)) return 'under way';
    return stillLost(volume, child.error?.message ?? `its restore was ${child.state}`);
  }
  // Once it has been restored, retention may have taken it.
  const backup = await catalog.backups.find(child.backupId!);
  const repository = backup && (await catalog.repositories.get(backup.repositoryId)).name;
  const pointInTime = backup?.pointInTime ?? null;
  const since = pointInTime?.toISOString() ?? 'an unknown moment';
  const damaged =
    child.result?.damage == null ? '' : '; and what of the backup could not be read: see its run';
  return {
    ...{ volumeId: volume.id, name: volume.name, state: 'restored', storageNode: now.storageNode },
    ...{ backupId: child.backupId, repository, pointInTime: pointInTime?.toISOString() ?? null },
    ageMs: pointInTime === null ? null : run.createdAt.getTime() - pointInTime.getTime(),
    lost: `what was written since ${since}, its checkpoints and its snapshots${damaged}`,
  };
}
