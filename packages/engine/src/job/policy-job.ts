// What every job does that copies data: a read or write of its own that fails is told of and settled by the error
// policies of its two sides (scenario BJ-11).
import type { EngineError } from '../errors.ts';
import { ERROR_RETRY_MS } from '../limits.ts';
import { type ErrorAction, errorAction, ioStatusOf, type OnError } from './error-policy.ts';
import { Job } from './job.ts';
import type { JobOptions } from './job-options.ts';

export interface ErrorPolicies {
  /** Default: report. */
  onSourceError?: OnError | undefined;
  onTargetError?: OnError | undefined;
}

/** A request of the job that failed. */
export interface JobFailure {
  side: 'source' | 'target';
  error: EngineError;
  offset: number;
}

export abstract class PolicyJob extends Job {
  readonly #onSourceError: OnError;
  readonly #onTargetError: OnError;
  #lastFailed: number | undefined;

  constructor(options: JobOptions & ErrorPolicies) {
    super(options);
    this.#onSourceError = options.onSourceError ?? 'report';
    this.#onTargetError = options.onTargetError ?? 'report';
  }

  /**
   * Tells of the failure. Rejects with it where the policy is to report it; otherwise the caller does the request
   * again, after `pausePoint` where the policy is to stop.
   */
  protected async settleFailure({ side, error, offset }: JobFailure): Promise<ErrorAction> {
    const action = errorAction(side === 'source' ? this.#onSourceError : this.#onTargetError, error);
    const operation = side === 'source' ? 'read' : 'write';
    this.onEvent({ type: 'job-error', jobId: this.id, operation, action, error });
    if (action === 'report') throw error;
    if (action === 'stop') this.stopForError(ioStatusOf(error));
    else if (this.#lastFailed === offset) await this.restFor(ERROR_RETRY_MS);
    this.#lastFailed = offset;
    return action;
  }

  /** Resolves after `ms`, earlier only where the job must rest. */
  protected async restFor(ms: number): Promise<void> {
    const endMs = this.clock.monotonicMs() + ms;
    for (let left = ms; left > 0 && !this.mustRest; left = endMs - this.clock.monotonicMs()) {
      await this.sleep(left);
    }
  }
}
