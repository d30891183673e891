// What a storage node keeps for a backup: its frozen moment, and the jobs that copy that.
import type { RunContext } from './run-definition.ts';
import { dismissJob, endJob, type WatchedJob } from './watch-job.ts';

type Context = RunContext<'backup'>;

/** Good to repeat. */
export async function releaseMoment(context: Context, step: string): Promise<void> {
  const { request, storageNodes, call, stop } = context;
  const { volumeId, checkpointId: momentId } = request;
  const { jobs } = await storageNodes.ofVolume(volumeId);
  await jobs.releaseMoment({ step: call(step), volumeId, momentId }, { signal: stop });
}

/** Afterwards none of the backup's jobs is under way, or known. Good to repeat. */
export async function endBackupJobs(context: Context, step: string): Promise<void> {
  for (const job of await backupJobs(context)) {
    await endJob(context, job, step);
    await dismissJob(context, job, step);
  }
}

/** Each copy of the moment has a job of its own, whose name begins as that of the first. */
async function backupJobs({ request, storageNodes, stop }: Context): Promise<WatchedJob[]> {
  const storageNode = await storageNodes.ofVolume(request.volumeId);
  const { jobs } = await storageNode.jobs.listJobs({}, { signal: stop });
  const first = `backup-${request.checkpointId}`;
  return jobs.filter(({ jobId }) => jobId.startsWith(first)).map(({ jobId }) => ({ storageNode, jobId }));
}
