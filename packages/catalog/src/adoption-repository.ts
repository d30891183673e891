// Rows that follow what storage nodes and repositories have: what the reconciler writes when it adopts what is there
// and forgets what is not. All of it is good to repeat.
import type { BackupKind } from './backup-repository.ts';
import { CatalogError, nameTaken } from './errors.ts';
import { momentAfter } from './moments.ts';
import { removedSince } from './removed-since.ts';
import type { Db, Scope } from './scope.ts';
import type { VolumeFormat } from './volume-repository.ts';

export interface FoundVolume {
  id: string;
  name: string;
  storageNodeId: string;
  sizeBytes: number;
  format: VolumeFormat;
  exportUri: string;
  /** Of an instant restore: the backup that it still reads. */
  sourceBackupId: string | null;
}

export interface FoundRepository {
  id: string;
  name: string;
  storageNodeId: string;
  limitBytes: number | null;
  compression: string;
}

/** What a manifest says. */
export interface FoundBackup {
  id: string;
  repositoryId: string;
  volumeId: string;
  volumeName: string;
  checkpointId: string;
  checkpoint: string;
  parentId: string | null;
  replicaOfId?: string | null;
  kind: BackupKind;
  reason: string;
  hidden: boolean;
  compression: string;
  sizeBytes: number;
  storedBytes: number;
  fileName: string;
  pointInTime: Date;
}

export class AdoptionRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** Ready, as its storage node has it. Rejects `volume-name-taken`. */
  volume(found: FoundVolume, runId: string): Promise<void> {
    const { id, exportUri, sizeBytes, sourceBackupId, ...fixed } = found;
    const facts = {
      exportUri,
      sizeBytes: BigInt(sizeBytes),
      name: fixed.name,
      state: 'ready',
      sourceBackupId,
    };
    return this.#scope.write(async (db, tell) => {
      await db.volume
        .upsert({ where: { id }, create: { id, ...fixed, ...facts }, update: facts })
        .catch(nameTaken('volume', found.name));
      const data = { name: found.name, exportUri, adopted: true };
      tell({ kind: 'volume-ready', subjectType: 'volume', subjectId: id, runId, data });
    });
  }

  /** Ready. Rejects `repository-name-taken`. */
  repository(found: FoundRepository, runId: string): Promise<void> {
    const { id, limitBytes, ...fixed } = found;
    const create = {
      ...{ id, ...fixed, state: 'ready' },
      limitBytes: limitBytes === null ? null : BigInt(limitBytes),
    };
    return this.#scope.write(async (db, tell) => {
      await db.repository
        .upsert({ where: { id }, create, update: { state: 'ready' } })
        .catch(nameTaken('repository', found.name));
      const data = { adopted: true };
      tell({ kind: 'repository-ready', subjectType: 'repository', subjectId: id, runId, data });
    });
  }

  /**
   * As its manifest has it. What retention has begun with it stays begun. Rejects `backup-not-found` while its
   * parent has no row, and `backup-in-use` when its repository has another backup of the same checkpoint. Nothing
   * happens where it was removed after the event `lookedAfter`: what was seen of it is old.
   */
  backup(found: FoundBackup, runId: string, { lookedAfter }: { lookedAfter: number }): Promise<void> {
    return this.#takeOver(found, runId, lookedAfter);
  }

  /** The same of one that has a row; nothing happens where it has none any more. */
  acceptBackup(found: FoundBackup, runId: string): Promise<void> {
    return this.#takeOver(found, runId, null);
  }

  /** `lookedAfter` null: no row is made. */
  #takeOver(found: FoundBackup, runId: string, lookedAfter: number | null): Promise<void> {
    const { id, checkpoint, sizeBytes, storedBytes, hidden, ...fixed } = found;
    return this.#scope.write(async (db, tell) => {
      await db.$queryRaw`SELECT 1 FROM backup WHERE id = ${id}::uuid FOR UPDATE`;
      const known = await db.backup.findUnique({ where: { id }, select: { state: true } });
      if (known === null && lookedAfter === null) return;
      if (known === null && (await removedSince(db, { ids: [id], lookedAfter: lookedAfter! })).size > 0)
        return;
      const { parentId, repositoryId, checkpointId } = found;
      const parent = parentId && (await db.backup.findUnique({ where: { id: parentId } }));
      if (parentId && !parent) {
        const text = `Backup ${id} stands on ${parentId}, which has no row. Adopt that one first.`;
        throw new CatalogError('backup', 'not-found', text);
      }
      const twin = await db.backup.findFirst({ where: { repositoryId, checkpointId, id: { not: id } } });
      if (twin) {
        const text = `Checkpoint '${checkpoint}' has another backup in the same repository: ${twin.id}.`;
        throw new CatalogError('backup', 'in-use', text);
      }
      const before = known?.state;
      const leaves = before === 'hidden' || before === 'removing';
      const state = leaves ? before : hidden ? 'hidden' : 'available';
      const facts = {
        ...{ ...fixed, checkpointName: checkpoint, state },
        ...{ sizeBytes: BigInt(sizeBytes), storedBytes: BigInt(storedBytes) },
      };
      // As a rule the point in time: lists keep the order in which backups were made.
      const finishedAt = this.#scope.now();
      const createdAt = momentAfter(found.pointInTime, parent ? parent.createdAt : null);
      const distrusted = await isDistrusted(db, found);
      const create = { id, ...facts, createdAt, finishedAt, distrusted };
      await db.backup.upsert({ where: { id }, create, update: facts });
      const data = { repositoryId, storedBytes, fileName: found.fileName, adopted: true };
      tell({ kind: `backup-${state}`, subjectType: 'backup', subjectId: id, runId, data });
    });
  }

  /** Its repository does not have it: neither a base nor restored from here on; the row stays. */
  markBackupMissing(id: string, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const where = { id, state: 'available' };
      const { count } = await db.backup.updateMany({ where, data: { state: 'missing' } });
      if (count === 1) tell({ kind: 'backup-missing', subjectType: 'backup', subjectId: id, runId });
    });
  }

  /** The row of a backup that is missing, or was never made. Rejects `backup-in-use` while others stand on it. */
  forgetBackup(id: string, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const child = await db.backup.findFirst({ where: { parentId: id }, select: { id: true } });
      const lease = await db.backupLease.findFirst({ where: { backupId: id } });
      if (child || lease) {
        const user = child
          ? `backup ${child.id} stands on it`
          : `${lease!.holder} ${lease!.holderId} reads it`;
        throw new CatalogError('backup', 'in-use', `Backup ${id} cannot be forgotten: ${user}.`);
      }
      const where = { id, state: { in: ['missing', 'creating'] } };
      const { count } = await db.backup.deleteMany({ where });
      if (count === 1) tell({ kind: 'backup-forgotten', subjectType: 'backup', subjectId: id, runId });
    });
  }

  /** Of a snapshot that its storage node does not have. */
  forgetSnapshot(id: string, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { count } = await db.snapshot.deleteMany({ where: { id } });
      if (count === 1) tell({ kind: 'snapshot-deleted', subjectType: 'snapshot', subjectId: id, runId });
    });
  }

  /** Of a lease whose holder is no more. */
  dropLease(id: string): Promise<void> {
    return this.#scope.write(async db => {
      await db.backupLease.deleteMany({ where: { id } });
    });
  }
}

/** What is not sure to have been read from the disk since the volume's bitmaps were found wrong. */
async function isDistrusted(db: Db, { volumeId, kind, pointInTime }: FoundBackup): Promise<boolean> {
  const volume = await db.volume.findUnique({ where: { id: volumeId }, select: { distrustedUntil: true } });
  if (!volume?.distrustedUntil) return false;
  return kind !== 'full' || pointInTime <= volume.distrustedUntil;
}
