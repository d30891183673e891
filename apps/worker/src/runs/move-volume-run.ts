// A volume moves to another storage node while its guest writes (ADR 0055). The row says who owns it: until it names
// the target everything can be undone, and from then on nothing is.
import { type ArrivingCheckpoint, TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { isWorthRetrying } from '../errors.ts';
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import { type RunContext, type RunDefinition, StartOver, type Step } from './run-definition.ts';
import { tolerate } from './tolerate.ts';
import { dismissJob, endJob, type WatchedJob, watchUntil } from './watch-job.ts';

type Context = RunContext<'move-volume'>;

/** How often a copy that went with a restart of either storage node begins anew. */
const RESTARTS_MAX = 3;
/** A ready job that is paused stands by. */
const READY_STATES = ['ready', 'standby'];

const prepared = z.object({ imageUri: z.string(), bitmapsUri: z.string() });
const started = z.object({ jobId: z.string() });
const sealed = z.object({ createdAtMs: z.number(), checkpoints: z.array(z.unknown()) });
const opened = z.object({ exportUri: z.string() });

const prepare: Step<'move-volume'> = {
  name: 'prepare',
  async run(context) {
    return { output: await prepareArrival(context) };
  },
  undo: context => removeCopy(context, 'undo-prepare'),
};

const start: Step<'move-volume'> = {
  name: 'start',
  async run(context) {
    const { request, call, stop } = context;
    const { imageUri } = context.output('prepare', prepared);
    const { volumes } = await sourceNode(context);
    const speedBytesPerSecond = request.speedBytesPerSecond ?? 0;
    const wanted = { step: call('start'), volumeId: request.volumeId, imageUri, speedBytesPerSecond };
    try {
      const { jobId } = await volumes.startMove(wanted, { signal: stop });
      return { output: { jobId } };
    } catch (error) {
      throw await anewWhereLost(context, error);
    }
  },
  async undo(context) {
    if (await hasSwitched(context)) return;
    const job = { storageNode: await sourceNode(context), jobId: `move-${context.run.id}` };
    await endJob(context, job, 'undo-start');
    await dismissJob(context, job, 'undo-start');
  },
};

const copy: Step<'move-volume'> = {
  name: 'copy',
  // The job needs no worker.
  patient: true,
  async run(context) {
    const job: WatchedJob = {
      storageNode: await sourceNode(context),
      jobId: context.output('start', started).jobId,
    };
    try {
      const isReady = ({ state }: { state: string }) => READY_STATES.includes(state);
      const { sentBytes, totalBytes } = await watchUntil(context, job, isReady);
      return { output: { sentBytes, totalBytes } };
    } catch (error) {
      throw await anewWhereLost(context, error);
    }
  },
};

/** From here until `open` has been done nobody serves the volume: nothing in between waits for anything else. */
const seal: Step<'move-volume'> = {
  name: 'seal',
  async run(context) {
    const { request, call, stop } = context;
    const { bitmapsUri } = context.output('prepare', prepared);
    const { volumes } = await sourceNode(context);
    const wanted = { step: call('seal'), volumeId: request.volumeId, bitmapsUri };
    try {
      const answer = await volumes.sealVolume(wanted, { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS });
      const { createdAtMs, checkpoints } = answer;
      return {
        output: { createdAtMs, checkpoints: checkpoints.map(item => JSON.parse(JSON.stringify(item))) },
      };
    } catch (error) {
      throw await anewWhereLost(context, error);
    }
  },
  async undo(context) {
    if (await hasSwitched(context)) return;
    const { volumes } = await sourceNode(context);
    const { volumeId } = context.request;
    const wanted = { step: context.call('undo-seal'), volumeId, sealedBy: context.run.id };
    await volumes.unsealVolume(wanted, { signal: context.stop });
  },
};

const accept: Step<'move-volume'> = {
  name: 'accept',
  final: true,
  async run(context) {
    const { request, call, stop } = context;
    const { volumeId, sourceNodeId: from, targetNodeId: to } = request;
    const { createdAtMs, checkpoints } = context.output('seal', sealed);
    // Of this copy alone: whoever asked what became of it may have had an empty one made.
    const { imageUri } = context.output('prepare', prepared);
    const { volumes } = await targetNode(context);
    const items = checkpoints as ArrivingCheckpoint[];
    const wanted = { step: call('accept'), volumeId, imageUri, createdAtMs, checkpoints: items };
    try {
      await volumes.acceptArrival(wanted, { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS });
    } catch (error) {
      throw await anewWhereLost(context, error);
    }
    // The one moment at which the owner changes.
    return { commit: catalog => catalog.moves.switchTo(volumeId, { from, to }) };
  },
  undo: context => removeCopy(context, 'undo-accept'),
};

const open: Step<'move-volume'> = {
  name: 'open',
  final: true,
  patient: true,
  async run(context) {
    const { request, run, call, stop } = context;
    const { volumeId, sourceNode: from, targetNode: to, targetNodeId: toId } = request;
    const { volumes } = await targetNode(context);
    const { exportUri } = await volumes.openArrival({ step: call('open'), volumeId }, { signal: stop });
    return {
      output: { exportUri },
      commit: catalog => catalog.moves.finish(volumeId, { from, to, toId, exportUri }, run.id),
    };
  },
};

/** A sealed volume serves nobody: what cannot be removed now, the reconciler finds. */
const removeSource: Step<'move-volume'> = {
  name: 'remove-source',
  final: true,
  dispensable: true,
  async run(context) {
    const { request, call, stop } = context;
    const storageNode = await sourceNode(context);
    const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
    const wanted = { step: call('remove-source'), volumeId: request.volumeId };
    await tolerate(['volume-not-found'], storageNode.volumes.deleteVolume(wanted, options));
    await dismissJob(context, { storageNode, jobId: `move-${context.run.id}` }, 'remove-source');
    return {};
  },
};

export const moveVolumeRun: RunDefinition<'move-volume'> = {
  steps: [prepare, start, copy, seal, accept, open, removeSource],
  result(context) {
    const { volumeId, sourceNode: from, targetNode: to } = context.request;
    return { volumeId, from, to, ...context.output('open', opened) };
  },
  withdraw: (catalog, { request, run }) => catalog.moves.withdraw(request.volumeId, run.id),
};

const sourceNode = ({ request, storageNodes }: Context) => storageNodes.get(request.sourceNodeId);
const targetNode = ({ request, storageNodes }: Context) => storageNodes.get(request.targetNodeId);

function hasSwitched({ catalog, request }: Context): Promise<boolean> {
  return catalog.moves.hasSwitched(request.volumeId, request.targetNodeId);
}

/** Of the target; never what it owns. */
async function removeCopy(context: Context, step: string): Promise<void> {
  if (await hasSwitched(context)) return;
  const { volumes } = await targetNode(context);
  const options = { signal: context.stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
  const { volumeId } = context.request;
  await volumes.discardArrival({ step: context.call(step), volumeId }, options);
}

/** Good to repeat: answered as before, unless the target has lost it with a restart. */
async function prepareArrival(context: Context) {
  const { request, call, stop } = context;
  const { volumeId, name, sizeBytes, format } = request;
  const source = await sourceNode(context);
  const { allocatedBytes } = await source.volumes.getVolume({ volumeId }, { signal: stop });
  const target = await targetNode(context);
  const wanted = { step: call('prepare'), volumeId, name, sizeBytes, format, allocatedBytes };
  const { imageUri, bitmapsUri } = await target.volumes.prepareArrival(wanted, { signal: stop });
  return { imageUri, bitmapsUri };
}

/** What to reject with: a copy that went with a restart, of the job or of what it writes to, begins anew. */
async function anewWhereLost(context: Context, error: unknown): Promise<unknown> {
  const { run, stop, cancel } = context;
  const isOver = stop.aborted || cancel.aborted || run.restarts >= RESTARTS_MAX;
  if (isOver || !(error instanceof TidemarkError)) return error;
  // The target may be why a connection failed; who is away is waited for.
  if (isWorthRetrying(error) && error.code !== 'io-error') return error;
  return (await isLost(context, error)) ? new StartOver('prepare', error) : error;
}

/** The source says so of its job, and the target when it is asked for the copy again. Rejects where it is away. */
async function isLost(context: Context, { code }: TidemarkError): Promise<boolean> {
  if (code === 'job-interrupted' || code === 'job-not-found') return true;
  const { imageUri } = context.output('prepare', prepared);
  return (await prepareArrival(context)).imageUri !== imageUri;
}
