// What a job does about a failed read or write of its own (scenario BJ-11). Copies on behalf of a guest
// follow on-cbw-error instead.
import type { EngineError } from '../errors.ts';

/** `auto` is `enospc` (scenario BK-V14). */
export const ON_ERROR = ['report', 'ignore', 'enospc', 'stop', 'auto'] as const;
export type OnError = (typeof ON_ERROR)[number];

export type JobOperation = 'read' | 'write';

/** report: the job fails. ignore: the request is done again. stop: so it is, once somebody resumes the job. */
export type ErrorAction = 'report' | 'ignore' | 'stop';

/** Shown of a job while it waits because of an error; `ok` again after resume. */
export type IoStatus = 'ok' | 'failed' | 'nospace';

export function errorAction(policy: OnError, error: EngineError): ErrorAction {
  if (policy === 'auto' || policy === 'enospc') return isNoSpace(error) ? 'stop' : 'report';
  return policy;
}

export function ioStatusOf(error: EngineError): IoStatus {
  return isNoSpace(error) ? 'nospace' : 'failed';
}

function isNoSpace(error: EngineError): boolean {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if ((cause as Partial<EngineError>).context?.errno === 'ENOSPC') return true;
  }
  return false;
}
