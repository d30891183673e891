// What a job tells the world. JobRegistry numbers the events and keeps them for replay.
import type { EngineError } from '../errors.ts';
import type { JobProgress } from './job.ts';
import type { JobState } from './job-state.ts';

export type JobEvent =
  | { type: 'job-status'; jobId: string; state: JobState }
  | { type: 'job-pending'; jobId: string }
  | { type: 'job-error'; jobId: string; operation: 'read' | 'write'; action: 'report'; error: EngineError }
  | ({
      type: 'job-completed' | 'job-cancelled';
      jobId: string;
      error: EngineError | undefined;
    } & JobProgress);

export interface NumberedJobEvent {
  sequence: number;
  atMs: number;
  event: JobEvent;
}
