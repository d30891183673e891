// Removals of backups as jobs of this storage node.
import { TaskJob } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import type { JobRunner } from '../host/job-runner.ts';
import { Turns } from '../host/turns.ts';
import type { RepositoryStore } from './repository-store.ts';

export interface RemovalRequest {
  readonly repositoryId: string;
  readonly backupId: string;
  /** 0: as fast as it goes. */
  readonly speedBytesPerSecond: number;
}

export class RemovalRunner {
  readonly #repositories: RepositoryStore;
  readonly #jobs: JobRunner;
  readonly #turns = new Turns();

  constructor(options: { repositories: RepositoryStore; jobs: JobRunner }) {
    this.#repositories = options.repositories;
    this.#jobs = options.jobs;
  }

  /**
   * Resolves with the job running, and the backup hidden for good. Good to repeat: a job under way or one that
   * succeeded is answered as before, one that did not is begun anew. Rejects with `backup-not-found` and
   * `backup-in-use`.
   */
  start(request: RemovalRequest): Promise<{ jobId: string }> {
    return this.#turns.take(request.backupId, () => this.#startOnce(request));
  }

  async #startOnce({
    repositoryId,
    backupId,
    speedBytesPerSecond,
  }: RemovalRequest): Promise<{ jobId: string }> {
    const jobId = `removal-${backupId}`;
    const known = this.#jobs.find(jobId);
    if (known !== undefined && (!known.isEnded || known.snapshot().error === undefined)) return { jobId };
    this.#jobs.dismiss(jobId);
    const repository = this.#repositories.get(repositoryId);
    const removal = await repository.beginRemoval(backupId);
    let failure: unknown;
    try {
      const job = new TaskJob({
        id: jobId,
        type: 'removal',
        clock: this.#jobs.clock,
        speedBytesPerSecond,
        work: async control => {
          try {
            await removal.run(control);
          } catch (error) {
            failure = error;
            throw error;
          }
        },
        // Also where it was cancelled before it had begun.
        clean: async () => removal.release(),
      });
      this.#jobs.registry.add(job);
      this.#jobs.adopt(job, async () => {
        // The job itself speaks the engine's language only.
        if (failure instanceof TidemarkError) throw failure;
      });
      job.start();
    } catch (error) {
      removal.release();
      throw error;
    }
    return { jobId };
  }
}
