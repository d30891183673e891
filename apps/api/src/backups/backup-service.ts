// Backups: intents to make them, and what there is. Whether one is full or incremental is decided and
// explained here; the worker may still fall back to full, and then says why.
import { randomUUID } from 'node:crypto';
import {
  type Backup,
  type Catalog,
  type CatalogTransaction,
  isId,
  type Repository,
  type Volume,
} from '@tidemark/catalog';
import type { RunRequest } from '@tidemark/proto';
import type { z } from 'zod';
import { requireFreeCheckpointName } from '../checkpoints/checkpoint-service.ts';
import { type DroppedCheckpoint, makeRoom } from '../checkpoints/make-room.ts';
import { iso, isoOrNull } from '../moments.ts';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import type { BackupJson, backupQuery, CreateBackup } from '../schemas/backup.ts';
import { requireOnline } from '../storage-nodes/storage-node-service.ts';
import type { Base } from './audited-base.ts';
import { chooseBase } from './backup-base.ts';

export function toBackupJson(backup: Backup): BackupJson {
  return {
    id: backup.id,
    volumeId: backup.volumeId,
    repositoryId: backup.repositoryId,
    checkpointId: backup.checkpointId,
    checkpoint: backup.checkpoint,
    parentId: backup.parentId,
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
      // Holds the volume's row: its checkpoints can neither come nor go while the base is chosen.
      const volume = await catalog.volumes.getReady(body.volume);
      const repository = await catalog.repositories.getReady(body.repository);
      requireOnline(await catalog.storageNodes.get(volume.storageNodeId));
      requireOnline(await catalog.storageNodes.get(repository.storageNodeId));
      await requireFreeCheckpointName(catalog, volume, body.checkpoint);
      const base = await chooseBase(catalog, { volume, repository }, body);
      const dropped = await makeRoom(catalog, { volume, dropOldest: body.dropOldest, runId });
      return write(catalog, runId, { body, volume, repository, ...base, dropped });
    });
  }

  /** Newest first. */
  async list({ volume, repository, ...page }: z.output<typeof backupQuery>) {
    const volumeId = volume === undefined ? undefined : await this.#volumeId(volume);
    const repositoryId =
      repository === undefined ? undefined : (await this.#catalog.repositories.get(repository)).id;
    const { items, nextCursor } = await this.#catalog.backups.list({ ...page, volumeId, repositoryId });
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

interface BackupIntent extends Base {
  readonly body: CreateBackup;
  readonly volume: Volume;
  readonly repository: Repository;
  readonly dropped: DroppedCheckpoint[];
}

async function write(catalog: CatalogTransaction, runId: string, intent: BackupIntent) {
  const { body, volume, repository, parent, reason, dropped } = intent;
  const { kind, description, compression } = body;
  const wanted = { id: randomUUID(), volumeId: volume.id, name: body.checkpoint, description };
  const checkpoint = await catalog.checkpoints.create(wanted, runId);
  const backup = await catalog.backups.create(
    {
      id: randomUUID(),
      repositoryId: repository.id,
      volumeId: volume.id,
      volumeName: volume.name,
      checkpointId: checkpoint.id,
      checkpoint: checkpoint.name,
      parentId: parent?.id ?? null,
      kind,
      description,
      ...(compression !== undefined && { compression }),
      reason,
      sizeBytes: volume.sizeBytes,
    },
    runId,
  );
  const request: RunRequest<'backup'> = {
    volumeId: volume.id,
    repositoryId: repository.id,
    backupId: backup.id,
    checkpointId: checkpoint.id,
    checkpoint: checkpoint.name,
    dropCheckpointIds: dropped.map(({ id }) => id),
    kind,
    description,
    compression: compression ?? null,
    direct: body.direct,
    onCbwError: body.onCbwError ?? null,
    cbwTimeoutMs: body.cbwTimeoutMs ?? null,
    scratchLimitBytes: body.scratchLimitBytes ?? null,
    baseCheckpointId: intent.baseCheckpointId,
    parentBackupId: parent?.id ?? null,
    speedBytesPerSecond: body.speedBytesPerSecond ?? null,
  };
  if (parent !== null) await catalog.backupLeases.take(parent.id, 'run', runId);
  const run = await catalog.runs.create({
    id: runId,
    kind: 'backup',
    storageNodeId: volume.storageNodeId,
    volumeId: volume.id,
    checkpointId: checkpoint.id,
    repositoryId: repository.id,
    backupId: backup.id,
    reason,
    request,
  });
  return { run, backup: toBackupJson(backup), dropped };
}
