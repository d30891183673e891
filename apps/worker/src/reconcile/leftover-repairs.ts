// Repairs of what runs left behind: jobs are ended, moments released, exports closed, partial images discarded.
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import { tolerate } from '../runs/tolerate.ts';
import { dismissJob, endJob } from '../runs/watch-job.ts';
import { type RepairWork, runOf, stepOf, textFact } from './repair-work.ts';

type Repair = (work: RepairWork) => Promise<unknown>;

const discardPartial: Repair = work => {
  const { clients, context, found } = work;
  const wanted = {
    step: stepOf(work),
    repositoryId: textFact(work, 'repositoryId'),
    backupId: found.subjectId,
  };
  // `backup-not-usable`: it was published meanwhile, and is whole.
  const refusals = ['backup-not-found', 'repository-not-found', 'backup-not-usable'] as const;
  return tolerate(refusals, clients.repositories.discardBackup(wanted, { signal: context.stop }));
};

/** An epoch that no attempt of a run has reached. */
const AFTER_ALL_EPOCHS = 2 ** 31;

/** In the name of the run that opened it, whose lease it is. */
const closeBackup: Repair = work => {
  const { clients, context, found } = work;
  const runId = textFact(work, 'runId');
  const leaseEpoch = (runOf(work, runId)?.leaseEpoch ?? AFTER_ALL_EPOCHS) + 1;
  const step = { runId, step: 'reconcile', leaseEpoch };
  const wanted = { step, repositoryId: textFact(work, 'repositoryId'), backupId: found.subjectId };
  const close = clients.repositories.closeBackup(wanted, { signal: context.stop });
  return tolerate(['backup-not-found', 'repository-not-found'], close);
};

const releaseMoment: Repair = work => {
  const { clients, context, found } = work;
  const wanted = { step: stepOf(work), volumeId: found.subjectId, momentId: textFact(work, 'momentId') };
  return tolerate(['volume-not-found'], clients.jobs.releaseMoment(wanted, { signal: context.stop }));
};

const endOldJob: Repair = async work => {
  const job = { storageNode: work.clients, jobId: textFact(work, 'jobId') };
  const { step } = stepOf(work);
  await endJob(work.context, job, step);
  await dismissJob(work.context, job, step);
};

const endCommit: Repair = async ({ look, found, context }) => {
  const { catalog, run } = context;
  const volumeId = String(found.facts.volumeId);
  const there = look.node.volumes.find(({ volume }) => volume.volumeId === volumeId);
  if (there) {
    const listed = there.snapshots.map(({ snapshotId }) => snapshotId);
    await catalog.commits.dropLostSnapshots(found.subjectId, listed, run.id);
  }
  const error = { code: 'job-interrupted', message: found.message };
  await catalog.commits.end(found.subjectId, { state: 'failed', error }, run.id);
};

const decideGroup =
  (keep: boolean): Repair =>
  work => {
    const { clients, context, found } = work;
    const options = { signal: context.stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
    return clients.groups.decideGroup({ step: stepOf(work), groupId: found.subjectId, keep }, options);
  };

const dropLeases: Repair = async ({ look, found, context }) => {
  const left = look.catalog.leases.filter(({ backupId, held }) => backupId === found.subjectId && !held);
  for (const { id } of left) await context.catalog.adoption.dropLease(id);
};

export const LEFTOVER_REPAIRS = {
  'partial-left': { discard: discardPartial },
  'open-backup-left': { close: closeBackup },
  'moment-left': { release: releaseMoment },
  'job-left': { end: endOldJob },
  'group-undecided': { keep: decideGroup(true), undo: decideGroup(false) },
  'commit-differs': { end: endCommit },
  'lease-left': { drop: dropLeases },
} as const;
