// Backups: intents to make them, and what there is.
import { type Backup, type Catalog, type DroppedCheckpoint, intendBackup, isId } from '@tidemark/catalog';
import type { z } from 'zod';
import { momentOf } from '../filters.ts';
import { iso, isoOrNull } from '../moments.ts';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import type { BackupJson, backupQuery, CreateBackup } from '../schemas/backup.ts';

export function toBackupJson(backup: Backup): BackupJson {
  return {
    id: backup.id,
    volumeId: backup.volumeId,
    volumeName: backup.volumeName,
    repositoryId: backup.repositoryId,
    checkpointId: backup.checkpointId,
    checkpoint: backup.checkpoint,
    parentId: backup.parentId,
    replicaOfId: backup.replicaOfId,
    kind: backup.kind,
    reason: backup.reason,
    state: backup.state,
    description: backup.description,
    pinnedUntil: isoOrNull(backup.pinnedUntil),
    sizeBytes: backup.sizeBytes,
    compression: backup.compression,
    verifiedAt: isoOrNull(backup.verifiedAt),
    verifyResult: backup.verifyResult,
    damage: backup.damage,
    distrusted: backup.distrusted,
    storedBytes: backup.storedBytes,
    dirtyBytes: backup.dirtyBytes,
    sentBytes: backup.sentBytes,
    pointInTime: isoOrNull(backup.pointInTime),
    fileName: backup.fileName,
    createdAt: iso(backup.createdAt),
    finishedAt: isoOrNull(backup.finishedAt),
    durationMs: backup.durationMs,
  };
}

export class BackupService {
  readonly #catalog: Catalog;
  readonly #runs: RunStarter;

  constructor(catalog: Catalog, runs: RunStarter) {
    this.#catalog = catalog;
    this.#runs = runs;
  }

  create(body: CreateBackup): Promise<StartedRun<{ backup: BackupJson; dropped: DroppedCheckpoint[] }>> {
    return this.#runs.start(async (catalog, runId) => {
      const { backup, ...intent } = await intendBackup(catalog, runId, body);
      return { ...intent, backup: toBackupJson(backup) };
    });
  }

  /** Newest first. */
  async list({ volume, repository, since, until, ...page }: z.output<typeof backupQuery>) {
    const volumeId = volume === undefined ? undefined : await this.#volumeId(volume);
    const repositoryId =
      repository === undefined ? undefined : (await this.#catalog.repositories.get(repository)).id;
    const { items, nextCursor } = await this.#catalog.backups.list({
      ...{ ...page, volumeId, repositoryId },
      since: momentOf(since),
      until: momentOf(until),
    });
    return { items: items.map(toBackupJson), nextCursor };
  }

  async get(id: string): Promise<BackupJson> {
    return toBackupJson(await this.#catalog.backups.get(id));
  }

  async find(id: string): Promise<BackupJson | null> {
    const backup = await this.#catalog.backups.find(id);
    return backup && toBackupJson(backup);
  }

  /** Backups outlive their volume: an id is taken as it is, only a name needs the volume itself. */
  async #volumeId(ref: string): Promise<string> {
    return isId(ref) ? ref.toLowerCase() : (await this.#catalog.volumes.get(ref)).id;
  }
}
