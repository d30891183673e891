// Verifications of backups that operators ask for; the worker starts those that are due by itself.
import { intendVerification } from '@tidemark/catalog';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import type { BackupJson, VerifyBackup } from '../schemas/backup.ts';
import { requireOnline } from '../storage-nodes/storage-node-service.ts';
import { toBackupJson } from './backup-service.ts';

export class VerifyService {
  readonly #runs: RunStarter;

  constructor(runs: RunStarter) {
    this.#runs = runs;
  }

  start(backupId: string, body: VerifyBackup): Promise<StartedRun<{ backup: BackupJson }>> {
    return this.#runs.start(async (catalog, runId) => {
      const backup = await catalog.backups.get(backupId);
      const repository = await catalog.repositories.getReady(backup.repositoryId);
      requireOnline(await catalog.storageNodes.get(repository.storageNodeId));
      const wanted = { backup, repository, reason: 'asked for', ...body };
      const run = await intendVerification(catalog, runId, wanted);
      return { run, backup: toBackupJson(backup) };
    });
  }
}
