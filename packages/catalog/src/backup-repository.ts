// Backups: what the repositories' manifests say, for searching, and intents of backups to be.
import { type BackupImport, type BackupManifest, importManifests } from './backup-import.ts';
import type { DamagedRange } from './damaged-ranges.ts';
import { CatalogError, isUniqueViolation, notFound } from './errors.ts';
import type { BackupModel } from './generated/models.ts';
import { momentAfter } from './moments.ts';
import { between, type Page, type PageOptions, pageQuery, toPage } from './page.ts';
import { isId } from './ref.ts';
import type { Db, Scope } from './scope.ts';
import type { VerifyResult } from './verification-repository.ts';
import { isVolumeVisible, visibleVolumeIds } from './visibility.ts';

export type BackupKind = 'full' | 'incremental' | 'differential';
/**
 * `hidden`: waits to be taken out of its chain; `removing`: is being taken out; `missing`: its repository does not
 * have it.
 */
export type BackupState = 'creating' | 'available' | 'hidden' | 'removing' | 'missing';

export interface Backup {
  id: string;
  repositoryId: string;
  volumeId: string;
  volumeName: string;
  checkpointId: string;
  /** Name of the checkpoint when the backup was made. */
  checkpoint: string;
  /** Null exactly for a full backup. */
  parentId: string | null;
  /** The backup of another repository that it was copied from; it may be gone. */
  replicaOfId: string | null;
  kind: BackupKind;
  reason: string;
  state: BackupState;
  description: string;
  /** Protected from retention until then. */
  pinnedUntil: Date | null;
  compression: 'none' | 'zstd';
  verifiedAt: Date | null;
  verifyResult: VerifyResult | null;
  /** What of its disk is known to be damaged. */
  damage: DamagedRange[] | null;
  /** Of the damage below it, what it has sent again. */
  resent: DamagedRange[] | null;
  /** An audit found the bitmaps wrong that it, or what it stands on, was made with: nothing is built on it. */
  distrusted: boolean;
  /** Size of the disk in it. */
  sizeBytes: number;
  storedBytes: number | null;
  dirtyBytes: number | null;
  sentBytes: number | null;
  fileName: string | null;
  pointInTime: Date | null;
  createdAt: Date;
  finishedAt: Date | null;
  /** From the row's creation to its publication; null of a replica, whose place is that of its source. */
  durationMs: number | null;
}

export interface NewBackup {
  id: string;
  repositoryId: string;
  volumeId: string;
  volumeName: string;
  checkpointId: string;
  checkpoint: string;
  parentId: string | null;
  /** Of one with a parent; default incremental. */
  kind?: BackupKind;
  description?: string;
  compression?: string;
  reason: string;
  sizeBytes: number;
  replicaOfId?: string;
  /** Of a replica: its place among the volume's backups is that of its source. Default: after all others. */
  createdAt?: Date;
  distrusted?: boolean;
}

/** What a volume was restored from, and its own checkpoint of that moment. */
export interface BackupOrigin {
  backup: Backup;
  checkpointId: string;
  checkpoint: string;
}

interface BaseFilter {
  volumeId: string;
  repositoryId: string;
  kind?: BackupKind;
}

export interface BackupFilter {
  volumeId?: string | undefined;
  repositoryId?: string | undefined;
  checkpointId?: string | undefined;
  /** Of checkpoints that are gone, too. */
  checkpointName?: string | undefined;
  /** Those that are on their way out, too; default false. */
  hidden?: boolean | undefined;
  state?: BackupState | undefined;
  kind?: BackupKind | undefined;
  /** Of the point in time: from here on, and before. */
  since?: Date | undefined;
  until?: Date | undefined;
}

const bytes = (value: bigint | null) => (value === null ? null : Number(value));

function toBackup({ checkpointName, ...row }: BackupModel): Backup {
  return {
    ...row,
    checkpoint: checkpointName,
    kind: row.kind as BackupKind,
    state: row.state as BackupState,
    compression: row.compression as Backup['compression'],
    verifyResult: row.verifyResult as VerifyResult | null,
    damage: row.damage as unknown as DamagedRange[] | null,
    resent: row.resent as unknown as DamagedRange[] | null,
    sizeBytes: Number(row.sizeBytes),
    storedBytes: bytes(row.storedBytes),
    dirtyBytes: bytes(row.dirtyBytes),
    sentBytes: bytes(row.sentBytes),
    // Two hosts' clocks: the later moment may be told as the earlier one.
    durationMs: row.replicaOfId
      ? null
      : row.finishedAt && Math.max(0, row.finishedAt.getTime() - row.createdAt.getTime()),
  };
}

export class BackupRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** State `creating`, after all others of the volume; full exactly when it has no parent. */
  create({ checkpoint, ...backup }: NewBackup, runId: string | null = null): Promise<Backup> {
    return this.#scope.write(async (db, tell) => {
      const kind: BackupKind = backup.parentId === null ? 'full' : (backup.kind ?? 'incremental');
      const createdAt = backup.createdAt ?? (await momentOfNext(db, backup.volumeId, this.#scope.now()));
      const sizeBytes = BigInt(backup.sizeBytes);
      const data = { ...backup, createdAt, checkpointName: checkpoint, kind, state: 'creating', sizeBytes };
      const row = await db.backup.create({ data }).catch(twinMade(checkpoint));
      const about = { volumeId: row.volumeId, repositoryId: row.repositoryId, kind };
      tell({ kind: 'backup-creating', subjectType: 'backup', subjectId: row.id, runId, data: about });
      return toBackup(row);
    });
  }

  async find(id: string): Promise<Backup | null> {
    if (!isId(id)) return null;
    return this.#scope.read(async db => {
      const row = await db.backup.findUnique({ where: { id } });
      return row && (await isVolumeVisible(this.#scope, db, row.volumeId)) ? toBackup(row) : null;
    });
  }

  /** Rejects `not-found`. */
  async get(id: string): Promise<Backup> {
    const backup = await this.find(id);
    if (!backup) throw notFound('backup', id);
    return backup;
  }

  /** Newest first. */
  list(options: PageOptions & BackupFilter = {}): Promise<Page<Backup>> {
    const page = pageQuery(options, 'desc');
    const { volumeId, repositoryId, checkpointId, checkpointName, hidden = false } = options;
    const { state, kind, since, until } = options;
    const filter = {
      ...(!hidden && state === undefined && { state: { notIn: ['hidden', 'removing'] } }),
      ...(state !== undefined && { state }),
      ...(kind !== undefined && { kind }),
      ...between('pointInTime', since, until),
      ...(volumeId !== undefined && { volumeId }),
      ...(repositoryId !== undefined && { repositoryId }),
      ...(checkpointId !== undefined && { checkpointId }),
      ...(checkpointName !== undefined && { checkpointName }),
    };
    return this.#scope.read(async db => {
      const visible = await visibleVolumeIds(this.#scope, db);
      const where = { AND: [page.after, filter, visible ? { volumeId: { in: visible } } : {}] };
      const rows = await db.backup.findMany({ where, orderBy: page.orderBy, take: page.take });
      return toPage(rows, page.limit, toBackup);
    });
  }

  /**
   * The base an incremental backup takes when none is named: the available backup in the repository whose
   * checkpoint is the newest that the volume still has, ready.
   */
  async findBase(volumeId: string, repositoryId: string): Promise<Backup | null> {
    return this.#newestOnReadyCheckpoint({ volumeId, repositoryId });
  }

  #newestOnReadyCheckpoint({ volumeId, ...filter }: BaseFilter): Promise<Backup | null> {
    return this.#scope.read(async db => {
      const checkpoints = await db.checkpoint.findMany({
        where: { volumeId, state: 'ready' },
        select: { id: true },
      });
      const row = await db.backup.findFirst({
        where: { ...filter, state: 'available', checkpointId: { in: checkpoints.map(c => c.id) } },
        orderBy: [{ createdAt: 'desc' }, { id: 'desc' }],
      });
      return row && toBackup(row);
    });
  }

  /** When the oldest backup was made that the volume's bitmaps can be audited against; null where there is none. */
  async findFirstToAudit(volumeId: string): Promise<Date | null> {
    return this.#scope.read(async db => {
      const checkpoints = await db.checkpoint.findMany({
        where: { volumeId, state: 'ready' },
        select: { id: true },
      });
      const row = await db.backup.findFirst({
        where: { volumeId, state: 'available', checkpointId: { in: checkpoints.map(({ id }) => id) } },
        orderBy: { createdAt: 'asc' },
        select: { createdAt: true },
      });
      return row?.createdAt ?? null;
    });
  }

  /**
   * The available backup in the repository that the volume was restored from, and its checkpoint since which the volume
   * has changed; of that checkpoint alone where one is named.
   */
  async findOrigin(
    volumeId: string,
    repositoryId: string,
    checkpointId?: string,
  ): Promise<BackupOrigin | null> {
    return this.#scope.read(async db => {
      const checkpoint = await db.checkpoint.findFirst({
        where: {
          volumeId,
          state: 'ready',
          originBackupId: { not: null },
          ...(checkpointId && { id: checkpointId }),
        },
      });
      if (checkpoint === null) return null;
      const where = { id: checkpoint.originBackupId!, repositoryId, state: 'available' };
      const row = await db.backup.findFirst({ where });
      return row && { backup: toBackup(row), checkpointId: checkpoint.id, checkpoint: checkpoint.name };
    });
  }

  /** As `findBase`, of full backups alone: what a differential backup builds on. */
  async findFullBase(volumeId: string, repositoryId: string): Promise<Backup | null> {
    return this.#newestOnReadyCheckpoint({ volumeId, repositoryId, kind: 'full' });
  }

  /** The available backup of a checkpoint in a repository. */
  async findOfCheckpoint(checkpointId: string, repositoryId: string): Promise<Backup | null> {
    const where = { repositoryId_checkpointId: { repositoryId, checkpointId }, state: 'available' };
    const row = await this.#scope.read(db => db.backup.findUnique({ where }));
    return row && toBackup(row);
  }

  /** The backup and all that it stands on, newest first. Rejects `not-found`. */
  async chainOf(id: string): Promise<Backup[]> {
    const chain = [await this.get(id)];
    const seen = new Set<string>([id]);
    for (let next = chain[0]!.parentId; next !== null && !seen.has(next); next = chain.at(-1)!.parentId) {
      seen.add(next);
      chain.push(await this.get(next));
    }
    return chain;
  }

  /** Backups of these checkpoints in the repository, in whatever state, by their checkpoints. */
  async twinsIn(repositoryId: string, checkpointIds: readonly string[]): Promise<Map<string, Backup>> {
    const where = { repositoryId, checkpointId: { in: [...checkpointIds] } };
    const rows = await this.#scope.read(db => db.backup.findMany({ where }));
    return new Map(rows.map(row => [row.checkpointId, toBackup(row)]));
  }

  /**
   * The first backup that is missing of those that the backup stands on: nothing can be read through it, nor built on
   * it. Null: the chain is whole.
   */
  async findMissingBelow(id: string): Promise<Backup | null> {
    const rows = await this.#scope.read(
      db => db.$queryRaw<{ id: string }[]>`
        WITH RECURSIVE chain AS (
          SELECT id, parent_id, state, 0 AS depth FROM backup WHERE id = ${id}::uuid
          UNION ALL SELECT b.id, b.parent_id, b.state, depth + 1 FROM backup b JOIN chain ON b.id = chain.parent_id
        ) CYCLE id SET is_circle USING path
        SELECT id::text FROM chain WHERE state = 'missing' AND depth > 0 ORDER BY depth LIMIT 1`,
    );
    return rows[0] ? this.find(rows[0].id) : null;
  }

  /** The base could not be used: a full backup after all, and the reason says why. Rejects `not-found`. */
  fallBackToFull(id: string, reason: string, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { count } = await db.backup.updateMany({
        where: { id, state: 'creating' },
        data: { kind: 'full', parentId: null, reason, distrusted: false },
      });
      if (count === 0) throw notFound('backup', id);
      tell({
        kind: 'backup-fell-back-to-full',
        subjectType: 'backup',
        subjectId: id,
        runId,
        data: { reason },
      });
    });
  }

  /** Something else has to be said of it, such as that it began anew. Good to repeat. */
  changeReason(id: string, reason: string): Promise<void> {
    return this.#scope.write(async db => {
      await db.backup.updateMany({ where: { id, state: 'creating' }, data: { reason } });
    });
  }

  /** The copy begins. */
  markStarted(id: string, facts: { pointInTime: Date; dirtyBytes: number; reason?: string }): Promise<void> {
    return this.#scope.write(async db => {
      await db.backup.updateMany({
        where: { id },
        data: { ...facts, dirtyBytes: BigInt(facts.dirtyBytes) },
      });
    });
  }

  /** Published in its repository. Rejects `not-found`. */
  markAvailable(
    id: string,
    facts: { storedBytes: number; sentBytes: number; fileName: string; compression?: string },
    runId: string,
  ): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { count } = await db.backup.updateMany({
        where: { id },
        data: {
          state: 'available',
          ...(facts.compression !== undefined && { compression: facts.compression }),
          storedBytes: BigInt(facts.storedBytes),
          sentBytes: BigInt(facts.sentBytes),
          fileName: facts.fileName,
          finishedAt: this.#scope.now(),
        },
      });
      if (count === 0) throw notFound('backup', id);
      tell({ kind: 'backup-available', subjectType: 'backup', subjectId: id, runId, data: facts });
    });
  }

  /**
   * Makes the rows of a repository's backups say what its manifests do; good to repeat. Rows whose
   * run is still at it are left alone, and none is deleted. `lookedAfter`: id of the newest event before the manifests
   * were read; of what was removed since nothing is taken over.
   */
  importFromManifests(
    repositoryId: string,
    manifests: readonly BackupManifest[],
    runId: string | null,
    { lookedAfter = Number.MAX_SAFE_INTEGER }: { lookedAfter?: number } = {},
  ): Promise<BackupImport> {
    const place = { repositoryId, runId, now: this.#scope.now(), lookedAfter };
    return importManifests(this.#scope, { ...place, manifests });
  }

  /** The row of a backup that was never finished. Good to repeat; an available backup is left alone. */
  deleteUnfinished(id: string, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { count } = await db.backup.deleteMany({ where: { id, state: 'creating' } });
      if (count === 1) tell({ kind: 'backup-dropped', subjectType: 'backup', subjectId: id, runId });
    });
  }
}

/** Somebody else was faster. */
function twinMade(checkpoint: string): (error: unknown) => never {
  return error => {
    if (!isUniqueViolation(error)) throw error;
    const text = `Checkpoint '${checkpoint}' has a backup in the repository already, or one that is being made.`;
    throw new CatalogError('backup', 'in-use', text, error);
  };
}

/** Whatever a clock says, what was made later counts as later. */
async function momentOfNext(db: Db, volumeId: string, now: Date): Promise<Date> {
  const { _max } = await db.backup.aggregate({ where: { volumeId }, _max: { createdAt: true } });
  return momentAfter(now, _max.createdAt);
}
