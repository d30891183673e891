// The job behind a commit, as both of its runs see it.
import { TidemarkError } from '@tidemark/proto';
import { JobFailed } from '../errors.ts';
import type { RunContext } from './run-definition.ts';
import type { WatchedJob } from './watch-job.ts';

type Context = RunContext<'commit' | 'finish-commit'>;

export async function commitJob({ request, storageNodes }: Context): Promise<WatchedJob> {
  const storageNode = await storageNodes.ofVolume(request.volumeId);
  return { storageNode, jobId: `commit-${request.commitId}` };
}

/** Rejects as `work` does; a job that its storage node has forgotten is told in the words of commits. */
export async function explained<T>(context: Context, where: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof TidemarkError)) throw error;
    const { code } = error;
    if (code !== 'job-interrupted' && code !== 'commit-not-found') throw error;
    const { name } = await context.storageNodes.ofVolume(context.request.volumeId);
    const text =
      `Storage node ${name} was restarted and does not have commit ${context.request.commitId} any more. ` +
      `${where} Start a new commit: it begins with its first phase.`;
    throw new JobFailed(code, text, error);
  }
}
