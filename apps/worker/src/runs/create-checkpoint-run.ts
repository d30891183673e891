// A checkpoint without a backup: writes from now on count as changed since it.
import { z } from 'zod';
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import { dropCheckpoints, droppedBy, keepDropped } from './drop-checkpoints.ts';
import type { RunDefinition } from './run-definition.ts';
import { tolerate } from './tolerate.ts';

const created = z.object({ pointInTimeMs: z.number() });

export const createCheckpointRun: RunDefinition<'create-checkpoint'> = {
  steps: [
    {
      name: 'create',
      async run({ request, run, storageNodes, call, stop }) {
        const { volumeId, checkpointId, name, description } = request;
        const { checkpoints } = await storageNodes.ofVolume(volumeId);
        const wanted = { step: call('create'), volumeId, checkpointId, name, description };
        const checkpoint = await checkpoints.createCheckpoint(wanted, { signal: stop });
        const pointInTime = new Date(checkpoint.createdAtMs);
        return {
          output: { pointInTimeMs: checkpoint.createdAtMs },
          facts: { checkpointAt: pointInTime },
          commit: catalog => catalog.checkpoints.markReady(checkpointId, pointInTime, run.id),
        };
      },
      async undo({ request: { volumeId, checkpointId }, storageNodes, call, stop }) {
        const { checkpoints } = await storageNodes.ofVolume(volumeId);
        const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
        const merge = checkpoints.deleteCheckpoint(
          { step: call('undo-create'), volumeId, checkpointId },
          options,
        );
        await tolerate(['checkpoint-not-found', 'volume-not-found'], merge);
      },
    },
    dropCheckpoints,
  ],
  result: context => ({
    checkpointId: context.request.checkpointId,
    ...context.output('create', created),
    ...droppedBy(context),
  }),
  async withdraw(catalog, context) {
    await catalog.checkpoints.delete(context.request.checkpointId, context.run.id);
    await keepDropped(catalog, context);
  },
};
