// Passes what the operator wants of a run on to the job behind it, while somebody follows that job.
import { type ErrorCode, type JobStatus, TidemarkError } from '@tidemark/proto';
import type { RunContext } from './run-definition.ts';
import type { WatchedJob } from './watch-job.ts';

/** The job is over, or is as wanted already. */
const NO_MATTER: readonly ErrorCode[] = ['job-not-found', 'job-state'];
const RESTING = ['paused', 'standby'];

export class JobSteering {
  readonly #context: RunContext;
  readonly #job: WatchedJob;
  readonly #unsubscribe: () => void;
  #isPaused: boolean | undefined;
  /** As the job was told; undefined: nothing so far. */
  #speed: number | undefined;
  #turn: Promise<void> = Promise.resolve();

  constructor(context: RunContext, job: WatchedJob) {
    this.#context = context;
    this.#job = job;
    this.#unsubscribe = context.controls.onChange(() => this.#steer());
  }

  /** To be told of each status: the first says how the job is; what could not be said is said again then. */
  note({ state }: JobStatus): void {
    this.#isPaused ??= RESTING.includes(state);
    this.#steer();
  }

  /** Afterwards nothing more is said to the job. */
  async end(): Promise<void> {
    this.#unsubscribe();
    await this.#turn;
  }

  #steer(): void {
    this.#turn = this.#turn.then(() => this.#say());
  }

  /** A storage node that does not answer ends the watching, too: it is told again with the next one. */
  async #say(): Promise<void> {
    const { pauseRequested, speedBytesPerSecond } = this.#context.controls.wanted;
    const { jobs } = this.#job.storageNode;
    const { jobId } = this.#job;
    const options = { signal: this.#context.stop };
    if (this.#isPaused === undefined || this.#context.stop.aborted) return;
    if (speedBytesPerSecond !== null && speedBytesPerSecond !== this.#speed) {
      const wanted = { step: this.#context.call('set-speed'), jobId, speedBytesPerSecond };
      if (await isSaid(jobs.setJobSpeed(wanted, options))) this.#speed = speedBytesPerSecond;
    }
    if (pauseRequested !== this.#isPaused) {
      const command = { step: this.#context.call(pauseRequested ? 'pause' : 'resume'), jobId };
      const said = pauseRequested ? jobs.pauseJob(command, options) : jobs.resumeJob(command, options);
      if (await isSaid(said)) this.#isPaused = pauseRequested;
    }
  }
}

async function isSaid(call: Promise<unknown>): Promise<boolean> {
  try {
    await call;
    return true;
  } catch (error) {
    return error instanceof TidemarkError && NO_MATTER.includes(error.code);
  }
}
