// An empty repository goes: folder and record on its storage node first, then its row.

import type { RunDefinition } from './run-definition.ts';
import { tolerate } from './tolerate.ts';

export const deleteRepositoryRun: RunDefinition<'delete-repository'> = {
  steps: [
    {
      name: 'delete',
      // What is on the storage node is gone then: nothing can be taken back.
      final: true,
      // It may be done already, though no answer came: only its storage node can tell.
      patient: true,
      async run({ request: { repositoryId, storageNodeId }, run, storageNodes, call, stop }) {
        const { repositories } = await storageNodes.get(storageNodeId);
        const wanted = { step: call('delete'), repositoryId };
        await tolerate(['repository-not-found'], repositories.deleteRepository(wanted, { signal: stop }));
        return { commit: catalog => catalog.repositories.delete(repositoryId, run.id) };
      },
    },
  ],
  result: ({ request }) => ({ repositoryId: request.repositoryId }),
  withdraw: (catalog, { request, run }) => catalog.repositories.markKept(request.repositoryId, run.id),
};
