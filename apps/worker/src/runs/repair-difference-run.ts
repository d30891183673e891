// A repair that somebody decided on. The difference is looked at once more first: it may be gone.
import { TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { lookOnce } from '../reconcile/look.ts';
import { repair } from '../reconcile/repair.ts';
import type { RunDefinition, Step } from './run-definition.ts';

const repaired = z.object({ state: z.enum(['repaired', 'gone']) });

const repairIt: Step<'repair-difference'> = {
  name: 'repair',
  async run(context) {
    const { catalog, run, request, storageNodes, limits, stop: signal } = context;
    const { differenceId, storageNodeId, action } = request;
    const difference = await catalog.differences.get(differenceId);
    if (difference.state !== 'open') return { output: { state: difference.state } };
    const clients = await storageNodes.get(storageNodeId);
    const look = await lookOnce({ catalog, clients, storageNodeId, limits, signal });
    const found = look.found.find(
      ({ kind, subjectId }) => kind === difference.kind && subjectId === difference.subjectId,
    );
    if (!found) throw notSeenNow(difference.kind, differenceId);
    await repair({ context, storageNodeId, clients, look, found }, action);
    return {
      output: { state: 'repaired' },
      commit: tx => tx.differences.markRepaired(differenceId, action, run.id),
    };
  },
};

export const repairDifferenceRun: RunDefinition<'repair-difference'> = {
  steps: [repairIt],
  result: context => ({
    differenceId: context.request.differenceId,
    action: context.request.action,
    ...context.output('repair', repaired),
  }),
  withdraw: async () => {},
};

function notSeenNow(kind: string, id: string): TidemarkError {
  return new TidemarkError(
    'difference-not-found',
    `Difference ${id} (${kind}) is not there at this moment: it is gone, or a run works on what it is about. Compare ` +
      'again to see (POST /v1/reconcile).',
  );
}
