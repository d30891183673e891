// Name and description of a checkpoint are the catalog's, and new there already; the storage node's copy follows.
import type { CheckpointTexts } from '@tidemark/catalog';
import type { RunContext, RunDefinition } from './run-definition.ts';
import { tolerate } from './tolerate.ts';

type Context = RunContext<'update-checkpoint'>;

export const updateCheckpointRun: RunDefinition<'update-checkpoint'> = {
  steps: [
    {
      name: 'update',
      final: true,
      async run(context) {
        await tell(context, 'update', context.request);
        return {};
      },
      async undo(context) {
        const { request, catalog } = context;
        const row = await catalog.checkpoints.find(request.volumeId, request.checkpointId);
        if (row === null) return;
        // The catalog takes the texts back afterwards. What it says otherwise, it said later.
        const isOurs = row.name === request.name && row.description === request.description;
        const told = tell(context, 'undo-update', isOurs ? request.previous : row);
        await tolerate(['checkpoint-not-found', 'volume-not-found', 'checkpoint-name-taken'], told);
      },
    },
  ],
  result: ({ request: { checkpointId, name, description } }) => ({ checkpointId, name, description }),
  withdraw: (catalog, { request, run }) =>
    catalog.checkpoints.restoreTexts(request.checkpointId, request, request.previous, run.id),
};

async function tell(context: Context, step: string, { name, description }: CheckpointTexts): Promise<void> {
  const { request, storageNodes, call, stop } = context;
  const { volumeId, checkpointId } = request;
  const { checkpoints } = await storageNodes.ofVolume(volumeId);
  const wanted = { step: call(step), volumeId, checkpointId, name, description };
  await checkpoints.updateCheckpoint(wanted, { signal: stop });
}
