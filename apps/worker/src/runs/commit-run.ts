// A commit: images of a volume merged into one below. Of a snapshot's image the run follows the job to its end;
// of what the guest writes to it ends when the job is ready, and the job waits, however long, for a
// finish-commit run. Snapshots that the job overwrites are lost from its start on, also when it is cancelled.
import { z } from 'zod';
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import { commitJob, explained } from './commit-job.ts';
import { listSnapshots } from './create-snapshot-run.ts';
import type { RunContext, RunDefinition, Step } from './run-definition.ts';
import { dismissJob, endJob, watchUntil } from './watch-job.ts';

const copied = z.object({ state: z.enum(['ready', 'done']) });

/** A ready job that is paused stands by. */
const READY_STATES = ['ready', 'standby'];

const start: Step<'commit'> = {
  name: 'start',
  async run(context) {
    const { request, run, storageNodes, call, stop } = context;
    const { volumeId, commitId, shallow, active, deleteFiles } = request;
    const { snapshots } = await storageNodes.ofVolume(volumeId);
    const wanted = {
      ...{ step: call('start'), volumeId, commitId, shallow, active, deleteFiles },
      topSnapshotId: request.topSnapshotId ?? '',
      baseSnapshotId: request.baseSnapshotId ?? '',
      speedBytesPerSecond: request.speedBytesPerSecond ?? 0,
    };
    await snapshots.startCommit(wanted, { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS });
    // Not from the answer: a start that is repeated after a restart does not name what the first one overwrote.
    const listed = await listedIds(context);
    return {
      commit: async catalog => {
        await catalog.commits.dropLostSnapshots(commitId, listed, run.id);
        await catalog.commits.markCopying(commitId, run.id);
      },
    };
  },
  async undo(context) {
    const { request, catalog, run } = context;
    const job = await commitJob(context);
    await endJob(context, job, 'undo-start');
    await dismissJob(context, job, 'undo-start');
    await catalog.commits.dropLostSnapshots(request.commitId, await listedIds(context), run.id);
  },
};

const copy: Step<'commit'> = {
  name: 'copy',
  patient: true,
  async run(context) {
    const { commitId, active } = context.request;
    const job = await commitJob(context);
    const isReady = ({ state }: { state: string }) => active && READY_STATES.includes(state);
    const where = 'The guest goes on where it was, with all its data.';
    const status = await explained(context, where, watchUntil(context, job, isReady));
    if (isReady(status)) {
      const commit: Commit = catalog => catalog.commits.markReady(commitId, context.run.id);
      return { output: { state: 'ready' }, commit };
    }
    const commit: Commit = catalog => catalog.commits.end(commitId, { state: 'done' }, context.run.id);
    return { output: { state: 'done' }, commit };
  },
};

const dismiss: Step<'commit'> = {
  name: 'dismiss',
  final: true,
  // Storage nodes forget ended jobs by themselves.
  dispensable: true,
  async run(context) {
    if (context.output('copy', copied).state === 'done') {
      await dismissJob(context, await commitJob(context), 'dismiss');
    }
    return {};
  },
};

export const commitRun: RunDefinition<'commit'> = {
  steps: [start, copy, dismiss],
  result: context => ({ commitId: context.request.commitId, ...context.output('copy', copied) }),
  async withdraw(catalog, { request, run }) {
    const { error } = await catalog.runs.get(run.id);
    const state = error?.code === 'run-cancelled' ? 'cancelled' : 'failed';
    await catalog.commits.end(request.commitId, { state, error }, run.id);
  },
};

type Commit = NonNullable<Awaited<ReturnType<Step<'commit'>['run']>>['commit']>;

async function listedIds(context: RunContext<'commit'>): Promise<string[]> {
  return (await listSnapshots(context)).map(({ snapshotId }) => snapshotId);
}
