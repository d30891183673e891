// A volume goes, with its export, its image and its checkpoints. Its backups stay.
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import type { RunDefinition } from './run-definition.ts';
import { tolerate } from './tolerate.ts';

export const deleteVolumeRun: RunDefinition<'delete-volume'> = {
  steps: [
    {
      name: 'delete',
      final: true,
      async run({ request: { volumeId, storageNodeId }, run, storageNodes, call, stop }) {
        const { volumes } = await storageNodes.get(storageNodeId);
        const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
        await tolerate(
          ['volume-not-found'],
          volumes.deleteVolume({ step: call('delete'), volumeId }, options),
        );
        return { commit: catalog => catalog.volumes.delete(volumeId, run.id) };
      },
    },
  ],
  result: ({ request }) => ({ volumeId: request.volumeId }),
  withdraw: (catalog, { request, run }) => catalog.volumes.unmarkDeleting(request.volumeId, run.id),
};
