// A new, empty repository on its storage node.
import type { RunDefinition } from './run-definition.ts';

export const createRepositoryRun: RunDefinition<'create-repository'> = {
  steps: [
    {
      name: 'create',
      async run({
        request: { repositoryId, name, storageNodeId, limitBytes, compression },
        run,
        storageNodes,
        call,
        stop,
      }) {
        const { repositories } = await storageNodes.get(storageNodeId);
        const wanted = { step: call('create'), repositoryId, name, limitBytes: limitBytes ?? 0, compression };
        await repositories.createRepository(wanted, { signal: stop });
        return { commit: catalog => catalog.repositories.markReady(repositoryId, run.id) };
      },
    },
  ],
  result: ({ request }) => ({ repositoryId: request.repositoryId }),
  withdraw: (catalog, { request, run }) => catalog.repositories.delete(request.repositoryId, run.id),
};
