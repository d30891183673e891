// A restore: a backup's export is copied to a new volume, to a plain file, or over a volume; or a new volume reads from
// it at once, and what it has not is pulled behind (restore-stream.ts).
import type { JsonObject } from '@tidemark/catalog';
import { TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { JobFailed } from '../errors.ts';
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import { damageOf, damageResult, damageSchema, knownDamage } from './restore-damage.ts';
import { closeBackup, type Opened, openBackup, opened } from './restore-source.ts';
import { streamed, streamStep } from './restore-stream.ts';
import { newVolumeIdOf, storageNodeIdOf, toTarget } from './restore-target.ts';
import type { RunContext, RunDefinition, Step } from './run-definition.ts';
import { tolerate } from './tolerate.ts';
import { dismissJob, endJob, type WatchedJob, watchToEnd } from './watch-job.ts';

type Context = RunContext<'restore'>;

const started = z.object({ jobId: z.string(), filePath: z.string() });
const copied = z.object({ sentBytes: z.number(), totalBytes: z.number(), damage: damageSchema });
const completed = z.object({ exportUri: z.string() });

const openSource: Step<'restore'> = {
  name: 'open-source',
  async run(context) {
    return { output: await openBackup(context) };
  },
  undo: context => closeBackup(context, 'undo-open-source'),
};

const start: Step<'restore'> = {
  name: 'start',
  async run(context) {
    // Always anew: the export is gone if the repository's host has restarted since.
    const source = await openBackup(context);
    const { jobId, filePath, differingBytes } = await startRestore(context, source);
    const isInPlace = 'inPlace' in context.request.target;
    const dirtyBytes = isInPlace ? differingBytes : context.request.sizeBytes;
    await context.update({ progress: { dirtyBytes } });
    return { output: { jobId, filePath } };
  },
  async undo(context) {
    const job = await findJob(context);
    const { request, call, stop } = context;
    // The stream of an instant volume ends with the volume, also while it waits for a backup that is let go of already.
    if (job && !('instant' in request.target)) await endJob(context, job, 'undo-start');
    const volumeId = newVolumeIdOf(request);
    if (volumeId !== undefined) {
      const { volumes } = await targetNode(context);
      const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
      // One that is recovered has its id from before, and another run may have made it since.
      const wanted = { step: call('undo-start'), volumeId, madeBy: context.run.id };
      const remove = volumes.deleteVolume(wanted, options);
      await tolerate(['volume-not-found'], remove);
    }
    if (job) await dismissJob(context, job, 'undo-start');
  },
};

const copy: Step<'restore'> = {
  name: 'copy',
  // The job needs no worker; a storage node that was restarted says so, and that ends the run at once.
  patient: true,
  async run(context) {
    if ('instant' in context.request.target) return {};
    const job = await startedJob(context);
    const { sentBytes, totalBytes } = await watchToEnd(context, job).catch(explain(context));
    return { output: { sentBytes, totalBytes, damage: await damageOf(context, job) } };
  },
};

const complete: Step<'restore'> = {
  name: 'complete',
  final: true,
  patient: true,
  async run(context) {
    const { request, run, stop } = context;
    const volumeId = newVolumeIdOf(request);
    const damage = 'instant' in request.target ? undefined : context.output('copy', copied).damage;
    const about = { runId: run.id, volumeId: volumeId ?? null };
    const known =
      damage !== undefined && damage.bytes > 0 ? knownDamage(damage, request.sizeBytes) : undefined;
    const { volumes } = await targetNode(context);
    const volume =
      volumeId === undefined ? undefined : await volumes.getVolume({ volumeId }, { signal: stop });
    const exportUri = volume?.exportUri ?? '';
    // The moment of the volume's first checkpoint is its storage node's to say.
    const first = volume?.checkpoints.find(
      ({ checkpointId }) => checkpointId === request.checkpoint?.checkpointId,
    );
    const isInstant = 'instant' in request.target && first !== undefined;
    return {
      output: { exportUri },
      // Who waits for that may use the volume from here on.
      ...(isInstant && { facts: { checkpointAt: new Date(first.createdAtMs) } }),
      commit: async tx => {
        if (known !== undefined) await tx.backupDamage.noteRestore(request.backupId, known, about);
        if ('inPlace' in request.target) await tx.volumes.noteWhole(request.target.inPlace.volumeId);
        if (volume === undefined) return;
        const { sizeBytes } = volume;
        await tx.volumes.markReady(volume.volumeId, { exportUri, sizeBytes }, run.id);
        if (first === undefined) return;
        await tx.checkpoints.markReady(first.checkpointId, new Date(first.createdAtMs), run.id);
      },
    };
  },
};

const stream = streamStep({
  job: startedJob,
  async restart(context) {
    const source = await openBackup(context);
    await startRestore(context, source);
    return source;
  },
});

// What these two let go of, storage nodes let go of by themselves when they restart or have many of it. The
// restored volume must not depend on a repository's host that is lost for good.
const closeSource: Step<'restore'> = {
  name: 'close-source',
  final: true,
  // Of an instant volume it outlives restarts, and keeps the backup from being pruned.
  patient: true,
  dispensable: true,
  async run(context) {
    const isInUse =
      'instant' in context.request.target && context.findOutput('stream', streamed) === undefined;
    if (!isInUse) await closeBackup(context, 'close-source');
    return {};
  },
};

const finish: Step<'restore'> = {
  name: 'finish',
  final: true,
  dispensable: true,
  async run(context) {
    await dismissJob(context, await startedJob(context), 'finish');
    return {};
  },
};

export const restoreRun: RunDefinition<'restore'> = {
  steps: [openSource, start, copy, complete, stream, closeSource, finish],
  result(context): JsonObject {
    const { target, backupId } = context.request;
    if ('instant' in target) {
      const end = context.findOutput('stream', streamed);
      const about = { backupId, volumeId: target.instant.volumeId, ...context.output('complete', completed) };
      return { ...about, ...(end ? damageResult(end.damage) : { state: 'streaming' }) };
    }
    const { damage, sentBytes, totalBytes } = context.output('copy', copied);
    const result = { backupId, ...damageResult(damage) };
    if ('volume' in target) {
      return { ...result, volumeId: target.volume.volumeId, ...context.output('complete', completed) };
    }
    if ('file' in target) return { ...result, filePath: context.output('start', started).filePath };
    return { ...result, volumeId: target.inPlace.volumeId, differingBytes: totalBytes, sentBytes };
  },
  async withdraw(catalog, context) {
    const { request, run } = context;
    const volumeId = newVolumeIdOf(request);
    if (volumeId !== undefined && request.recovers !== null) {
      await catalog.losses.endRestore(volumeId, request.recovers, run.id);
    } else if (volumeId !== undefined) await catalog.volumes.delete(volumeId, run.id);
    const mayHaveStarted = context.findOutput('start', started) !== undefined || context.isInDoubt('start');
    if (!('inPlace' in request.target) || !mayHaveStarted) return;
    await catalog.volumes.noteMixed(request.target.inPlace.volumeId, { backupId: request.backupId }, run.id);
  },
};

function targetNode({ request, storageNodes }: Context) {
  return storageNodes.get(storageNodeIdOf(request));
}

async function startRestore(context: Context, { uri, sizeBytes, sumsUri }: Opened) {
  const { request, call, stop } = context;
  const { jobs } = await targetNode(context);
  return jobs.startRestore(
    {
      step: call('start'),
      ...{ sourceUri: uri, sizeBytes, sumsUri },
      speedBytesPerSecond: request.speedBytesPerSecond ?? 0,
      skipDamage: request.onDamage === 'skip',
      target: toTarget(request),
    },
    { signal: stop },
  );
}

async function startedJob(context: Context): Promise<WatchedJob> {
  const { jobId } = context.output('start', started);
  return { storageNode: await targetNode(context), jobId };
}

/** Over a volume a copy that ends early leaves something: whoever is told of the failure is told of that, too. */
function explain({ request: { target } }: Context): (error: unknown) => never {
  return error => {
    if (!(error instanceof JobFailed) || !('inPlace' in target)) throw error;
    const text =
      `${error.message.replace(/\.?$/, '.')} Volume '${target.inPlace.name}' holds a mixture of its old contents and ` +
      "the backup's now: run the restore again, or restore another backup over it.";
    throw new JobFailed(error.code, text, error);
  };
}

/** The job to undo, if there is one; one in doubt is settled by the same call again (see backup-run). */
async function findJob(context: Context): Promise<WatchedJob | undefined> {
  if (context.findOutput('start', started)) return startedJob(context);
  const source = context.findOutput('open-source', opened);
  if (!context.isInDoubt('start') || source === undefined) return undefined;
  // What lies there must not be overwritten now, only because nobody knows whether it was.
  if ('inPlace' in context.request.target) {
    return { storageNode: await targetNode(context), jobId: `restore-${context.run.id}` };
  }
  try {
    const { jobId } = await startRestore(context, source);
    return { storageNode: await targetNode(context), jobId };
  } catch (error) {
    if (error instanceof TidemarkError && error.code !== 'storage-node-unreachable') return undefined;
    throw error;
  }
}
