// A group goes, with its checkpoints and backups: the intent has marked the checkpoints, and hidden the backups with a
// prune run that takes them out of their chains.
import { hasEnded } from '@tidemark/catalog';
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import { NotYet, type RunContext, type RunDefinition, type Step } from './run-definition.ts';
import { tolerate } from './tolerate.ts';

type Context = RunContext<'delete-group'>;

const waitForPrune: Step<'delete-group'> = {
  name: 'wait-for-prune',
  final: true,
  patient: true,
  appliesTo: ({ request }) => request.pruneRunId !== null,
  async run({ request, catalog, limits }) {
    const prune = await catalog.runs.find(request.pruneRunId!);
    if (prune === null || hasEnded(prune)) return {};
    throw new NotYet(`prune run ${prune.id} takes out its backups`, limits.turnMs);
  },
};

const mergeCheckpoints: Step<'delete-group'> = {
  name: 'merge-checkpoints',
  final: true,
  patient: true,
  async run(context) {
    const { request, run, catalog } = context;
    for (const checkpoint of request.checkpoints) {
      await merge(context, checkpoint);
      // Each by itself: where a later one cannot go, this one is not said to be there again.
      await catalog.checkpoints.delete(checkpoint.checkpointId, run.id);
    }
    return { commit: tx => tx.groups.delete(request.groupId, run.id) };
  },
};

async function merge(
  { catalog, storageNodes, call, stop }: Context,
  { volumeId, checkpointId }: Context['request']['checkpoints'][number],
): Promise<void> {
  // With its volume it is gone.
  if ((await catalog.volumes.find(volumeId)) === null) return;
  const { checkpoints } = await storageNodes.ofVolume(volumeId);
  const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
  const wanted = { step: call(`merge ${checkpointId}`), volumeId, checkpointId };
  await tolerate(['checkpoint-not-found', 'volume-not-found'], checkpoints.deleteCheckpoint(wanted, options));
}

export const deleteGroupRun: RunDefinition<'delete-group'> = {
  steps: [waitForPrune, mergeCheckpoints],
  result: ({ request }) => ({ groupId: request.groupId }),
  async withdraw(catalog, { request, run }) {
    for (const { checkpointId } of request.checkpoints) {
      await catalog.checkpoints.unmarkDeleting(checkpointId, run.id);
    }
    await catalog.groups.unmarkDeleting(request.groupId, request.previousState, run.id);
  },
};
