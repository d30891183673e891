// A volume goes, with its export, its image and its checkpoints. Its backups stay.
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import type { RunDefinition, StepDone } from './run-definition.ts';
import { tolerate } from './tolerate.ts';

export const deleteVolumeRun: RunDefinition<'delete-volume'> = {
  steps: [
    {
      name: 'delete',
      final: true,
      // It may be done already, though no answer came: only its storage node can tell.
      patient: true,
      async run({ request: { volumeId, storageNodeId }, run, catalog: now, storageNodes, call, stop }) {
        const commit: StepDone['commit'] = catalog => catalog.volumes.delete(volumeId, run.id);
        // Nobody is there to be asked, and nobody will be.
        if ((await now.storageNodes.get(storageNodeId)).state === 'lost') return { commit };
        const { volumes } = await storageNodes.get(storageNodeId);
        const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
        await tolerate(
          ['volume-not-found'],
          volumes.deleteVolume({ step: call('delete'), volumeId }, options),
        );
        return { commit };
      },
    },
  ],
  result: ({ request }) => ({ volumeId: request.volumeId }),
  withdraw: (catalog, { request, run }) => catalog.volumes.unmarkDeleting(request.volumeId, run.id),
};
