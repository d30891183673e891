// Repositories and their backups: a backup exists, and is what it is, by its manifest.
import { type BackupKind, type Inventory, isId } from '@tidemark/catalog';
import type { StoredBackup } from '@tidemark/proto';
import { type Find, hasGivenUp, type RunsAbout } from './found-difference.ts';
import type { NodeView } from './node-view.ts';

interface Sides {
  readonly catalog: Inventory;
  readonly node: NodeView;
  readonly runsAbout: RunsAbout;
}

export function compareRepositories(sides: Sides, find: Find): void {
  const { catalog, node } = sides;
  const there = new Map(node.repositories.map(one => [one.repository.repositoryId, one]));
  for (const row of catalog.repositories) {
    if (there.has(row.id)) presentRepository(row, find);
    else missingRepository(row, catalog, find);
  }
  const rows = new Set(catalog.repositories.map(({ id }) => id));
  for (const { repository, backups } of node.repositories) {
    const { repositoryId } = repository;
    if (!isId(repositoryId)) continue;
    if (catalog.elsewhere.some(({ id }) => id === repositoryId)) {
      const text = `The storage node has repository '${repository.name}', which belongs to another one by the catalog.`;
      find('repository-unknown', repositoryId, text, { actions: [] });
      continue;
    }
    if (!rows.has(repositoryId)) unknownRepository(repository, backups.length, sides, find);
    compareBackups(repositoryId, backups, sides, find);
  }
}

type RepositoryRow = Inventory['repositories'][number];

function presentRepository({ id, name, state }: RepositoryRow, find: Find): void {
  if (state === 'deleting') {
    const text = `Repository '${name}' was to be deleted, no run deletes it, and it is there.`;
    find('repository-deleting-left', id, `${text} It is kept: delete it again if it should go.`, {
      ...{ actions: ['keep'], safe: 'keep' },
    });
  }
  if (state !== 'creating') return;
  const text = `Repository '${name}' is there, but its row says that it is being made, and no run makes it.`;
  find('repository-creating-left', id, text, { actions: ['adopt'], safe: 'adopt' });
}

function missingRepository({ id, name, state }: RepositoryRow, { backups }: Inventory, find: Find): void {
  if (state === 'creating') {
    const text = `Repository '${name}' was never made, and no run makes it any more.`;
    find('repository-creating-left', id, text, { actions: ['forget'], safe: 'forget' });
    return;
  }
  const held = backups.filter(backup => backup.repositoryId === id);
  if (state === 'deleting' && held.length === 0) {
    const text = `Repository '${name}' is deleted; only its row is left.`;
    find('repository-deleting-left', id, text, { actions: ['forget'], safe: 'forget' });
    return;
  }
  for (const backup of held) missingBackup(backup, find);
  const next = held.length > 0 ? '' : ' Or forget it: no row of a backup refers to it.';
  find(
    'repository-missing',
    id,
    `Its storage node does not have repository '${name}'. Bring its folder back: mount its disk, and restart the ` +
      `storage node.${next}`,
    { actions: held.length > 0 ? [] : ['forget'] },
  );
}

function unknownRepository(
  { repositoryId, name }: { repositoryId: string; name: string },
  count: number,
  { catalog, runsAbout }: Sides,
  find: Find,
): void {
  const facts = { name, backups: count };
  const what = `The storage node has repository '${name}' (${repositoryId}), of which the catalog knows nothing.`;
  const past = runsAbout(repositoryId, ['create-repository']);
  if (past && hasGivenUp(past) && count === 0) {
    const text = `${what} It is empty, and left over from ${past.kind} run ${past.id}, which has ${past.state}.`;
    find('repository-unknown', repositoryId, text, { facts, safe: 'remove' });
  } else if (
    [...catalog.repositories, ...catalog.elsewhere].some(
      one => one.name === name && (!('noun' in one) || one.noun === 'repository'),
    )
  ) {
    const text = `${what} Its name is taken by another one.`;
    find('repository-unknown', repositoryId, text, { facts });
  } else {
    find('repository-unknown', repositoryId, `${what} It can be adopted.`, { facts, safe: 'adopt' });
  }
}

type BackupRow = Inventory['backups'][number];

function compareBackups(
  repositoryId: string,
  backups: readonly StoredBackup[],
  { catalog, node }: Sides,
  find: Find,
): void {
  const rows = new Map(
    catalog.backups.filter(row => row.repositoryId === repositoryId).map(row => [row.id, row] as const),
  );
  for (const stored of parentsFirst(backups)) {
    if (!isId(stored.backupId)) continue;
    const row = rows.get(stored.backupId);
    if (row) compareBackup(row, stored, isBeingRemoved(node, row.id), find);
    else unknownBackup(repositoryId, stored, find);
  }
  const there = new Set(backups.map(({ backupId }) => backupId));
  // The newest first: what stands on others is forgotten before them.
  const parents = new Set(backups.map(({ parentBackupId }) => parentBackupId));
  for (const row of [...rows.values()].reverse()) {
    if (there.has(row.id)) continue;
    const leaves = row.state === 'hidden' || row.state === 'removing';
    if (leaves && !parents.has(row.id)) removedBackup(row, find);
    else missingBackup(row, find);
  }
}

function unknownBackup(repositoryId: string, stored: StoredBackup, find: Find): void {
  const { backupId, volumeName, checkpointName, kind } = stored;
  const article = kind === 'incremental' ? 'an' : 'a';
  const text =
    `The repository holds ${article} ${kind} backup of volume '${volumeName}' at checkpoint '${checkpointName}', ` +
    'and the catalog does not know it. It is whole, and can be adopted.';
  const facts = { repositoryId, volumeName, checkpointName };
  const touches = [repositoryId, stored.checkpointId];
  find('backup-unknown', backupId, text, { touches, facts, safe: 'adopt' });
}

/** Storage nodes go on with removals by themselves when they start. */
const isBeingRemoved = (node: NodeView, backupId: string): boolean =>
  node.jobs.some(({ jobId, state }) => jobId === `removal-${backupId}` && state !== 'concluded');

function compareBackup(row: BackupRow, stored: StoredBackup, isLeaving: boolean, find: Find): void {
  const touches = [row.repositoryId];
  if (row.state === 'creating') {
    const text = 'The backup is published, but its row says that it is being made, and no run makes it.';
    find('backup-creating-left', row.id, text, { touches, actions: ['adopt'], safe: 'adopt' });
    return;
  }
  if (row.state === 'removing') {
    if (isLeaving) return;
    const text = 'The removal of the backup was begun, and no run goes on with it. The next prune does.';
    find('hidden-left', row.id, text, { touches, safe: 'hide' });
    return;
  }
  const differing = [
    row.parentId !== (stored.parentBackupId || null) && 'parent',
    row.kind !== kindOf(stored) && 'kind',
    row.storedBytes !== stored.storedBytes && 'storedBytes',
    row.fileName !== stored.fileName && 'fileName',
    // What retention has decided is not in the manifest yet; the other way round, the manifest is right.
    row.state === 'available' && stored.hidden && 'hidden',
    row.state === 'missing' && 'missing',
  ].filter(word => word !== false);
  if (differing.length === 0) return;
  const facts = { differing, parentId: stored.parentBackupId, kind: kindOf(stored) };
  const text =
    row.state === 'missing'
      ? 'The backup is in its repository again.'
      : `The backup's manifest and its row differ in ${differing.join(', ')}: the manifest is right.`;
  find('backup-differs', row.id, text, { touches, facts, safe: 'accept' });
}

/** Its storage node has ended the removal by itself; nothing stands on it. */
function removedBackup({ id, repositoryId }: BackupRow, find: Find): void {
  const text = 'The backup was to go, its repository does not have it any more, and no run drops its row.';
  find('removed-left', id, text, { touches: [repositoryId], safe: 'finish' });
}

function missingBackup({ id, repositoryId, state }: BackupRow, find: Find): void {
  const touches = [repositoryId];
  if (state === 'creating') {
    const text = 'The backup was never made, and no run makes it any more.';
    find('backup-creating-left', id, text, { touches, actions: ['forget'], safe: 'forget' });
    return;
  }
  const text =
    'Its repository does not have the backup. It is neither a base nor restored until it is there again. Bring its ' +
    'files back, or forget it.';
  find('backup-missing', id, text, { touches, facts: { repositoryId } });
}

/** So that each is adopted after what it stands on. */
export function parentsFirst(backups: readonly StoredBackup[]): StoredBackup[] {
  const left = new Map(backups.map(backup => [backup.backupId, backup]));
  const sorted: StoredBackup[] = [];
  for (const start of backups) {
    const branch: StoredBackup[] = [];
    for (let one = left.get(start.backupId); one; one = left.get(one.parentBackupId)) {
      left.delete(one.backupId);
      branch.push(one);
    }
    sorted.push(...branch.reverse());
  }
  return sorted;
}

/** What has no parent any more is full, whatever it was once. */
export function kindOf({ kind, parentBackupId }: StoredBackup): BackupKind {
  if (parentBackupId === '') return 'full';
  return kind === 'differential' ? 'differential' : 'incremental';
}
