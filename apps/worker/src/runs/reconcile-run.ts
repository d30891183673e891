// A storage node compared with the catalog: what differs is kept by name, and repaired where that is safe.
import { randomUUID } from 'node:crypto';
import type { SeenDifference } from '@tidemark/catalog';
import { z } from 'zod';
import { isSuperseded, toRunError } from '../errors.ts';
import { DIFFERENCE_KINDS, type FoundDifference } from '../reconcile/found-difference.ts';
import { type Look, lookTwice } from '../reconcile/look.ts';
import { repair } from '../reconcile/repair.ts';
import type { RunContext, RunDefinition, Step } from './run-definition.ts';

const compared = z.object({ found: z.number(), repaired: z.number(), open: z.number() });

const compareAndRepair: Step<'reconcile'> = {
  name: 'compare',
  async run(context) {
    const { catalog, run, request } = context;
    const { storageNodeId } = request;
    const clients = await context.storageNodes.get(storageNodeId);
    const { limits, stop: signal } = context;
    const look = await lookTwice({ catalog, clients, storageNodeId, limits, signal });
    const seen = look.found.map(toSeen);
    const newId = () => randomUUID();
    const rows = await catalog.differences.record(storageNodeId, seen, { runId: run.id, newId });
    let repaired = 0;
    for (const [index, found] of look.found.entries()) {
      context.cancel.throwIfAborted();
      const isRepaired = await settle(context, look, found, rows[index]!.id);
      if (isRepaired) repaired += 1;
    }
    return { output: { found: rows.length, repaired, open: rows.length - repaired } };
  },
};

export const reconcileRun: RunDefinition<'reconcile'> = {
  steps: [compareAndRepair],
  result: context => ({
    storageNodeId: context.request.storageNodeId,
    ...context.output('compare', compared),
  }),
  withdraw: async () => {},
};

const toSeen = ({ kind, subjectId, message, actions, facts }: FoundDifference): SeenDifference => ({
  ...{ kind, subjectId, message },
  subjectType: DIFFERENCE_KINDS[kind].about,
  data: { ...facts, actions: [...actions] },
});

/** Whether it was repaired. One that cannot be repaired does not keep the others from it. */
async function settle(
  context: RunContext<'reconcile'>,
  look: Look,
  found: FoundDifference,
  differenceId: string,
): Promise<boolean> {
  const { catalog, run, storageNodes, request, reportOnly } = context;
  // Whatever is decided about it: nothing may build on it or read it until it is there again.
  if (found.kind === 'backup-missing') await catalog.adoption.markBackupMissing(found.subjectId, run.id);
  if (found.safe === null || reportOnly.has(found.kind)) return false;
  const { storageNodeId } = request;
  const clients = await storageNodes.get(storageNodeId);
  try {
    await repair({ context, storageNodeId, clients, look, found }, found.safe);
  } catch (error) {
    context.stop.throwIfAborted();
    if (isSuperseded(error)) throw error;
    const { code, message } = toRunError(error);
    await catalog.differences.noteFailure(differenceId, `${found.safe}: ${code}: ${message}`);
    return false;
  }
  await catalog.differences.markRepaired(differenceId, found.safe, run.id);
  return true;
}
