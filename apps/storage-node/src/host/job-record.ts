// A job of the engine together with what the storage node does after it: what callers see as one thing
// that ends once.
import type { Job, JobState } from '@tidemark/engine';
import type { TidemarkErrorJson } from '@tidemark/proto';
import { JobDamage } from '../restore/job-damage.ts';
import { currentRunId } from './current-run.ts';

export interface JobSnapshot {
  readonly jobId: string;
  /** For which it was started; undefined: for none. */
  readonly runId: string | undefined;
  readonly type: string;
  readonly state: JobState;
  readonly currentBytes: number;
  readonly totalBytes: number;
  readonly sentBytes: number;
  readonly error: TidemarkErrorJson | undefined;
  readonly startedAtMs: number;
  readonly finishedAtMs: number;
  readonly damagedBytes: number;
  readonly speedBytesPerSecond: number;
}

export class JobRecord {
  readonly job: Job;
  /** Filled by whoever started the job. */
  readonly damage: JobDamage;
  readonly #runId = currentRunId();
  #settled = false;
  #error: TidemarkErrorJson | undefined;
  readonly #changes = new Set<() => void>();
  readonly #end = Promise.withResolvers<void>();

  constructor(job: Job, damage: JobDamage = new JobDamage()) {
    this.job = job;
    this.damage = damage;
  }

  /** Resolves when the job and all that follows it has ended, whatever came of it. */
  get ended(): Promise<void> {
    return this.#end.promise;
  }

  get isEnded(): boolean {
    return this.#settled;
  }

  /** Once, by the runner. */
  settle(error: TidemarkErrorJson | undefined): void {
    this.#settled = true;
    this.#error = error;
    this.#end.resolve();
    this.changed();
  }

  changed(): void {
    for (const listener of [...this.#changes]) listener();
  }

  /** Returns the function that ends the subscription: a job may last for days without a change of state. */
  onChange(listener: () => void): () => void {
    this.#changes.add(listener);
    return () => this.#changes.delete(listener);
  }

  snapshot(): JobSnapshot {
    const { id, type, state, startedAtMs, finishedAtMs, ...info } = this.job.info();
    const { currentBytes, totalBytes, sentBytes, speedBytesPerSecond } = info;
    const over = state === 'concluded' || state === 'null';
    return {
      ...{ currentBytes, totalBytes, sentBytes, speedBytesPerSecond },
      damagedBytes: this.damage.bytes,
      jobId: id,
      runId: this.#runId,
      type,
      // What follows the job may still fail: to callers it is pending until that is done.
      state: this.#settled ? 'concluded' : over ? 'pending' : state,
      error: this.#error,
      startedAtMs: startedAtMs ?? 0,
      finishedAtMs: this.#settled ? (finishedAtMs ?? 0) : 0,
    };
  }
}
