// What every kind of job is told when it is made, and the checks of it.
import type { Clock } from '../clock.ts';
import { EngineError } from '../errors.ts';
import type { JobGroup } from './job-group.ts';

export interface JobOptions {
  id: string;
  clock: Clock;
  /** 0: no limit. */
  speedBytesPerSecond?: number;
  /** False: waits in `pending` for the finalize verb. Default true. */
  autoFinalize?: boolean;
  /** False: stays listed as `concluded` until the dismiss verb. Default true. */
  autoDismiss?: boolean;
  /** Jobs of one group succeed or fail together. Default: a group of its own. */
  group?: JobGroup;
}

/** A letter, then letters, digits, `-`, `.`, `_`. */
export function validateJobId(id: string): void {
  if (/^[A-Za-z][A-Za-z0-9\-._]*$/.test(id)) return;
  const hint = 'An id begins with a letter; then come letters, digits, dashes, dots and underscores.';
  throw new EngineError('invalid-argument', `Invalid job ID '${id}'`, { hint });
}

export function validateSpeed(bytesPerSecond: number): number {
  if (Number.isSafeInteger(bytesPerSecond) && bytesPerSecond >= 0) return bytesPerSecond;
  const hint = '0 means no limit, anything else is bytes per second.';
  throw new EngineError('invalid-argument', "Parameter 'speed' expects a non-negative value", { hint });
}
