// A storage node joins the fleet once it has answered.
import { soundLabels } from '@tidemark/proto';
import type { RunDefinition } from './run-definition.ts';

export const registerStorageNodeRun: RunDefinition<'register-storage-node'> = {
  steps: [
    {
      name: 'contact',
      async run({ request, storageNodes, stop, limits }) {
        const storageNode = await storageNodes.get(request.storageNodeId);
        const options = { signal: stop, timeoutMs: limits.statusTimeoutMs };
        const status = await storageNode.storageNode.getStatus({}, options);
        const { instanceId, nbdAddress, version, capacityBytes, availableBytes } = status;
        const facts = { instanceId, nbdAddress, version, capacityBytes, availableBytes };
        const report = { ...facts, labels: soundLabels(status.labels) };
        return {
          output: facts,
          commit: async catalog => {
            await catalog.storageNodes.markOnline(request.storageNodeId, report);
          },
        };
      },
    },
  ],
  result: ({ request }) => ({ storageNodeId: request.storageNodeId }),
  withdraw: (catalog, { request }) => catalog.storageNodes.deleteJoining(request.storageNodeId),
};
