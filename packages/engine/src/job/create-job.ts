// A job that makes an image. It is no block job: older clients do not see it, and it has no event of its own kind.
import { Job, type JobProgress } from './job.ts';
import type { JobOptions } from './job-options.ts';

export interface CreateJobOptions extends Omit<JobOptions, 'speedBytesPerSecond' | 'group'> {
  /** Makes the image; what fails leaves nothing of its own behind. */
  create(): Promise<void>;
}

export class CreateJob extends Job {
  readonly type = 'create';
  readonly #create: () => Promise<void>;
  #steps = 0;

  /** Throws kind `invalid-argument` for an id that cannot be one. */
  constructor(options: CreateJobOptions) {
    super(options);
    this.#create = options.create;
  }

  /** One step, done or not. */
  progress(): JobProgress {
    return { currentBytes: this.#steps, totalBytes: 1, sentBytes: 0 };
  }

  protected override async run(): Promise<void> {
    try {
      await this.#create();
    } finally {
      this.#steps = 1;
    }
  }
}
