// Starts verifications of the share of each repository's backups that is due. What is due follows from rows of the
// catalog alone, so that workers may come and go, and any number of them look at once.
import { randomUUID } from 'node:crypto';
import { type Catalog, intendVerification, pagesOf, type Repository } from '@tidemark/catalog';
import type { Logger } from 'pino';
import { chooseVerification } from './choose-verification.ts';
import type { WorkerLimits } from './limits.ts';
import { lookAtEach } from './look-at-each.ts';
import { Rhythm } from './rhythm.ts';

export class VerifyScheduler {
  readonly #catalog: Catalog;
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #rhythm: Rhythm;

  constructor(options: { catalog: Catalog; limits: WorkerLimits; log: Logger; now: () => number }) {
    this.#catalog = options.catalog;
    this.#log = options.log;
    this.#now = options.now;
    this.#rhythm = new Rhythm(() => this.lookAtAll(), options.limits.verifyScheduleMs, options.log);
  }

  start(): void {
    this.#rhythm.start();
  }

  close(): Promise<void> {
    return this.#rhythm.close();
  }

  lookAtAll(): Promise<void> {
    const repositories = pagesOf(page => this.#catalog.repositories.list(page));
    return lookAtEach(repositories, repository => this.#lookAt(repository));
  }

  async #lookAt(repository: Repository): Promise<void> {
    if (repository.state !== 'ready' || repository.verifyPercentPerDay === 0) return;
    const { state } = await this.#catalog.storageNodes.get(repository.storageNodeId);
    if (state !== 'online') return;
    const runId = randomUUID();
    const backupId = await this.#catalog.transaction(async catalog => {
      const question = {
        ...(await catalog.verifications.lockState(repository.id)),
        percentPerDay: repository.verifyPercentPerDay,
        nowMs: this.#now(),
      };
      const chosen = chooseVerification(question);
      if (chosen === undefined) return undefined;
      const backup = await catalog.backups.get(chosen);
      const reason = `${repository.verifyPercentPerDay} % of repository '${repository.name}' is due each day`;
      await intendVerification(catalog, runId, { backup, repository, reason });
      return chosen;
    });
    if (backupId === undefined) return;
    this.#log.info({ repository: repository.name, backupId, runId }, 'verification due');
  }
}
