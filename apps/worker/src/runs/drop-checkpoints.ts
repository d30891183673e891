// The checkpoints that go for a new one: the last thing that a run does, when the new one cannot be lost any more.
// One that the storage node does not let go of stays, and the result says so; it fails no run.
import type { CatalogTransaction } from '@tidemark/catalog';
import { TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { isWorthRetrying } from '../errors.ts';
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import type { RunContext, Step } from './run-definition.ts';
import { tolerate } from './tolerate.ts';

/** `create-group`: of each of its volumes. */
type DroppingKind = 'create-checkpoint' | 'backup' | 'export' | 'create-group';
type Context = RunContext<DroppingKind>;

const checkpoint = z.object({
  id: z.string(),
  name: z.string(),
  /** Of a group's: the volume that it was of. */
  volume: z.string().optional(),
});
const outcome = z.object({
  dropped: z.array(checkpoint),
  notDropped: z.array(checkpoint.extend({ reason: z.string() })),
});

type Outcome = z.output<typeof outcome>;

const STEP = 'drop-checkpoints';

export const dropCheckpoints = {
  name: STEP,
  final: true,
  patient: true,
  async run(context: Context) {
    const { run } = context;
    const { dropped, notDropped }: Outcome = { dropped: [], notDropped: [] };
    for (const { id, volumeId, ...of } of toDrop(context)) {
      const row = await context.catalog.checkpoints.find(volumeId, id);
      if (row === null) continue;
      const reason = await drop(context, { volumeId, checkpointId: id });
      if (reason === null) dropped.push({ id, name: row.name, ...of });
      else notDropped.push({ id, name: row.name, ...of, reason });
    }
    return {
      output: { dropped, notDropped },
      commit: async catalog => {
        for (const { id } of dropped) await catalog.checkpoints.delete(id, run.id);
        for (const { id } of notDropped) await catalog.checkpoints.unmarkDeleting(id, run.id);
      },
    };
  },
} satisfies Step<DroppingKind>;

/** For the run's result. */
export function droppedBy(context: Context): Outcome {
  return context.findOutput(STEP, outcome) ?? { dropped: [], notDropped: [] };
}

/** For the withdrawal of a run that failed: what it has not dropped stays. */
export async function keepDropped(catalog: CatalogTransaction, context: Context): Promise<void> {
  for (const { id } of toDrop(context)) await catalog.checkpoints.unmarkDeleting(id, context.run.id);
}

interface ToDrop {
  readonly id: string;
  readonly volumeId: string;
  readonly volume?: string;
}

function toDrop({ request }: Context): ToDrop[] {
  if (!('members' in request)) {
    return request.dropCheckpointIds.map(id => ({ id, volumeId: request.volumeId }));
  }
  return request.members.flatMap(({ volumeId, volume, dropCheckpointIds }) =>
    dropCheckpointIds.map(id => ({ id, volumeId, volume })),
  );
}

/** Null when it is gone, else why it is not. Rejects while another try may help. */
async function drop(
  context: Context,
  { volumeId, checkpointId }: { volumeId: string; checkpointId: string },
): Promise<string | null> {
  const { storageNodes, budget, limits, call, stop } = context;
  const { checkpoints } = await storageNodes.ofVolume(volumeId);
  const step = call(`drop ${checkpointId}`);
  const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
  try {
    const gone = checkpoints.deleteCheckpoint({ step, volumeId, checkpointId }, options);
    await tolerate(['checkpoint-not-found'], gone);
    return null;
  } catch (error) {
    stop.throwIfAborted();
    const isLastTry = budget.failures >= limits.patientFailuresMax;
    if (!(error instanceof TidemarkError) || error.code === 'run-superseded') throw error;
    if (isWorthRetrying(error) && !isLastTry) throw error;
    return error.message;
  }
}
