// A restore: a backup's export is copied to a new volume, or to a plain file, on any storage node.

import type { JsonObject } from '@tidemark/catalog';
import { RestoreVolume, TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import type { RunContext, RunDefinition, Step } from './run-definition.ts';
import { tolerate } from './tolerate.ts';
import { dismissJob, endJob, type WatchedJob, watchToEnd } from './watch-job.ts';

type Context = RunContext<'restore'>;

const opened = z.object({ uri: z.string(), sizeBytes: z.number() });
const started = z.object({ jobId: z.string(), filePath: z.string() });
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
    const isRepeated = context.run.steps.some(step => step.name === 'start');
    // Repeated: the export is gone if the repository's host has restarted.
    const source = isRepeated ? await openBackup(context) : context.output('open-source', opened);
    const { jobId, filePath } = await startRestore(context, source);
    await context.update({ progress: { dirtyBytes: context.request.sizeBytes } });
    return { output: { jobId, filePath } };
  },
  async undo(context) {
    const job = await findJob(context);
    if (job) await endJob(context, job, 'undo-start');
    const { request, call, stop } = context;
    if ('volume' in request.target) {
      const { volumes } = await targetNode(context);
      const { volumeId } = request.target.volume;
      const remove = volumes.deleteVolume({ step: call('undo-start'), volumeId }, { signal: stop });
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
    await watchToEnd(context, await startedJob(context));
    return {};
  },
};

const complete: Step<'restore'> = {
  name: 'complete',
  final: true,
  patient: true,
  async run(context) {
    const { request, run, stop } = context;
    if (!('volume' in request.target)) return { output: { exportUri: '' } };
    const { volumes } = await targetNode(context);
    const { volumeId } = request.target.volume;
    const { exportUri, sizeBytes } = await volumes.getVolume({ volumeId }, { signal: stop });
    return {
      output: { exportUri },
      commit: tx => tx.volumes.markReady(volumeId, { exportUri, sizeBytes }, run.id),
    };
  },
};

// What these two let go of, storage nodes let go of by themselves when they restart or have many of it. The
// restored volume must not depend on a repository's host that is lost for good.
const closeSource: Step<'restore'> = {
  name: 'close-source',
  final: true,
  dispensable: true,
  async run(context) {
    await closeBackup(context, 'close-source');
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
  steps: [openSource, start, copy, complete, closeSource, finish],
  result(context): JsonObject {
    const { target, backupId } = context.request;
    if ('volume' in target) {
      return { backupId, volumeId: target.volume.volumeId, ...context.output('complete', completed) };
    }
    return { backupId, filePath: context.output('start', started).filePath };
  },
  async withdraw(catalog, { request, run }) {
    if ('volume' in request.target) await catalog.volumes.delete(request.target.volume.volumeId, run.id);
  },
};

function targetNode({ request: { target }, storageNodes }: Context) {
  return storageNodes.get('volume' in target ? target.volume.storageNodeId : target.file.storageNodeId);
}

/** Good to repeat. */
async function openBackup(context: Context): Promise<z.output<typeof opened>> {
  const { request, storageNodes, call, stop } = context;
  const { repositoryId, backupId } = request;
  const { repositories } = await storageNodes.ofRepository(repositoryId);
  const wanted = { step: call('open-source'), repositoryId, backupId };
  const { uri, sizeBytes } = await repositories.openBackup(wanted, { signal: stop });
  return { uri, sizeBytes };
}

async function startRestore(context: Context, { uri, sizeBytes }: z.output<typeof opened>) {
  const { request, call, stop } = context;
  const { jobs } = await targetNode(context);
  const { target } = request;
  return jobs.startRestore(
    {
      step: call('start'),
      sourceUri: uri,
      sizeBytes,
      speedBytesPerSecond: 0,
      target:
        'volume' in target
          ? { $case: 'volume', value: toRestoreVolume(target.volume) }
          : { $case: 'file', value: { name: target.file.name } },
    },
    { signal: stop },
  );
}

function toRestoreVolume({ volumeId, name, format }: { volumeId: string; name: string; format: string }) {
  return RestoreVolume.fromPartial({ volumeId, name, format });
}

async function closeBackup(context: Context, step: string): Promise<void> {
  const { request, storageNodes, call, stop } = context;
  const { repositories } = await storageNodes.ofRepository(request.repositoryId);
  const { repositoryId, backupId } = request;
  const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
  const close = repositories.closeBackup({ step: call(step), repositoryId, backupId }, options);
  await tolerate(['backup-not-found', 'repository-not-found'], close);
}

async function startedJob(context: Context): Promise<WatchedJob> {
  const { jobId } = context.output('start', started);
  return { storageNode: await targetNode(context), jobId };
}

/** The job to undo, if there is one; one in doubt is settled by the same call again (see backup-run). */
async function findJob(context: Context): Promise<WatchedJob | undefined> {
  if (context.findOutput('start', started)) return startedJob(context);
  const source = context.findOutput('open-source', opened);
  if (!context.isInDoubt('start') || source === undefined) return undefined;
  try {
    const { jobId } = await startRestore(context, source);
    return { storageNode: await targetNode(context), jobId };
  } catch (error) {
    if (error instanceof TidemarkError && error.code !== 'storage-node-unreachable') return undefined;
    throw error;
  }
}
