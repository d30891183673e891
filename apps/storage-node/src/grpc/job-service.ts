// Jobs over gRPC: start, watch, and the verbs.
import type { Job } from '@tidemark/engine';
import {
  AuditStarted,
  type JobCommand,
  type JobServiceServer,
  type JobStatus,
  JobServiceService as methods,
  type StartRestoreRequest,
  TidemarkError,
} from '@tidemark/proto';
import type { JobRunner } from '../host/job-runner.ts';
import type { AuditRunner } from '../moment/audit-runner.ts';
import type { MomentServices } from '../moment/moment-services.ts';
import type { RestoreRequest, RestoreRunner } from '../restore/restore-runner.ts';
import { toJobDamage, toJobStatus, toRestoreStarted } from './convert.ts';
import { type CallContext, query, step } from './handlers.ts';
import { momentMethods } from './moment-methods.ts';
import type { GrpcService } from './server.ts';
import { stream } from './stream.ts';

export function jobService(
  options: MomentServices & {
    context: CallContext;
    jobs: JobRunner;
    restores: RestoreRunner;
    audits: AuditRunner;
  },
): GrpcService {
  const { context, jobs, restores, audits } = options;
  const verb = (action: (job: Job, request: JobCommand) => void) => async (request: JobCommand) => {
    jobs.command(request.jobId, job => action(job, request));
    return {};
  };
  // Starting is good to repeat by what the host knows of its jobs: a remembered answer could name a job that
  // ended with an earlier life of the process.
  const implementation: JobServiceServer = {
    ...momentMethods(options),
    startAudit: step(context, methods.startAudit, 'do-again', async (request, { runId }) =>
      AuditStarted.fromPartial(await audits.start({ ...request, runId })),
    ),
    getJobDamage: query(context, methods.getJobDamage, ({ jobId }) => toJobDamage(jobs.get(jobId).damage)),
    startRestore: step(context, methods.startRestore, 'do-again', async (request, { runId }) =>
      toRestoreStarted(await restores.start(toRestoreRequest(request, runId))),
    ),
    watchJob: stream(context, methods.watchJob, ({ jobId }, signal) => watched(jobs, jobId, signal)),
    getJob: query(context, methods.getJob, ({ jobId }) => toJobStatus(jobs.get(jobId).snapshot())),
    listJobs: query(context, methods.listJobs, () => ({ jobs: jobs.list().map(toJobStatus) })),
    cancelJob: step(context, methods.cancelJob, 'do-again', async ({ jobId }, { runId }) => {
      await restores.withdraw(runId);
      jobs.command(jobId, job => job.cancel());
      return {};
    }),
    pauseJob: step(
      context,
      methods.pauseJob,
      'do-again',
      verb(job => job.pause()),
    ),
    resumeJob: step(
      context,
      methods.resumeJob,
      'do-again',
      verb(job => job.resume()),
    ),
    setJobSpeed: step(context, methods.setJobSpeed, 'do-again', async request => {
      jobs.command(request.jobId, job => job.setSpeed(request.speedBytesPerSecond));
      return {};
    }),
    dismissJob: step(context, methods.dismissJob, 'do-again', async ({ jobId }, { runId }) => {
      jobs.dismiss(jobId);
      await restores.takeOver(runId);
      return {};
    }),
  };
  return { definition: methods, implementation };
}

async function* watched(jobs: JobRunner, jobId: string, signal: AbortSignal): AsyncGenerator<JobStatus> {
  for await (const status of jobs.watch(jobId, signal)) yield toJobStatus(status);
}

function toRestoreRequest(request: StartRestoreRequest, runId: string): RestoreRequest {
  const { sourceUri, sumsUri, sizeBytes, speedBytesPerSecond, skipDamage, target } = request;
  const common = { restoreId: runId, sourceUri, sumsUri, sizeBytes, speedBytesPerSecond, skipDamage };
  if (target?.$case === 'volume') return { ...common, target: { kind: 'volume', ...target.value } };
  if (target?.$case === 'file') return { ...common, target: { kind: 'file', ...target.value } };
  if (target?.$case === 'inPlace') return { ...common, target: { kind: 'in-place', ...target.value } };
  if (target?.$case === 'instant') return { ...common, target: { kind: 'instant', ...target.value } };
  throw new TidemarkError('invalid-request', 'A restore needs a target: a new volume, a file or a volume.');
}
