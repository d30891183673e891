// A storage node leaves the fleet. It is not asked: it may be gone for good, and it keeps its bytes.

import { CatalogError } from '@tidemark/catalog';
import type { RunDefinition } from './run-definition.ts';

export const removeStorageNodeRun: RunDefinition<'remove-storage-node'> = {
  steps: [
    {
      name: 'remove',
      final: true,
      run: async ({ request }) => ({
        commit: async catalog => {
          try {
            await catalog.storageNodes.delete(request.storageNodeId);
          } catch (error) {
            if (error instanceof CatalogError && error.kind === 'not-found') return;
            throw error;
          }
        },
      }),
    },
  ],
  result: ({ request }) => ({ storageNodeId: request.storageNodeId }),
  withdraw: async () => {},
};
