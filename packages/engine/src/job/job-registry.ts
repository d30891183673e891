// All jobs of a process by id, and their events, numbered and kept so that a client which lost its
// connection can ask for what it missed.
import type { Clock } from '../clock.ts';
import { EngineError } from '../errors.ts';
import { JOB_EVENTS_KEPT_MAX } from '../limits.ts';
import type { Job } from './job.ts';
import type { NumberedJobEvent } from './job-event.ts';

export class JobRegistry {
  readonly #clock: Clock;
  readonly #jobs = new Map<string, Job>();
  readonly #events: NumberedJobEvent[] = [];
  readonly #listeners = new Set<(event: NumberedJobEvent) => void>();
  #sequence = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Refused as long as any job of that id exists, concluded ones too (scenario BK-V10). */
  assertIdFree(id: string): void {
    if (!this.#jobs.has(id)) return;
    const hint = 'Dismiss the job of that id once it is concluded, or choose another id.';
    throw new EngineError('exists', `Job ID '${id}' already in use`, { hint });
  }

  /** From here on the job is listed and its events are kept, until it is dismissed. */
  add(job: Job): void {
    this.assertIdFree(job.id);
    this.#jobs.set(job.id, job);
    job.onEvent = event => {
      if (event.type === 'job-status' && event.state === 'null') this.#jobs.delete(job.id);
      const numbered = { sequence: ++this.#sequence, atMs: this.#clock.wallMs(), event };
      this.#events.push(numbered);
      if (this.#events.length > JOB_EVENTS_KEPT_MAX) this.#events.shift();
      for (const listener of this.#listeners) listener(numbered);
    };
    job.onEvent({ type: 'job-status', jobId: job.id, state: job.state });
  }

  find(id: string): Job | undefined {
    return this.#jobs.get(id);
  }

  /** Throws kind `not-found`. */
  get(id: string): Job {
    const job = this.#jobs.get(id);
    if (job === undefined) {
      throw new EngineError('not-found', 'Job not found', { hint: `There is no job '${id}', or no more.` });
    }
    return job;
  }

  /** In the order in which they were added. */
  get all(): Job[] {
    return [...this.#jobs.values()];
  }

  /** Events after `sequence` that are still kept; the oldest kept one tells whether some are lost. */
  eventsAfter(sequence: number): NumberedJobEvent[] {
    return this.#events.filter(event => event.sequence > sequence);
  }

  /** Returns the function that ends the subscription. */
  subscribe(listener: (event: NumberedJobEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Cancels every job, the youngest first and one after the other, and waits for their ends. */
  async cancelAll(): Promise<void> {
    for (const job of this.all.reverse()) {
      job.cancelInternally();
      await job.concluded;
      // Nobody is left who would dismiss it.
      if (job.state === 'concluded') job.cancelInternally();
    }
  }
}
