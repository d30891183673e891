// What goes wrong while a run is worked on, and what it means for the run.
import { CatalogError, type RunError } from '@tidemark/catalog';
import { isErrorCode, isRetryable, TidemarkError } from '@tidemark/proto';

/** The process stops: the run is handed to the next worker as it is. */
export class WorkerStopping extends Error {
  constructor() {
    super('The worker is stopping.');
    this.name = 'WorkerStopping';
  }
}

/** A job that has concluded without success. Looking at it again would only show the same. */
export class JobFailed extends TidemarkError {
  override name = 'JobFailed';
}

/** The storage node that is copied to is away: no failure to be counted, as long as its time is not up. */
export class TargetAway extends TidemarkError {
  override name = 'TargetAway';
  /** Since the run's last progress, with the wait for the next attempt. */
  readonly awayMs: number;
  readonly delayMs: number;

  constructor(cause: TidemarkError, { awayMs, delayMs }: { awayMs: number; delayMs: number }) {
    super(cause.code, cause.message, cause);
    this.awayMs = awayMs;
    this.delayMs = delayMs;
  }
}

export function isSuperseded(error: unknown): boolean {
  return toTidemarkError(error).code === 'run-superseded';
}

export function isWorthRetrying(error: unknown): boolean {
  return !(error instanceof JobFailed) && isRetryable(toTidemarkError(error));
}

/** Total: every error of the catalog, of a storage node, or of our own making. */
export function toTidemarkError(error: unknown): TidemarkError {
  if (error instanceof TidemarkError) return error;
  if (error instanceof CatalogError && isErrorCode(error.code)) {
    return new TidemarkError(error.code, error.message, error);
  }
  const message = error instanceof Error ? error.message : String(error);
  return new TidemarkError('internal-error', `The worker failed: ${message}`, error);
}

export function toRunError(error: unknown): RunError {
  return { ...toTidemarkError(error).toJSON() };
}
