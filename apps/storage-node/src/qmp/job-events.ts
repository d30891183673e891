// The engine's job events as QMP tells them.
import type { JobEvent } from '@tidemark/engine';
import type { QmpEvent } from './storage-daemon.ts';
import { systemErrorText } from './system-error-text.ts';

/** Jobs that are none to the older commands and events, which speak of block devices. */
export function isBlockJob(jobType: string): boolean {
  return jobType !== 'create';
}

/** Undefined where QMP says nothing. */
export function toQmpEvent(event: JobEvent): QmpEvent | undefined {
  return 'jobType' in event && !isBlockJob(event.jobType) ? undefined : told(event);
}

/** Total. */
function told(event: JobEvent): QmpEvent {
  switch (event.type) {
    case 'job-status':
      return { event: 'JOB_STATUS_CHANGE', data: { status: event.state, id: event.jobId } };
    case 'job-pending':
      return { event: 'BLOCK_JOB_PENDING', data: { type: event.jobType, id: event.jobId } };
    case 'job-error': {
      const { jobId, operation, action } = event;
      return { event: 'BLOCK_JOB_ERROR', data: { device: jobId, operation, action } };
    }
    case 'job-ready':
      return { event: 'BLOCK_JOB_READY', data: standing(event) };
    case 'job-cancelled':
      return { event: 'BLOCK_JOB_CANCELLED', data: standing(event) };
    case 'job-completed': {
      const error = event.error && { error: systemErrorText(event.error) };
      return { event: 'BLOCK_JOB_COMPLETED', data: { ...standing(event), ...error } };
    }
  }
}

type StandingEvent = Extract<JobEvent, { speedBytesPerSecond: number }>;

function standing(event: StandingEvent): object {
  return {
    device: event.jobId,
    len: event.totalBytes,
    offset: event.currentBytes,
    speed: event.speedBytesPerSecond,
    type: event.jobType,
  };
}
