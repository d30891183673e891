// What a repository's manifests say, into the catalog: after the catalog was lost, or was put back from an older dump.
// Nothing is deleted: rows without a manifest are told of.
import type { BackupKind } from './backup-repository.ts';
import { momentAfter } from './moments.ts';
import { isId } from './ref.ts';
import { removedSince } from './removed-since.ts';
import type { Db, Scope, Tell } from './scope.ts';

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
  /** Of a replica: the backup that it was copied from. */
  replicaOfBackupId?: string;
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
  /** The newest event before the manifests were read; what was removed since does not come back. */
  readonly lookedAfter: number;
}

/** Taken over in one transaction, which has to end within its time; a row takes some twenty parameters of 65,535. */
const IMPORTED_AT_ONCE = 1_000;

/** Parents before what stands on them, so many at a time. Good to repeat, also after it ended half way. */
export async function importManifests(
  scope: Scope,
  { manifests, ...place }: Place & { manifests: readonly BackupManifest[] },
): Promise<BackupImport> {
  const { repositoryId } = place;
  const report: BackupImport = { added: [], updated: [], missing: [], refused: [] };
  const ordered = parentsFirst(manifests);
  for (let start = 0; start < ordered.length; start += IMPORTED_AT_ONCE) {
    const some = ordered.slice(start, start + IMPORTED_AT_ONCE);
    const done = await scope.write((db, tell) => importSome(db, tell, { ...place, manifests: some }));
    report.added.push(...done.added);
    report.updated.push(...done.updated);
    report.refused.push(...done.refused);
  }
  const told = new Set(manifests.map(({ backupId }) => backupId));
  const where = { repositoryId, state: { not: 'creating' } };
  const orderBy = [{ createdAt: 'asc' as const }, { id: 'asc' as const }];
  const finished = await scope.read(db => db.backup.findMany({ where, orderBy, select: { id: true } }));
  report.missing = finished.map(row => row.id).filter(id => !told.has(id));
  return report;
}

async function importSome(
  db: Db,
  tell: Tell,
  { manifests, ...place }: Place & { manifests: readonly BackupManifest[] },
): Promise<Omit<BackupImport, 'missing'>> {
  const { repositoryId } = place;
  const done: Omit<BackupImport, 'missing'> = { added: [], updated: [], refused: [] };
  await db.$queryRaw`SELECT 1 FROM repository WHERE id = ${repositoryId}::uuid FOR UPDATE`;
  const { rows, known } = await look(db, repositoryId, manifests);
  const named = namedBy(manifests);
  const removed = await removedSince(db, { ids: named, lookedAfter: place.lookedAfter });
  const missing: BackupManifest[] = [];
  for (const manifest of manifests) {
    if (removed.has(manifest.backupId) || removed.has(manifest.parentBackupId)) continue;
    const row = rows.get(manifest.backupId);
    const refusal = refuse(manifest, known);
    if (refusal !== undefined) done.refused.push({ backupId: manifest.backupId, message: refusal });
    else if (row === undefined) {
      missing.push(manifest);
      known.ids.add(manifest.backupId);
      known.byCheckpoint.set(manifest.checkpointId, manifest.backupId);
      done.added.push(manifest.backupId);
    } else if (await update(db, row, manifest)) done.updated.push(row.id);
  }
  await db.backup.createMany({ data: inOrder(missing, rows).map(row => newRow(row, place)) });
  for (const { backupId: subjectId, volumeId, kind } of missing) {
    const data = { volumeId, repositoryId, kind };
    tell({ kind: 'backup-found', subjectType: 'backup', subjectId, runId: place.runId, data });
  }
  return done;
}

interface Known {
  /** Of the repository: of the manifests and of what they stand on. */
  readonly ids: Set<string>;
  readonly byCheckpoint: Map<string, string>;
  /** Backups of other repositories, with their repository. */
  readonly elsewhere: Map<string, string>;
}

const namedBy = (manifests: readonly BackupManifest[]): string[] =>
  manifests.flatMap(({ backupId, parentBackupId }) => [backupId, parentBackupId]).filter(isId);

/** What the catalog has about these manifests. */
async function look(db: Db, repositoryId: string, manifests: readonly BackupManifest[]) {
  const named = namedBy(manifests);
  // A prune that is about to take one out waits, or has done so: none goes between look and change.
  await db.$queryRaw`SELECT 1 FROM backup WHERE id = ANY(${named}::uuid[]) ORDER BY id FOR UPDATE`;
  const checkpointIds = manifests.map(({ checkpointId }) => checkpointId).filter(isId);
  const found = await db.backup.findMany({ where: { id: { in: named } } });
  const rows = new Map(found.filter(row => row.repositoryId === repositoryId).map(row => [row.id, row]));
  const twins = await db.backup.findMany({
    where: { repositoryId, checkpointId: { in: checkpointIds } },
    select: { id: true, checkpointId: true },
  });
  const known: Known = {
    ids: new Set(rows.keys()),
    byCheckpoint: new Map(twins.map(row => [row.checkpointId, row.id])),
    elsewhere: new Map(
      found.filter(row => row.repositoryId !== repositoryId).map(row => [row.id, row.repositoryId]),
    ),
  };
  return { rows, known };
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

interface PlacedManifest extends BackupManifest {
  readonly createdAt: Date;
}

/** When each was made is known no better than by its point in time, and that it was after its parent. */
function inOrder(manifests: readonly BackupManifest[], rows: ReadonlyMap<string, Row>): PlacedManifest[] {
  const placed = new Map<string, Date>([...rows].map(([id, { createdAt }]) => [id, createdAt]));
  return manifests.map(manifest => {
    const createdAt = momentAfter(new Date(manifest.pointInTimeMs), placed.get(manifest.parentBackupId));
    placed.set(manifest.backupId, createdAt);
    return { ...manifest, createdAt };
  });
}

function newRow(manifest: PlacedManifest, { repositoryId, now }: Place) {
  const { backupId: id, volumeId, volumeName, checkpointId, checkpointName, reason, hidden } = manifest;
  const { sizeBytes, storedBytes, fileName, compression, pointInTimeMs } = manifest;
  const pointInTime = new Date(pointInTimeMs);
  const state = hidden ? 'hidden' : 'available';
  return {
    ...{ id, repositoryId, volumeId, volumeName, checkpointId, checkpointName, reason, state },
    ...{ fileName, compression, pointInTime },
    parentId: parentOf(manifest),
    replicaOfId: manifest.replicaOfBackupId || null,
    kind: kindOf(manifest),
    sizeBytes: BigInt(sizeBytes),
    storedBytes: BigInt(storedBytes),
    createdAt: manifest.createdAt,
    finishedAt: pointInTimeMs > now.getTime() ? pointInTime : now,
  };
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
