// Backups of a repository as retention sees them: all of them, or those of some volumes with what they stand on.
import type { BackupState } from './backup-repository.ts';
import type { BackupModel } from './generated/models.ts';
import { unsoundOf } from './retention/soundness.ts';
import type { Db } from './scope.ts';

/** A backup as retention sees it. */
export interface RetentionRow {
  id: string;
  volumeId: string;
  checkpointId: string;
  /** Name of the checkpoint when the backup was made. */
  checkpoint: string;
  parentId: string | null;
  replicaOfId: string | null;
  state: BackupState;
  pointInTime: Date | null;
  createdAt: Date;
  /** When it became available in this repository. */
  finishedAt: Date | null;
  pinnedUntil: Date | null;
  storedBytes: number | null;
  /** Who reads it or builds on it, in words. */
  holders: string[];
  /** Why not all of it can be read, in words; null: nothing is known against it. */
  unsound: string | null;
}

/** Those of the volumes, and those of the checkpoints, with all that they stand on. */
export interface SomeBackups {
  readonly volumeIds: readonly string[];
  readonly checkpointIds?: readonly string[];
}

/** What nobody can be merged into, nor lose what it stands on. */
const UNFINISHED: Readonly<Record<string, string[]>> = {
  creating: ['the run that makes it'],
  missing: ['an operator: its files have to come back, or it is to be forgotten'],
};
const ORDER = [{ createdAt: 'asc' as const }, { id: 'asc' as const }];

/** Oldest first. */
export async function retentionRows(
  db: Db,
  repositoryId: string,
  some?: SomeBackups,
): Promise<RetentionRow[]> {
  const where = { repositoryId, ...(some && chosen(some)) };
  const rows = await db.backup.findMany({ where, orderBy: ORDER });
  // By themselves: they are few, and joined they would be looked for once for each backup.
  const leases = await db.backupLease.findMany({ where: { backup: where }, orderBy: ORDER });
  if (some) await addParents(db, rows);
  const leasesOf = Map.groupBy(leases, ({ backupId }) => backupId);
  const runIds = leases.map(({ holderId }) => holderId);
  const runs = await db.run.findMany({ where: { id: { in: runIds } }, select: { id: true, kind: true } });
  const kinds = new Map(runs.map(({ id, kind }) => [id, kind]));
  const unsound = unsoundOf(rows);
  return rows.map(row => ({
    id: row.id,
    volumeId: row.volumeId,
    checkpointId: row.checkpointId,
    checkpoint: row.checkpointName,
    parentId: row.parentId,
    replicaOfId: row.replicaOfId,
    state: row.state as BackupState,
    pointInTime: row.pointInTime,
    createdAt: row.createdAt,
    finishedAt: row.finishedAt,
    pinnedUntil: row.pinnedUntil,
    storedBytes: row.storedBytes === null ? null : Number(row.storedBytes),
    holders: [
      ...(leasesOf.get(row.id) ?? []).map(({ holder, holderId }) =>
        holder === 'run' ? `${kinds.get(holderId) ?? 'a'} run ${holderId}` : `${holder} ${holderId}`,
      ),
      ...(UNFINISHED[row.state] ?? []),
    ],
    unsound: unsound.get(row.id) ?? null,
  }));
}

function chosen({ volumeIds, checkpointIds = [] }: SomeBackups) {
  const volumeId = { in: [...volumeIds] };
  return checkpointIds.length === 0
    ? { volumeId }
    : { OR: [{ volumeId }, { checkpointId: { in: [...checkpointIds] } }] };
}

/** Of other volumes: an instant volume's first backup stands on that which it was made from. */
async function addParents(db: Db, rows: BackupModel[]): Promise<void> {
  const known = new Set(rows.map(({ id }) => id));
  const missing = (of: readonly BackupModel[]) =>
    of.flatMap(({ parentId }) => (parentId === null || known.has(parentId) ? [] : [parentId]));
  for (let ids = missing(rows); ids.length > 0; ) {
    const parents = await db.backup.findMany({ where: { id: { in: [...new Set(ids)] } } });
    for (const { id } of parents) known.add(id);
    rows.push(...parents);
    ids = missing(parents);
  }
}
