// A checkpoint goes: the storage node merges what it recorded into its predecessor.
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import type { RunDefinition } from './run-definition.ts';
import { tolerate } from './tolerate.ts';

export const deleteCheckpointRun: RunDefinition<'delete-checkpoint'> = {
  steps: [
    {
      name: 'merge',
      final: true,
      // It may be done already, though no answer came: only its storage node can tell.
      patient: true,
      async run({ request: { volumeId, checkpointId }, run, storageNodes, call, stop }) {
        const { checkpoints } = await storageNodes.ofVolume(volumeId);
        const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
        const merge = checkpoints.deleteCheckpoint({ step: call('merge'), volumeId, checkpointId }, options);
        await tolerate(['checkpoint-not-found'], merge);
        return { commit: catalog => catalog.checkpoints.delete(checkpointId, run.id) };
      },
    },
  ],
  result: ({ request }) => ({ checkpointId: request.checkpointId }),
  withdraw: (catalog, { request, run }) => catalog.checkpoints.unmarkDeleting(request.checkpointId, run.id),
};
