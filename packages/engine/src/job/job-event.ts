// What a job tells the world. JobRegistry numbers the events and keeps them for replay.
import type { EngineError } from '../errors.ts';
import type { ErrorAction, JobOperation } from './error-policy.ts';
import type { JobProgress } from './job.ts';
import type { JobState } from './job-state.ts';

export type JobEvent =
  | { type: 'job-status'; jobId: string; state: JobState }
  | { type: 'job-pending'; jobId: string; jobType: string }
  | { type: 'job-error'; jobId: string; operation: JobOperation; action: ErrorAction; error: EngineError }
  | ({ type: 'job-ready'; jobId: string; jobType: string; speedBytesPerSecond: number } & JobProgress)
  | ({
      type: 'job-completed' | 'job-cancelled';
      jobId: string;
      jobType: string;
      speedBytesPerSecond: number;
      error: EngineError | undefined;
    } & JobProgress);

export interface NumberedJobEvent {
  sequence: number;
  atMs: number;
  event: JobEvent;
}
