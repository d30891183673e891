// An export: a frozen moment of a volume for others to pull, over NBD, until the operator says that they have it.
// Only then is its checkpoint one that later increments can build on; any other end leaves nothing.
import { setTimeout as sleep } from 'node:timers/promises';
import { TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { JobFailed } from '../errors.ts';
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import { dropCheckpoints, droppedBy, keepDropped } from './drop-checkpoints.ts';
import type { RunContext, RunDefinition, Step } from './run-definition.ts';
import { tolerate } from './tolerate.ts';

type Context = RunContext<'export'>;

const frozen = z.object({
  uri: z.string(),
  sizeBytes: z.number(),
  pointInTimeMs: z.number(),
  contexts: z.array(z.string()),
});

const freeze: Step<'export'> = {
  name: 'freeze',
  async run(context) {
    const { request, run } = context;
    const { uri, sizeBytes, pointInTimeMs, contexts } = await startExport(context);
    const output = { uri, sizeBytes, pointInTimeMs, contexts };
    const pointInTime = new Date(pointInTimeMs);
    return {
      output,
      facts: { checkpointAt: pointInTime, result: { ...output, exportId: request.exportId } },
      commit: async tx => {
        if (request.checkpointId === null) return;
        await tx.checkpoints.markReady(request.checkpointId, pointInTime, run.id);
      },
    };
  },
  async undo(context) {
    const { request, storageNodes, call, stop } = context;
    const { volumeId, checkpointId } = request;
    await settleFreeze(context);
    await releaseMoment(context, 'undo-freeze');
    if (checkpointId === null) return;
    const { checkpoints } = await storageNodes.ofVolume(volumeId);
    const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
    const step = call('undo-freeze');
    const merge = checkpoints.deleteCheckpoint({ step, volumeId, checkpointId }, options);
    await tolerate(['checkpoint-not-found', 'volume-not-found'], merge);
  },
};

const serve: Step<'export'> = {
  name: 'serve',
  // The export needs no worker; a storage node that was restarted has lost it, and that ends the run.
  patient: true,
  async run(context) {
    const { limits, controls } = context;
    const end = AbortSignal.any([context.stop, context.cancel]);
    const { expiresInMs } = context.request;
    // Once it is served the wall clock tells nothing: when that is set, no export ends early, nor stays for long.
    const leftAtFirstMs = context.output('freeze', frozen).pointInTimeMs + expiresInMs - Date.now();
    const endsAtMs = performance.now() + Math.min(leftAtFirstMs, expiresInMs);
    while (!controls.wanted.finishRequested) {
      end.throwIfAborted();
      await assertWhole(context);
      const leftMs = endsAtMs - performance.now();
      if (leftMs <= 0) throw expired(context);
      await change(context, Math.min(limits.momentLookMs, leftMs));
    }
    return {};
  },
};

const release: Step<'export'> = {
  name: 'release',
  final: true,
  patient: true,
  async run(context) {
    await releaseMoment(context, 'release');
    return {};
  },
};

export const exportRun: RunDefinition<'export'> = {
  steps: [freeze, serve, release, dropCheckpoints],
  result(context) {
    const { sizeBytes, pointInTimeMs } = context.output('freeze', frozen);
    const { exportId, checkpointId } = context.request;
    return { exportId, checkpointId, sizeBytes, pointInTimeMs, ...droppedBy(context) };
  },
  async withdraw(catalog, context) {
    await keepDropped(catalog, context);
    const { checkpointId } = context.request;
    if (checkpointId !== null) await catalog.checkpoints.delete(checkpointId, context.run.id);
  },
};

async function startExport({ request, storageNodes, call, stop }: Context) {
  const { jobs } = await storageNodes.ofVolume(request.volumeId);
  return jobs.startExport(
    {
      step: call('freeze'),
      volumeId: request.volumeId,
      exportId: request.exportId,
      checkpointId: request.checkpointId ?? '',
      checkpointName: request.checkpoint ?? '',
      checkpointDescription: request.description,
      baseCheckpointId: request.baseCheckpointId ?? '',
      scratchLimitBytes: request.scratchLimitBytes ?? 0,
    },
    { signal: stop },
  );
}

/** An answer was lost: the same call again is answered as it was then, or makes now what is released right away. */
async function settleFreeze(context: Context): Promise<void> {
  if (!context.isInDoubt('freeze')) return;
  try {
    await startExport(context);
  } catch (error) {
    if (!(error instanceof TidemarkError) || error.code === 'storage-node-unreachable') throw error;
  }
}

/** Good to repeat. */
async function releaseMoment({ request, storageNodes, call, stop }: Context, step: string): Promise<void> {
  const { volumeId, exportId: momentId } = request;
  const { jobs } = await storageNodes.ofVolume(volumeId);
  await jobs.releaseMoment({ step: call(step), volumeId, momentId }, { signal: stop });
}

async function assertWhole({ request, storageNodes, stop }: Context): Promise<void> {
  const storageNode = await storageNodes.ofVolume(request.volumeId);
  const { moments } = await storageNode.jobs.listMoments({}, { signal: stop });
  const moment = moments.find(({ momentId }) => momentId === request.exportId);
  if (moment?.broken === '') return;
  const why = moment === undefined ? 'the storage node was restarted' : moment.broken;
  throw new JobFailed(
    'moment-lost',
    `The frozen moment that storage node ${storageNode.name} exported is lost: ${why}. What was read of it is not ` +
      'of one point in time. Export again.',
  );
}

/** Resolves after `ms`, earlier when the operator asks for something, or when the worker has to let go. */
async function change({ controls, stop, cancel }: Context, ms: number): Promise<void> {
  const changed = new AbortController();
  const unsubscribe = controls.onChange(() => changed.abort());
  const signal = AbortSignal.any([changed.signal, stop, cancel]);
  await sleep(ms, undefined, { signal }).catch(() => undefined);
  unsubscribe();
}

function expired({ request }: Context): JobFailed {
  return new JobFailed(
    'export-expired',
    `Nobody finished the export within ${request.expiresInMs} ms, so it has ended, and its checkpoint with it. ` +
      'Export again with more time, and finish the run when all is read.',
  );
}
