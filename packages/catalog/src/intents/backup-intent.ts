// The intent of a backup: its row, that of its checkpoint, the run that makes both, and why it is full or
// incremental. The worker may still fall back to full, and then says why.
import { randomUUID } from 'node:crypto';
import type { RunRequest } from '@tidemark/proto';
import type { Backup } from '../backup-repository.ts';
import type { CatalogTransaction } from '../catalog.ts';
import type { Repository, RepositoryCompression } from '../repository-repository.ts';
import type { Run } from '../run.ts';
import type { Volume } from '../volume-repository.ts';
import type { Base } from './audited-base.ts';
import { chooseBase, type WantedBase } from './backup-base.ts';
import { requireFreeCheckpointName } from './known-checkpoint.ts';
import { type DroppedCheckpoint, makeRoom } from './make-room.ts';
import { requireOnline } from './require-online.ts';

export interface WantedBackup extends WantedBase {
  /** Ids or names. */
  readonly volume: string;
  readonly repository: string;
  /** Name of the new checkpoint. */
  readonly checkpoint: string;
  readonly description: string;
  /** The oldest checkpoint may go for the new one. */
  readonly dropOldest: boolean;
  readonly direct: boolean;
  readonly compression?: RepositoryCompression | undefined;
  readonly onCbwError?: 'break-snapshot' | 'break-guest-write' | undefined;
  readonly cbwTimeoutMs?: number | undefined;
  readonly scratchLimitBytes?: number | undefined;
  readonly speedBytesPerSecond?: number | undefined;
  /** Default: on whose behalf the catalog is used. */
  readonly requestedBy?: string | undefined;
  /** Added to why it is full or incremental. */
  readonly because?: string | undefined;
  /** Of the run beside others that wait; 0, the default, before all that have a number. */
  readonly priority?: number | undefined;
}

export interface IntendedBackup {
  readonly run: Run;
  readonly backup: Backup;
  readonly dropped: DroppedCheckpoint[];
}

/** Within a transaction: afterwards all rows are there or, when it rejects and the transaction with it, none is. */
export async function intendBackup(
  catalog: CatalogTransaction,
  runId: string,
  wanted: WantedBackup,
): Promise<IntendedBackup> {
  // Holds the volume's row: its checkpoints can neither come nor go while the base is chosen.
  const volume = await catalog.volumes.getReady(wanted.volume);
  const repository = await catalog.repositories.getReady(wanted.repository);
  const nodes = await catalog.storageNodes.getAll([volume.storageNodeId, repository.storageNodeId]);
  nodes.forEach(requireOnline);
  await requireFreeCheckpointName(catalog, volume, wanted.checkpoint);
  const base = await chooseBase(catalog, { volume, repository }, wanted);
  const dropped = await makeRoom(catalog, { volume, dropOldest: wanted.dropOldest, runId });
  const reason = wanted.because === undefined ? base.reason : `${base.reason}; ${wanted.because}`;
  return write(catalog, runId, { wanted, volume, repository, ...base, reason, dropped });
}

interface BackupIntent extends Base {
  readonly wanted: WantedBackup;
  readonly volume: Volume;
  readonly repository: Repository;
  readonly dropped: DroppedCheckpoint[];
}

async function write(catalog: CatalogTransaction, runId: string, intent: BackupIntent) {
  const { wanted, volume, repository, parent, reason, dropped } = intent;
  const { kind, description, compression } = wanted;
  const row = { id: randomUUID(), volumeId: volume.id, name: wanted.checkpoint, description };
  const checkpoint = await catalog.checkpoints.create(row, runId);
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
    priority: wanted.priority ?? 0,
    ...(wanted.requestedBy !== undefined && { requestedBy: wanted.requestedBy }),
    request: requestOf(intent, backup),
  });
  return { run, backup, dropped };
}

function requestOf(intent: BackupIntent, backup: Backup): RunRequest<'backup'> {
  const { wanted, parent, dropped } = intent;
  return {
    volumeId: backup.volumeId,
    repositoryId: backup.repositoryId,
    backupId: backup.id,
    checkpointId: backup.checkpointId,
    checkpoint: backup.checkpoint,
    dropCheckpointIds: dropped.map(({ id }) => id),
    kind: wanted.kind,
    description: wanted.description,
    compression: wanted.compression ?? null,
    direct: wanted.direct,
    onCbwError: wanted.onCbwError ?? null,
    cbwTimeoutMs: wanted.cbwTimeoutMs ?? null,
    scratchLimitBytes: wanted.scratchLimitBytes ?? null,
    baseCheckpointId: intent.baseCheckpointId,
    parentBackupId: parent?.id ?? null,
    speedBytesPerSecond: wanted.speedBytesPerSecond ?? null,
    groupId: null,
    group: null,
  };
}
