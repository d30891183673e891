// Verifications of backups that operators ask for; the worker starts those that are due by itself.
import type { RunRequest } from '@tidemark/proto';
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
    const { chain, speedBytesPerSecond = null } = body;
    return this.#runs.start(async (catalog, runId) => {
      const backup = await catalog.backups.get(backupId);
      const { id, repositoryId, volumeId, checkpointId } = backup;
      const { storageNodeId } = await catalog.repositories.getReady(repositoryId);
      requireOnline(await catalog.storageNodes.get(storageNodeId));
      // Refuses a backup that is not available, and keeps this one from being taken out of its chain.
      await catalog.backupLeases.take(id, 'run', runId);
      const run = await catalog.runs.create({
        id: runId,
        kind: 'verify',
        ...{ storageNodeId, volumeId, checkpointId, repositoryId, backupId: id },
        reason: 'asked for',
        request: { repositoryId, backupId: id, chain, speedBytesPerSecond } satisfies RunRequest<'verify'>,
      });
      return { run, backup: toBackupJson(backup) };
    });
  }
}
