// What a repository's manifests say, into the catalog: after the catalog was lost, or was put back from an older dump.
// Nothing is deleted: rows without a manifest are told of.
import type { BackupKind } from './backup-repository.ts';
import { isId } from './ref.ts';
import type { Db, Tell } from './scope.ts';

/** A published backup as its storage node tells of it. */
export interface BackupManifest {
  backupId: string;
  volumeId: string;
  volumeName: string;
  /** Empty: a full backup. */
  parentBackupId: string;
  checkpointId: string;
  checkpointName: string;
  pointInTimeMs: number;
  kind: string;
  reason: string;
  sizeBytes: number;
  storedBytes: number;
  fileName: string;
  compression: string;
  hidden: boolean;
}

export interface BackupImport {
  added: string[];
  /** Rows that said something else. */
  updated: string[];
  /** Rows of finished backups that the repository does not have. */
  missing: string[];
  /** Manifests that could not be taken over, and why. */
  refused: { backupId: string; message: string }[];
}

type Row = NonNullable<Awaited<ReturnType<Db['backup']['findUnique']>>>;

interface Place {
  readonly repositoryId: string;
  readonly runId: string | null;
  readonly now: Date;
}

export async function importManifests(
  db: Db,
  tell: Tell,
  { manifests, ...place }: Place & { manifests: readonly BackupManifest[] },
): Promise<BackupImport> {
  const { repositoryId } = place;
  const report: BackupImport = { added: [], updated: [], missing: [], refused: [] };
  await db.$queryRaw`SELECT 1 FROM repository WHERE id = ${repositoryId}::uuid FOR UPDATE`;
  const rows = new Map((await db.backup.findMany({ where: { repositoryId } })).map(row => [row.id, row]));
  const foreign = await db.backup.findMany({
    where: { id: { in: manifests.map(({ backupId }) => backupId) }, repositoryId: { not: repositoryId } },
    select: { id: true, repositoryId: true },
  });
  const known: Known = {
    ids: new Set(rows.keys()),
    byCheckpoint: new Map([...rows.values()].map(row => [row.checkpointId, row.id])),
    elsewhere: new Map(foreign.map(row => [row.id, row.repositoryId])),
  };
  for (const manifest of parentsFirst(manifests)) {
    const row = rows.get(manifest.backupId);
    const refusal = refuse(manifest, known);
    if (refusal !== undefined) report.refused.push({ backupId: manifest.backupId, message: refusal });
    else if (row === undefined) {
      await add(db, tell, manifest, place);
      known.ids.add(manifest.backupId);
      known.byCheckpoint.set(manifest.checkpointId, manifest.backupId);
      report.added.push(manifest.backupId);
    } else if (await update(db, row, manifest)) report.updated.push(row.id);
  }
  const told = new Set(manifests.map(({ backupId }) => backupId));
  const finished = [...rows.values()].filter(row => row.state !== 'creating' && !told.has(row.id));
  report.missing = finished.map(row => row.id);
  return report;
}

interface Known {
  readonly ids: Set<string>;
  readonly byCheckpoint: Map<string, string>;
  /** Backups of other repositories, with their repository. */
  readonly elsewhere: Map<string, string>;
}

/** Why the manifest cannot have a row, in words. */
function refuse(manifest: BackupManifest, known: Known): string | undefined {
  const { backupId, parentBackupId, checkpointId, volumeId } = manifest;
  if (![backupId, checkpointId, volumeId].every(isId))
    return 'Its ids are no UUIDs: it is of another system.';
  if (parentBackupId !== '' && !known.ids.has(parentBackupId)) {
    return `It stands on ${parentBackupId}, which is not there. Put that backup's files back and scan again.`;
  }
  const twin = known.byCheckpoint.get(checkpointId) ?? backupId;
  if (twin !== backupId) {
    return `Checkpoint ${checkpointId} has backup ${twin} in this repository already. Move one of them away.`;
  }
  const other = known.elsewhere.get(backupId);
  if (other === undefined) return undefined;
  return `Repository ${other} has a backup of this id already. Move one of them away.`;
}

async function add(
  db: Db,
  tell: Tell,
  manifest: BackupManifest,
  { repositoryId, runId, now }: Place,
): Promise<void> {
  const { backupId: id, volumeId, volumeName, checkpointId, checkpointName, reason, hidden } = manifest;
  const { sizeBytes, storedBytes, fileName, compression, pointInTimeMs } = manifest;
  const pointInTime = new Date(pointInTimeMs);
  const state = hidden ? 'hidden' : 'available';
  await db.backup.create({
    data: {
      ...{ id, repositoryId, volumeId, volumeName, checkpointId, checkpointName, reason, state },
      ...{ fileName, compression, pointInTime },
      parentId: parentOf(manifest),
      kind: kindOf(manifest),
      sizeBytes: BigInt(sizeBytes),
      storedBytes: BigInt(storedBytes),
      // When it was made is known no better than this.
      createdAt: pointInTime,
      finishedAt: pointInTimeMs > now.getTime() ? pointInTime : now,
    },
  });
  const data = { volumeId, repositoryId, kind: manifest.kind };
  tell({ kind: 'backup-found', subjectType: 'backup', subjectId: id, runId, data });
}

/** False where the row says the same, or a run is still at it. */
async function update(db: Db, row: Row, manifest: BackupManifest): Promise<boolean> {
  if (row.state === 'creating') return false;
  const state = stateOf(row, manifest);
  const told = {
    parentId: parentOf(manifest),
    kind: kindOf(manifest),
    storedBytes: BigInt(manifest.storedBytes),
    fileName: manifest.fileName,
    compression: manifest.compression,
    state,
  };
  const keys = Object.keys(told) as (keyof typeof told)[];
  if (keys.every(key => row[key as keyof Row] === told[key])) return false;
  await db.backup.update({ where: { id: row.id }, data: told });
  return true;
}

/** One that was missing is back; of one on its way out the catalog knows more. */
function stateOf(row: Row, { hidden }: BackupManifest): string {
  const isThere = row.state === 'available' || row.state === 'missing';
  if (!isThere) return row.state;
  return hidden ? 'hidden' : 'available';
}

function parentOf({ parentBackupId }: BackupManifest): string | null {
  return parentBackupId === '' ? null : parentBackupId;
}

/** What has no parent any more is full, whatever it was once. */
function kindOf({ kind, parentBackupId }: BackupManifest): BackupKind {
  if (parentBackupId === '') return 'full';
  return kind === 'differential' ? 'differential' : 'incremental';
}

/** In an order in which each follows what it stands on. Those in a loop, which no manifest should make, come last. */
export function parentsFirst<M extends Pick<BackupManifest, 'backupId' | 'parentBackupId'>>(
  manifests: readonly M[],
): M[] {
  const children = Map.groupBy(manifests, ({ parentBackupId }) => parentBackupId);
  const ids = new Set(manifests.map(({ backupId }) => backupId));
  const ordered = manifests.filter(({ parentBackupId }) => !ids.has(parentBackupId));
  for (let index = 0; index < ordered.length; index++)
    ordered.push(...(children.get(ordered[index]!.backupId) ?? []));
  const placed = new Set(ordered);
  return [...ordered, ...manifests.filter(manifest => !placed.has(manifest))];
}
