// The jobs of this storage node: the list, the verbs, watching. What each kind does before and after the
// engine's job is in backup-runner.ts and restore-runner.ts.
import { type Clock, EngineError, type Job, JobRegistry } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { toTidemarkError } from '../grpc/errors.ts';
import { JOB_WATCH_INTERVAL_MS, JOBS_KEPT_MAX } from '../limits.ts';
import type { JobDamage } from '../restore/job-damage.ts';
import { JobRecord, type JobSnapshot } from './job-record.ts';

/** Told of each job's end, for the log. */
export type JobReport = (end: JobSnapshot) => void;

export class JobRunner {
  readonly registry: JobRegistry;
  readonly clock: Clock;
  readonly #report: JobReport;
  readonly #records = new Map<string, JobRecord>();

  constructor(options: { clock: Clock; report: JobReport }) {
    this.clock = options.clock;
    this.#report = options.report;
    this.registry = new JobRegistry(options.clock);
    this.registry.subscribe(({ event }) => this.#records.get(event.jobId)?.changed());
  }

  /**
   * Takes over a job that was just started. `after` runs once the job is over, whatever came of it, and
   * may still fail it; the job is shown as concluded only then.
   * @param damage what the job meets on its way; it may be filled until `after` has ended.
   */
  adopt(job: Job, after: (succeeded: boolean) => Promise<void>, damage?: JobDamage): JobRecord {
    const record = new JobRecord(job, damage);
    this.#records.set(job.id, record);
    void this.#follow(record, after);
    this.#forgetOld();
    return record;
  }

  list(): JobSnapshot[] {
    return [...this.#records.values()].map(record => record.snapshot());
  }

  find(jobId: string): JobRecord | undefined {
    return this.#records.get(jobId);
  }

  /** Throws `job-not-found`. */
  get(jobId: string): JobRecord {
    const record = this.#records.get(jobId);
    if (record !== undefined) return record;
    throw new TidemarkError(
      'job-not-found',
      `There is no job '${jobId}' on this storage node: it was dismissed, or ended when the storage node last stopped.`,
    );
  }

  /** Does what a verb asks for. Throws `job-not-found`, and `job-state` where the job cannot do that now. */
  command(jobId: string, verb: (job: Job) => void): void {
    const record = this.get(jobId);
    if (record.isEnded) {
      throw new TidemarkError(
        'job-state',
        `Job '${jobId}' has ended; there is nothing left to tell it. Dismiss it.`,
      );
    }
    try {
      verb(record.job);
    } catch (error) {
      if (!(error instanceof EngineError) || error.kind !== 'conflict') throw error;
      throw new TidemarkError('job-state', `${error.message}. Look at the job to see its state.`, error);
    }
  }

  /** Forgets a job that has ended. Good to repeat. Throws `job-state` while it is under way. */
  dismiss(jobId: string): void {
    const record = this.#records.get(jobId);
    if (record === undefined) return;
    if (!record.isEnded) {
      const { state } = record.snapshot();
      throw new TidemarkError(
        'job-state',
        `Job '${jobId}' in state '${state}' cannot be dismissed: wait for its end or cancel it first.`,
      );
    }
    this.#records.delete(jobId);
  }

  /** The status at once, at each change of state, and at intervals while bytes move; ends with the job. */
  async *watch(jobId: string, signal: AbortSignal): AsyncGenerator<JobSnapshot> {
    const record = this.get(jobId);
    let shown = '';
    // Listened to all the time: a change that comes while the last one is being sent must not wait for the interval.
    let change = new AbortController();
    const unsubscribe = record.onChange(() => change.abort());
    try {
      while (!signal.aborted) {
        change = new AbortController();
        const snapshot = record.snapshot();
        const ended = record.isEnded;
        const text = JSON.stringify(snapshot);
        if (text !== shown) yield snapshot;
        shown = text;
        if (ended) return;
        await this.clock.sleep(JOB_WATCH_INTERVAL_MS, AbortSignal.any([signal, change.signal]));
      }
    } finally {
      unsubscribe();
    }
  }

  /** Cancels what is under way and waits for its end. */
  async close(): Promise<void> {
    const live = [...this.#records.values()].filter(record => !record.isEnded);
    for (const record of live) record.job.cancelInternally();
    await Promise.all(live.map(record => record.ended));
  }

  async #follow(record: JobRecord, after: (succeeded: boolean) => Promise<void>): Promise<void> {
    const { job } = record;
    await job.concluded;
    let failure: unknown = job.error;
    try {
      await after(failure === undefined);
    } catch (error) {
      // A TidemarkError says better what the job's own error meant.
      if (failure === undefined || error instanceof TidemarkError) failure = error;
    }
    record.settle(failure === undefined ? undefined : toTidemarkError(failure).toJSON());
    this.#report(record.snapshot());
  }

  #forgetOld(): void {
    for (const [jobId, record] of this.#records) {
      if (this.#records.size <= JOBS_KEPT_MAX) return;
      if (record.isEnded) this.#records.delete(jobId);
    }
  }
}
