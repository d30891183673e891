// A job around work that its caller brings, step by step: reading a backup to verify it, for one. Speed limit, pause
// and cancel are the job's.
import { Job, type JobProgress } from './job.ts';
import { type JobOptions, validateJobId } from './job-options.ts';

/** What the work is given. */
export interface TaskControl {
  readonly progress: JobProgress;
  /**
   * To be called between two steps, with nothing under way that others must not meet: counts the bytes of the step
   * before, waits as long as the speed limit asks for and while the job is paused, and rejects with kind `cancelled`.
   */
  pace(bytes: number): Promise<void>;
}

export interface TaskJobOptions extends JobOptions {
  /** A word for what it does. */
  type: string;
  work(control: TaskControl): Promise<void>;
  /** After the work, whatever came of it: gives back what it holds. */
  clean?: () => Promise<void>;
  /** The job is to end: lets go of what hangs. */
  onCancel?: () => void;
}

export class TaskJob extends Job {
  readonly type: string;
  readonly #options: TaskJobOptions;
  readonly #progress: JobProgress = { currentBytes: 0, totalBytes: 0, sentBytes: 0 };

  /** Throws kind `invalid-argument` for an id or a speed that cannot be one. */
  constructor(options: TaskJobOptions) {
    validateJobId(options.id);
    super(options);
    this.type = options.type;
    this.#options = options;
  }

  progress(): JobProgress {
    return { ...this.#progress };
  }

  protected override async run(): Promise<void> {
    await this.pausePoint();
    await this.#options.work({ progress: this.#progress, pace: bytes => this.#pace(bytes) });
  }

  protected override onCancel(): void {
    this.#options.onCancel?.();
  }

  protected override async clean(): Promise<void> {
    await this.#options.clean?.();
  }

  async #pace(bytes: number): Promise<void> {
    this.account(bytes);
    for (;;) {
      await this.pausePoint();
      const delayMs = this.speedDelayMs;
      if (delayMs <= 0) return;
      await this.sleep(delayMs);
    }
  }
}
