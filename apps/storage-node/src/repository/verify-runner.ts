// Verification of backups as jobs of the storage node that holds them.
import { type TaskControl, TaskJob } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import type { JobRunner } from '../host/job-runner.ts';
import { JobDamage } from '../restore/job-damage.ts';
import { BackupVerification } from './backup-verification.ts';
import type { RepositoryStore } from './repository-store.ts';

export interface VerifyRequest {
  readonly repositoryId: string;
  readonly backupId: string;
  readonly runId: string;
  readonly speedBytesPerSecond: number;
  /** What the backup stands on is looked at, too. */
  readonly chain: boolean;
}

export class VerifyRunner {
  readonly #repositories: RepositoryStore;
  readonly #jobs: JobRunner;

  constructor(options: { repositories: RepositoryStore; jobs: JobRunner }) {
    this.#repositories = options.repositories;
    this.#jobs = options.jobs;
  }

  /**
   * Good to repeat by the same run while its job is known. Throws `repository-not-found`, `backup-not-found`, and
   * `backup-in-use` while a removal is under way in the chain; there is no job then. The job ends with
   * `backup-damaged`, its text naming what, where the backup is not sound.
   */
  start(request: VerifyRequest): { jobId: string } {
    const jobId = `verify-${request.runId}`;
    if (this.#jobs.find(jobId) !== undefined) return { jobId };
    const repository = this.#repositories.get(request.repositoryId);
    const whole = repository.chainOf(request.backupId);
    const chain = request.chain ? whole : whole.slice(0, 1);
    const damage = new JobDamage();
    const isChainWhole = whole.at(-1)!.parentBackupId === '';
    let control: TaskControl | undefined;
    const verification = new BackupVerification({
      chain,
      isChainWhole: isChainWhole || chain.length < whole.length,
      filesOf: backupId => repository.filesOf(backupId),
      damage,
      pace: async ({ seenBytes, readBytes }) => {
        control!.progress.currentBytes += seenBytes;
        control!.progress.sentBytes += readBytes;
        await control!.pace(readBytes);
      },
    });
    const job = new TaskJob({
      id: jobId,
      type: 'verify',
      clock: this.#jobs.clock,
      speedBytesPerSecond: request.speedBytesPerSecond,
      work: async given => {
        control = given;
        given.progress.totalBytes = chain.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
        await verification.run();
        given.progress.currentBytes = given.progress.totalBytes;
      },
    });
    const release = repository.hold(whole.map(({ backupId }) => backupId));
    this.#jobs.registry.add(job);
    job.start();
    this.#jobs.adopt(
      job,
      async succeeded => {
        release();
        const [first] = verification.findings;
        if (!succeeded || first === undefined) return;
        throw damaged(request.backupId, verification.findings);
      },
      damage,
    );
    return { jobId };
  }
}

function damaged(backupId: string, findings: readonly string[]): TidemarkError {
  return new TidemarkError(
    'backup-damaged',
    `Backup ${backupId} is damaged: ${findings.join('; ')}. Put its files back, or make a full backup; ` +
      'the next backup on it sends again what is known to be damaged.',
  );
}
