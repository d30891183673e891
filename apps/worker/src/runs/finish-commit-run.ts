// The second phase of a commit of what the guest writes to: the guest moves to the base (pivot), or stays where
// it is and the base has a copy (keep). A decision that could not be delivered leaves the commit ready.
import { TidemarkError } from '@tidemark/proto';
import { JobFailed, toRunError } from '../errors.ts';
import { commitJob, explained } from './commit-job.ts';
import type { RunContext, RunDefinition, Step } from './run-definition.ts';
import { dismissJob, watchToEnd } from './watch-job.ts';

type Context = RunContext<'finish-commit'>;

const decide: Step<'finish-commit'> = {
  name: 'decide',
  final: true,
  patient: true,
  async run(context) {
    const { request, run, storageNodes, call, stop } = context;
    const { volumeId, commitId, decision } = request;
    const { snapshots } = await storageNodes.ofVolume(volumeId);
    const wanted = { step: call('decide'), volumeId, commitId, pivot: decision === 'pivot' };
    const wasAsked = run.steps.some(step => step.name === 'decide');
    try {
      const finish = snapshots.finishCommit(wanted, { signal: stop });
      await explained(context, whereGuestIs(context, wasAsked), finish);
    } catch (error) {
      if (error instanceof JobFailed) return giveUp(context, error);
      const isRefused = error instanceof TidemarkError && error.code === 'commit-not-ready';
      // Why a job that has ended did so is told by watching it.
      if (!isRefused || !(await hasConcluded(context))) throw error;
    }
    return {};
  },
};

const conclude: Step<'finish-commit'> = {
  name: 'conclude',
  final: true,
  patient: true,
  async run(context) {
    const { request, run } = context;
    try {
      const watched = watchToEnd(context, await commitJob(context));
      await explained(context, whereGuestIs(context, true), watched);
    } catch (error) {
      if (error instanceof JobFailed) return giveUp(context, error);
      throw error;
    }
    return { commit: catalog => catalog.commits.end(request.commitId, { state: 'done' }, run.id) };
  },
};

const dismiss: Step<'finish-commit'> = {
  name: 'dismiss',
  final: true,
  // Storage nodes forget ended jobs by themselves.
  dispensable: true,
  async run(context) {
    await dismissJob(context, await commitJob(context), 'dismiss');
    return {};
  },
};

export const finishCommitRun: RunDefinition<'finish-commit'> = {
  steps: [decide, conclude, dismiss],
  result: ({ request }) => ({ commitId: request.commitId, decision: request.decision }),
  // One that has ended stays ended.
  withdraw: (catalog, { request, run }) => catalog.commits.undecide(request.commitId, run.id),
};

/** The job is over: that stays true, whatever becomes of the run. */
async function giveUp({ request, run, catalog }: Context, error: JobFailed): Promise<never> {
  await catalog.commits.end(request.commitId, { state: 'failed', error: toRunError(error) }, run.id);
  throw error;
}

function whereGuestIs({ request }: Context, mayHavePivoted: boolean): string {
  if (request.decision === 'pivot' && mayHavePivoted) {
    return 'The guest goes on, in the base if the pivot was recorded by then, else where it was; its data is whole.';
  }
  return 'The guest goes on where it was, with all its data.';
}

async function hasConcluded(context: Context): Promise<boolean> {
  const { storageNode, jobId } = await commitJob(context);
  const { state } = await storageNode.jobs.getJob({ jobId }, { signal: context.stop });
  return state === 'concluded';
}
