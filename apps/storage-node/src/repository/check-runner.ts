// The look at a backup that is about to be published, as a job: it reads all that was copied, which takes as long as
// the disk takes, and can be watched, slowed, paused and cancelled meanwhile.
import { type TaskControl, TaskJob } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import type { JobRunner } from '../host/job-runner.ts';
import type { RepositoryStore } from './repository-store.ts';

export interface CheckRequest {
  readonly repositoryId: string;
  readonly backupId: string;
  /** The target that the whole copy went to. */
  readonly targetUri: string;
  readonly runId: string;
  readonly speedBytesPerSecond: number;
}

export class CheckRunner {
  readonly #repositories: RepositoryStore;
  readonly #jobs: JobRunner;

  constructor(options: { repositories: RepositoryStore; jobs: JobRunner }) {
    this.#repositories = options.repositories;
    this.#jobs = options.jobs;
  }

  /**
   * Good to repeat: joins a job that is under way, begins another one after its end. Throws `repository-not-found`, and
   * `backup-not-found` where the backup is not being written to that target; there is no job then. The job ends with
   * `image-invalid` where the files are not what was sent.
   */
  start(request: CheckRequest): { jobId: string } {
    const { repositoryId, runId, speedBytesPerSecond } = request;
    const jobId = `check-${runId}`;
    const repository = this.#repositories.get(repositoryId);
    const sizeBytes = repository.sizeOfPartial(request);
    const known = this.#jobs.find(jobId);
    if (known !== undefined && !known.isEnded) return { jobId };
    if (known !== undefined) this.#jobs.dismiss(jobId);
    let refusal: TidemarkError | undefined;
    const work = async ({ progress, pace }: TaskControl): Promise<void> => {
      progress.totalBytes = sizeBytes;
      const check = repository.check(request, async ({ seenBytes, readBytes }) => {
        progress.currentBytes += seenBytes;
        await pace(readBytes);
      });
      await check.catch(error => {
        if (error instanceof TidemarkError) refusal = error;
        throw error;
      });
      progress.currentBytes = progress.totalBytes;
    };
    const job = new TaskJob({ id: jobId, type: 'check', clock: this.#jobs.clock, speedBytesPerSecond, work });
    // Until the end it can neither be published nor discarded: both wait for their turn.
    this.#jobs.registry.add(job);
    job.start();
    this.#jobs.adopt(job, async () => {
      if (refusal !== undefined) throw refusal;
    });
    return { jobId };
  }
}
