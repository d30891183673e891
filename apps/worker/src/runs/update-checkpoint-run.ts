// Name and description of a checkpoint are the catalog's, and new there already; the storage node's copy follows.
import type { RunDefinition } from './run-definition.ts';

export const updateCheckpointRun: RunDefinition<'update-checkpoint'> = {
  steps: [
    {
      name: 'update',
      final: true,
      async run({ request: { volumeId, checkpointId }, catalog, storageNodes, call, stop }) {
        // As it is now: of two changes in quick succession, the later one is told, whichever run comes last.
        const checkpoint = await catalog.checkpoints.find(volumeId, checkpointId);
        if (checkpoint === null) return {};
        const { name, description } = checkpoint;
        const { checkpoints } = await storageNodes.ofVolume(volumeId);
        const wanted = { step: call('update'), volumeId, checkpointId, name, description };
        await checkpoints.updateCheckpoint(wanted, { signal: stop });
        return {};
      },
    },
  ],
  result: ({ request: { checkpointId, name, description } }) => ({ checkpointId, name, description }),
  withdraw: (catalog, { request, run }) =>
    catalog.checkpoints.restoreTexts(request.checkpointId, request, request.previous, run.id),
};
