// The second half of an instant restore: the volume is in use already, its storage node pulls the rest of the backup by
// itself, and the run waits for the end of that to let go of the backup. A cancel request comes too late here: whoever
// does not want the volume any more deletes it.
import { TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { JobFailed } from '../errors.ts';
import { type Damage, damageOf, damageSchema, knownDamage } from './restore-damage.ts';
import type { Opened } from './restore-source.ts';
import type { RunContext, Step } from './run-definition.ts';
import { type WatchedJob, watchToEnd } from './watch-job.ts';

type Context = RunContext<'restore'>;

/** `alone`: nothing is left to pull; `deleted`: there is nobody left who would. */
export const streamed = z.object({ state: z.enum(['alone', 'deleted']), damage: damageSchema });

const NO_DAMAGE: Damage = { bytes: 0, ranges: [], truncated: false };
const NEVER = new AbortController().signal;

export function streamStep(parts: {
  job: (context: Context) => Promise<WatchedJob>;
  /** Lets the storage node go on where it does not by itself. */
  restart: (context: Context) => Promise<Opened | undefined>;
}): Step<'restore'> {
  return {
    name: 'stream',
    final: true,
    patient: true,
    // The volume goes on as it is: its storage node tries again with its next start.
    dispensable: true,
    async run(context) {
      const { request, run } = context;
      if (!('instant' in request.target)) return {};
      const { volumeId } = request.target.instant;
      const isRepeated = run.steps.some(step => step.name === 'stream');
      if (isRepeated && (await stateOf(context)) === 'streaming') await parts.restart(context);
      const output = await followed(context, await parts.job(context));
      const { damage, state } = output;
      return {
        output,
        commit: async tx => {
          if (state === 'alone') await tx.volumes.markAlone(volumeId, run.id);
          if (damage.bytes === 0) return;
          const known = knownDamage(damage, request.sizeBytes);
          await tx.backupDamage.noteRestore(request.backupId, known, { runId: run.id, volumeId });
        },
      };
    },
  };
}

async function followed(context: Context, job: WatchedJob): Promise<z.output<typeof streamed>> {
  try {
    await watchToEnd({ ...context, cancel: NEVER }, job);
    return { state: 'alone', damage: await damageOf(context, job) };
  } catch (error) {
    if (!(error instanceof JobFailed)) throw error;
    const state = await stateOf(context);
    if (state !== 'streaming') return { state, damage: NO_DAMAGE };
    const text = `The rest of the backup is not pulled yet: ${error.message}`;
    throw new TidemarkError('io-error', text, error);
  }
}

async function stateOf({ request, storageNodes, stop }: Context): Promise<'streaming' | 'alone' | 'deleted'> {
  if (!('instant' in request.target)) return 'alone';
  const { volumeId, storageNodeId } = request.target.instant;
  const { volumes } = await storageNodes.get(storageNodeId);
  try {
    const { source } = await volumes.getVolume({ volumeId }, { signal: stop });
    return source === undefined ? 'alone' : 'streaming';
  } catch (error) {
    if (error instanceof TidemarkError && error.code === 'volume-not-found') return 'deleted';
    throw error;
  }
}
