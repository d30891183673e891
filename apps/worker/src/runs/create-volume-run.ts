// A new, empty volume on its storage node.
import { z } from 'zod';
import type { RunDefinition } from './run-definition.ts';
import { tolerate } from './tolerate.ts';

const created = z.object({ exportUri: z.string(), sizeBytes: z.number() });

export const createVolumeRun: RunDefinition<'create-volume'> = {
  steps: [
    {
      name: 'create',
      async run({ request, run, storageNodes, call, stop }) {
        const { volumeId, name, sizeBytes, format } = request;
        const { volumes } = await storageNodes.get(request.storageNodeId);
        const wanted = { step: call('create'), volumeId, name, sizeBytes, format };
        const volume = await volumes.createVolume(wanted, { signal: stop });
        const facts = { exportUri: volume.exportUri, sizeBytes: volume.sizeBytes };
        return { output: facts, commit: catalog => catalog.volumes.markReady(volumeId, facts, run.id) };
      },
      async undo({ request: { volumeId, storageNodeId }, storageNodes, call, stop }) {
        const { volumes } = await storageNodes.get(storageNodeId);
        const remove = volumes.deleteVolume({ step: call('undo-create'), volumeId }, { signal: stop });
        await tolerate(['volume-not-found'], remove);
      },
    },
  ],
  result: context => ({ volumeId: context.request.volumeId, ...context.output('create', created) }),
  withdraw: (catalog, { request, run }) => catalog.volumes.delete(request.volumeId, run.id),
};
