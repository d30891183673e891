// A storage node is emptied of volumes: each moves, a few at a time, to where there is the most room. What cannot move
// stays and is named with its reason; so are the repositories, which never move.
import { chooseRoomiest, hasEnded, intendMove, type Volume } from '@tidemark/catalog';
import { z } from 'zod';
import { toTidemarkError } from '../errors.ts';
import { CHILD_RUNS_MAX } from '../limits.ts';
import { cancelChildren, childRunId, findChild, onBehalfOf } from './child-runs.ts';
import { nodesToChooseFrom, whyNowhere } from './placement-nodes.ts';
import { NotYet, type RunContext, type RunDefinition, type Step } from './run-definition.ts';

type Context = RunContext<'drain-storage-node'>;

const planned = z.object({ volumeIds: z.array(z.string()), repositories: z.array(z.string()) });
const drained = z.object({
  moved: z.array(z.object({ name: z.string(), to: z.string() })),
  stays: z.array(z.object({ name: z.string(), reason: z.string() })),
});

const cordon: Step<'drain-storage-node'> = {
  name: 'cordon',
  async run({ catalog, request: { storageNodeId } }) {
    await catalog.storageNodes.setCordoned(storageNodeId, true);
    const volumeIds: string[] = [];
    for (const volume of await catalog.volumes.listSelected([])) {
      if (volume.storageNodeId === storageNodeId) volumeIds.push(volume.id);
    }
    const repositories = await catalog.storageNodes.repositoryNames(storageNodeId);
    return { output: { volumeIds, repositories } };
  },
};

const move: Step<'drain-storage-node'> = {
  name: 'move',
  async run(context) {
    const { volumeIds } = context.output('cordon', planned);
    const { storageNodeId } = context.request;
    const moved: { name: string; to: string }[] = [];
    const stays: { name: string; reason: string }[] = [];
    let [underWay, waiting, doneBytes, totalBytes] = [0, 0, 0, 0];
    const promised = new Map<string, number>();
    for (const id of volumeIds) {
      const volume = await context.catalog.volumes.find(id);
      if (volume === null) continue;
      totalBytes += volume.sizeBytes;
      const child = await findChild(context, id);
      if ((child === null || hasEnded(child)) && volume.storageNodeId !== storageNodeId) {
        // By its run, or by somebody else's.
        doneBytes += volume.sizeBytes;
        moved.push({ name: volume.name, to: volume.storageNode });
      } else if (child === null && underWay >= CHILD_RUNS_MAX) waiting += 1;
      else if (child === null) {
        const reason = await begin(context, volume, promised);
        const now = reason === null ? volume : await context.catalog.volumes.find(id);
        if (reason === null) underWay += 1;
        // It was moved or deleted in between: the next look tells.
        else if (now?.storageNodeId !== storageNodeId) waiting += 1;
        else stays.push({ name: volume.name, reason });
      } else if (!hasEnded(child)) {
        underWay += 1;
        doneBytes += Math.min(child.progress.currentBytes, volume.sizeBytes);
        const to = child.storageNodeId ?? '';
        promised.set(to, (promised.get(to) ?? 0) + volume.sizeBytes);
      } else if (child.state === 'succeeded') {
        stays.push({ name: volume.name, reason: 'it was moved away, and somebody has moved it back' });
      } else stays.push({ name: volume.name, reason: child.error?.message ?? `its move was ${child.state}` });
    }
    await context.update({ progress: { currentBytes: doneBytes, totalBytes } });
    if (underWay + waiting > 0) {
      throw new NotYet(`${underWay + waiting} volumes are to move still`, context.limits.turnMs);
    }
    return { output: { moved, stays } };
  },
  async undo(context) {
    const plan = context.findOutput('cordon', planned);
    await cancelChildren(context, plan?.volumeIds ?? []);
  },
};

export const drainStorageNodeRun: RunDefinition<'drain-storage-node'> = {
  steps: [cordon, move],
  result(context) {
    const { moved, stays } = context.output('move', drained);
    const { repositories } = context.output('cordon', planned);
    return { state: stays.length === 0 ? 'complete' : 'incomplete', moved, stays, repositories };
  },
  withdraw: async () => {},
};

/** Why not; null: it moves. */
async function begin(
  context: Context,
  volume: Volume,
  promised: Map<string, number>,
): Promise<string | null> {
  const { catalog, run, request } = context;
  const { selector, storageNodeId, speedBytesPerSecond } = request;
  const nodes = await nodesToChooseFrom(context, { selector, without: storageNodeId });
  const target = chooseRoomiest(nodes, volume.sizeBytes, promised);
  if (target === null) return whyNowhere(nodes, selector);
  try {
    await catalog.transaction(async tx => {
      await intendMove(tx, childRunId(run.id, volume.id), {
        ...{ volume: volume.id, storageNode: target.id, ...onBehalfOf(context) },
        ...(speedBytesPerSecond !== null && { speedBytesPerSecond }),
      });
    });
  } catch (error) {
    const { code, message } = toTidemarkError(error);
    if (code === 'catalog-unavailable' || code === 'internal-error') throw error;
    return message;
  }
  promised.set(target.id, (promised.get(target.id) ?? 0) + volume.sizeBytes);
  return null;
}
