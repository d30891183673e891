// Goal: a lost catalog is rebuilt from manifests alone, once or many times, and nothing in it is deleted. Verifications
// are kept with their backups. Method: a real database, manifests as a storage node tells of them.
import { randomUUID } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import { type BackupManifest, parentsFirst } from './backup-import.ts';
import { Catalog } from './catalog.ts';
import { inDatabase, openTestCatalog, type TestDatabase } from './testing/index.ts';
import { seed } from './testing/nouns.ts';

let database: TestDatabase;
let catalog: Catalog;
let repositoryId: string;

beforeEach(async () => {
  ({ catalog, database } = await openTestCatalog());
  const { node } = await seed(catalog);
  const lost = { id: randomUUID(), name: 'lost', storageNodeId: node.id, limitBytes: null };
  repositoryId = (await catalog.repositories.adopt(lost, null)).id;
});

function manifest(parent?: BackupManifest, facts: Partial<BackupManifest> = {}): BackupManifest {
  return {
    backupId: randomUUID(),
    volumeId: parent?.volumeId ?? randomUUID(),
    volumeName: 'a disk that is gone',
    parentBackupId: parent?.backupId ?? '',
    checkpointId: randomUUID(),
    checkpointName: 'monday',
    pointInTimeMs: Date.UTC(2026, 0, 1),
    kind: parent === undefined ? 'full' : 'incremental',
    reason: 'full: asked for',
    sizeBytes: 1 << 20,
    storedBytes: 70_000,
    fileName: 'backups/x.qcow2',
    compression: 'zstd',
    hidden: false,
    ...facts,
  };
}

function chain(length: number): BackupManifest[] {
  const all = [manifest()];
  while (all.length < length) all.push(manifest(all.at(-1)));
  return all;
}

test('a repository of many backups is taken over whole', async () => {
  const manifests = Array.from({ length: 30 }, () => chain(100)).flat();
  const report = await catalog.backups.importFromManifests(repositoryId, [...manifests].reverse(), null);
  expect(report).toMatchObject({ updated: [], missing: [], refused: [] });
  expect(new Set(report.added).size).toBe(3_000);
  const again = await catalog.backups.importFromManifests(repositoryId, manifests.slice(1_000), null);
  expect(again).toMatchObject({ added: [], updated: [], refused: [] });
  expect(new Set(again.missing)).toEqual(new Set(manifests.slice(0, 1_000).map(({ backupId }) => backupId)));
}, 60_000);

test('what was removed since the repository was looked at does not come back', async () => {
  const manifests = chain(3);
  const [one, two] = manifests as [BackupManifest, BackupManifest];
  await catalog.backups.importFromManifests(repositoryId, manifests, null);
  const lookedAfter = await catalog.events.newestId();
  const runId = randomUUID();
  const full = { id: two.backupId, parentId: null, kind: 'full', reason: 'merged', storedBytes: 9 };
  await catalog.retention.finish(one.backupId, [full], runId);
  const report = await catalog.backups.importFromManifests(repositoryId, manifests, runId, { lookedAfter });
  expect(report).toMatchObject({ added: [], updated: [], refused: [] });
  expect(await catalog.backups.find(one.backupId)).toBeNull();
  expect(await catalog.backups.get(two.backupId)).toMatchObject({ parentId: null, kind: 'full' });
  // A later look sees what has really come back.
  const after = { lookedAfter: await catalog.events.newestId() };
  const later = await catalog.backups.importFromManifests(repositoryId, [one], runId, after);
  expect(later.added).toEqual([one.backupId]);
});

test('the reconciler adopts nothing that was removed since it looked, and accepting makes no row', async () => {
  const [one] = chain(1) as [BackupManifest];
  await catalog.backups.importFromManifests(repositoryId, [one], null);
  const lookedAfter = await catalog.events.newestId();
  const runId = randomUUID();
  await catalog.retention.finish(one.backupId, [], runId);
  const { backupId: id, checkpointName: checkpoint, pointInTimeMs, parentBackupId: _, ...facts } = one;
  const rest = { id, repositoryId, checkpoint, parentId: null, pointInTime: new Date(pointInTimeMs) };
  const found = { ...facts, ...rest, kind: 'full' as const };
  await catalog.adoption.backup(found, runId, { lookedAfter });
  await catalog.adoption.acceptBackup(found, runId);
  expect(await catalog.backups.find(id)).toBeNull();
  await catalog.adoption.backup(found, runId, { lookedAfter: await catalog.events.newestId() });
  await catalog.adoption.acceptBackup({ ...found, storedBytes: 5 }, runId);
  expect(await catalog.backups.get(id)).toMatchObject({ state: 'available', storedBytes: 5 });
});

test('rows are made parents first, whatever order the manifests have', async () => {
  const manifests = chain(4);
  const report = await catalog.backups.importFromManifests(repositoryId, [...manifests].reverse(), null);
  expect(report.added).toEqual(manifests.map(({ backupId }) => backupId));
  const { items } = await catalog.backups.list({ repositoryId });
  expect(items.find(({ id }) => id === manifests[2]!.backupId)).toMatchObject({
    parentId: manifests[1]!.backupId,
    state: 'available',
    compression: 'zstd',
    volumeName: 'a disk that is gone',
    storedBytes: 70_000,
  });
  const again = await catalog.backups.importFromManifests(repositoryId, manifests, null);
  expect(again).toEqual({ added: [], updated: [], missing: [], refused: [] });
});

test('rows follow changed manifests, those without one stay and are told of', async () => {
  const [full, middle, last] = chain(3) as [BackupManifest, BackupManifest, BackupManifest];
  await catalog.backups.importFromManifests(repositoryId, [full, middle, last], null);
  // As after retention took the middle one out: its data is in the last one's image.
  const merged = { ...last, parentBackupId: full.backupId, storedBytes: 90_000 };
  const report = await catalog.backups.importFromManifests(repositoryId, [full, merged], null);
  expect(report).toEqual({ added: [], updated: [last.backupId], missing: [middle.backupId], refused: [] });
  expect(await catalog.backups.get(last.backupId)).toMatchObject({
    parentId: full.backupId,
    storedBytes: 90_000,
  });
  expect(await catalog.backups.find(middle.backupId)).not.toBeNull();
  await inDatabase(database.url, client => client.query("UPDATE backup SET state = 'missing'"));
  const back = await catalog.backups.importFromManifests(repositoryId, [full, merged], null);
  expect(back.updated).toEqual([full.backupId, last.backupId]);
  expect((await catalog.backups.get(last.backupId)).state).toBe('available');
});

test('a backup whose run is at it, one without its parent and a twin are left alone', async () => {
  const full = manifest();
  const under = { ...manifest(), backupId: randomUUID() };
  await catalog.backups.create({
    ...{ id: under.backupId, repositoryId, volumeId: under.volumeId, volumeName: 'disk', parentId: null },
    ...{ checkpointId: under.checkpointId, checkpoint: 'monday', reason: 'full: asked for', sizeBytes: 512 },
  });
  const orphan = manifest(manifest());
  const twin = manifest(undefined, { checkpointId: full.checkpointId });
  const report = await catalog.backups.importFromManifests(repositoryId, [full, under, orphan, twin], null);
  expect(report.added).toEqual([full.backupId]);
  expect(report.updated).toEqual([]);
  expect(report.refused.map(({ backupId }) => backupId)).toEqual(
    [twin.backupId, orphan.backupId].sort(byOrder(report)),
  );
  expect((await catalog.backups.get(under.backupId)).state).toBe('creating');
});

const byOrder = (report: { refused: { backupId: string }[] }) => (one: string, other: string) =>
  report.refused.findIndex(({ backupId }) => backupId === one) -
  report.refused.findIndex(({ backupId }) => backupId === other);

test('manifests in a loop are all kept in the order', () => {
  const [one, two] = chain(2) as [BackupManifest, BackupManifest];
  const loop = [{ ...one, parentBackupId: two.backupId }, two];
  expect(parentsFirst(loop)).toHaveLength(2);
});

test('a verification is recorded with its ranges, a sound one takes them away, and both are told of', async () => {
  const [{ backupId }] = chain(1) as [BackupManifest];
  await catalog.backups.importFromManifests(repositoryId, [manifest(undefined, { backupId })], null);
  const ranges = [{ offset: 65_536, length: 131_072 }];
  await catalog.verifications.record(backupId, { result: 'damaged', ranges }, randomUUID());
  expect(await catalog.backups.get(backupId)).toMatchObject({ verifyResult: 'damaged', damage: ranges });
  await catalog.verifications.record(backupId, { result: 'sound' }, randomUUID());
  expect(await catalog.backups.get(backupId)).toMatchObject({ verifyResult: 'damaged', damage: ranges });
  await catalog.verifications.record(backupId, { result: 'sound', ranges: [] }, randomUUID());
  expect(await catalog.backups.get(backupId)).toMatchObject({ verifyResult: 'sound', damage: null });
  const items = await catalog.events.listAfter(0, 100);
  const kinds = items.map(({ kind }) => kind);
  expect(kinds.filter(kind => kind.startsWith('backup-'))).toEqual([
    'backup-found',
    'backup-damaged',
    'backup-verified',
    'backup-verified',
  ]);
});

test('of two who ask what is due at once, the second sees what the first chose', async () => {
  const [{ backupId }] = chain(1) as [BackupManifest];
  await catalog.backups.importFromManifests(repositoryId, [manifest(undefined, { backupId })], null);
  const choose = () =>
    catalog.transaction(async tx => {
      const { isBusy, candidates } = await tx.verifications.lockState(repositoryId);
      if (isBusy) return null;
      await new Promise(resolve => setTimeout(resolve, 50));
      const request = { repositoryId, backupId, chain: true, speedBytesPerSecond: null };
      await tx.runs.create({ id: randomUUID(), kind: 'verify', repositoryId, backupId, request });
      return candidates[0]!.backupId;
    });
  const chosen = await Promise.all([choose(), choose(), choose()]);
  expect(chosen.filter(id => id !== null)).toEqual([backupId]);
});

test('a repository with backups is not deleted, an empty one is, and a failed deletion keeps it', async () => {
  await catalog.repositories.markDeleting(repositoryId, null);
  await expect(catalog.repositories.getReady(repositoryId)).rejects.toMatchObject({ kind: 'not-ready' });
  await catalog.repositories.markKept(repositoryId, null);
  await catalog.backups.importFromManifests(repositoryId, [manifest()], null);
  await expect(catalog.repositories.markDeleting(repositoryId, null)).rejects.toMatchObject({
    kind: 'in-use',
  });
});

test('what is due to be verified is found without reading what ever was verified', async () => {
  const manifests = chain(2);
  await catalog.backups.importFromManifests(
    repositoryId,
    manifests.map(one => manifest(undefined, one)),
    null,
  );
  const [one, two] = manifests.map(({ backupId }) => backupId) as [string, string];
  const request = { repositoryId, backupId: one, chain: true, speedBytesPerSecond: null };
  const run = { id: randomUUID(), kind: 'verify', repositoryId, backupId: one, request } as const;
  const { createdAt } = await catalog.runs.create(run);
  const ended = 20_000;
  await inDatabase(database.url, async client => {
    await client.query(
      `INSERT INTO run (id, kind, state, request, repository_id, backup_id, created_at)
       SELECT gen_random_uuid(), 'verify', 'succeeded', '{}', $1, $2, now() - interval '1 day'
       FROM generate_series(1, ${ended})`,
      [repositoryId, two],
    );
    await client.query('ANALYZE run');
  });
  const reads = async () =>
    inDatabase(database.url, async client => {
      const { rows } = await client.query(`SELECT (seq_tup_read + idx_tup_fetch)::int AS rows,
        (SELECT sum(idx_tup_read)::int FROM pg_stat_user_indexes WHERE relname = 'run') AS entries
        FROM pg_stat_user_tables WHERE relname = 'run'`);
      return rows[0].rows + rows[0].entries;
    });
  const before = await reads();
  const fresh = Catalog.connect(database.url);
  const state = await fresh.transaction(tx => tx.verifications.lockState(repositoryId));
  await fresh.close();
  expect(state).toMatchObject({ isBusy: true, triedAt: createdAt });
  expect(new Map(state.candidates.map(({ backupId, triedAt }) => [backupId, triedAt]))).toEqual(
    new Map([
      [one, createdAt],
      [two, null],
    ]),
  );
  await expect.poll(reads).toBeGreaterThan(before);
  expect((await reads()) - before).toBeLessThan(ended / 10);
});
