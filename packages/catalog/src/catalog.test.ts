// Goal: the repositories keep names unique, refuse with errors that name the object, page stably, and tell of
// each change in the order of commits. Method: a real database for each test.
import { randomUUID } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import { Catalog } from './catalog.ts';
import { inDatabase, openTestCatalog, type TestDatabase } from './testing/index.ts';
import { addBackup, seed } from './testing/nouns.ts';

let database: TestDatabase;
let catalog: Catalog;

beforeEach(async () => {
  ({ catalog, database } = await openTestCatalog());
});

test('a taken name is refused and named', async () => {
  const { node, volume } = await seed(catalog);
  const again = {
    id: randomUUID(),
    name: 'disk',
    storageNodeId: node.id,
    sizeBytes: 512,
    format: 'raw' as const,
  };
  await expect(catalog.volumes.create(again)).rejects.toMatchObject({
    code: 'volume-name-taken',
    message: expect.stringContaining("'disk'"),
  });
  await catalog.checkpoints.create({ id: randomUUID(), volumeId: volume.id, name: 'monday' });
  const twice = catalog.checkpoints.create({ id: randomUUID(), volumeId: volume.id, name: 'monday' });
  await expect(twice).rejects.toMatchObject({ code: 'checkpoint-name-taken' });
  const sameAddress = { id: randomUUID(), name: 'other', controlAddress: node.controlAddress };
  await expect(catalog.storageNodes.create(sameAddress)).rejects.toMatchObject({
    code: 'storage-node-address-taken',
    message: expect.stringContaining("'alpha'"),
  });
});

test('of two that add one address at once, the second is told of the address', async () => {
  const wanted = (name: string) => ({ id: randomUUID(), name, controlAddress: 'h:1' });
  let second: Promise<unknown> | undefined;
  await catalog.transaction(async inner => {
    await inner.storageNodes.create(wanted('first'));
    second = catalog.storageNodes.create(wanted('second'));
    second.catch(() => {});
    // It has looked by then, found nothing, and waits for the first to commit.
    await new Promise(resolve => setTimeout(resolve, 300));
  });
  await expect(second).rejects.toMatchObject({
    code: 'storage-node-address-taken',
    message: expect.stringContaining('h:1'),
  });
});

test('a noun is found by id and by name, and an unknown one is named', async () => {
  const { volume } = await seed(catalog);
  const found = await catalog.volumes.get('disk');
  expect(await catalog.volumes.get(volume.id)).toEqual(found);
  expect(found).toMatchObject({ storageNode: 'alpha', sizeBytes: 2 ** 40, state: 'ready' });
  await expect(catalog.volumes.get('nothing')).rejects.toMatchObject({
    code: 'volume-not-found',
    message: expect.stringContaining("'nothing'"),
  });
  await expect(catalog.backups.get('no-id')).rejects.toMatchObject({ code: 'backup-not-found' });
  await expect(catalog.runs.get('no-id')).rejects.toMatchObject({ code: 'run-not-found' });
});

test('what others depend on cannot go', async () => {
  const { node, volume, repository } = await seed(catalog);
  const facts = {
    volumeId: volume.id,
    repositoryId: repository.id,
    checkpoint: 'monday',
    at: new Date(1000),
  };
  const backup = await addBackup(catalog, facts);
  await expect(catalog.storageNodes.delete(node.id)).rejects.toMatchObject({ code: 'storage-node-in-use' });
  await expect(catalog.repositories.delete(repository.id, null)).rejects.toMatchObject({
    code: 'repository-in-use',
  });
  const run = { id: randomUUID(), kind: 'backup' as const, volumeId: volume.id, request: {} };
  await catalog.runs.create(run);
  await expect(catalog.volumes.markDeleting(volume.id, randomUUID())).rejects.toMatchObject({
    code: 'volume-busy',
    message: expect.stringContaining(run.id),
  });
  await catalog.volumes.delete(volume.id, null);
  expect(await catalog.backups.get(backup.id)).toEqual(backup);
});

test('a checkpoint that a backup under way builds on cannot go', async () => {
  const { volume, repository } = await seed(catalog);
  const shared = { volumeId: volume.id, repositoryId: repository.id };
  const parent = await addBackup(catalog, { ...shared, checkpoint: 'monday', at: new Date(1000) });
  const next = await catalog.checkpoints.create({ id: randomUUID(), volumeId: volume.id, name: 'tuesday' });
  await catalog.backups.create({
    ...shared,
    id: randomUUID(),
    volumeName: 'disk',
    checkpointId: next.id,
    checkpoint: 'tuesday',
    parentId: parent.id,
    reason: 'r',
    sizeBytes: 512,
  });
  const remove = catalog.checkpoints.markDeleting(parent.checkpointId, randomUUID());
  await expect(remove).rejects.toMatchObject({ code: 'checkpoint-in-use' });
  await expect(catalog.checkpoints.markDeleting(next.id, randomUUID())).rejects.toMatchObject({
    code: 'checkpoint-not-ready',
  });
});

test('the base is the newest ready checkpoint that has a backup in that repository', async () => {
  const { volume, repository } = await seed(catalog);
  const shared = { volumeId: volume.id, repositoryId: repository.id };
  expect(await catalog.backups.findBase(volume.id, repository.id)).toBeNull();
  const monday = await addBackup(catalog, { ...shared, checkpoint: 'monday', at: new Date(1000) });
  const tuesday = await addBackup(catalog, { ...shared, checkpoint: 'tuesday', at: new Date(2000) });
  await catalog.checkpoints.create({ id: randomUUID(), volumeId: volume.id, name: 'without a backup' });
  expect(await catalog.backups.findBase(volume.id, repository.id)).toEqual(tuesday);
  expect(await catalog.backups.findOfCheckpoint(monday.checkpointId, repository.id)).toEqual(monday);
  await catalog.checkpoints.delete(tuesday.checkpointId, null);
  expect(await catalog.backups.findBase(volume.id, repository.id)).toEqual(monday);
  expect(await catalog.backups.findBase(volume.id, randomUUID())).toBeNull();
  expect(monday).toMatchObject({ storedBytes: 2 ** 33, sizeBytes: 2 ** 40, kind: 'full' });
  expect(monday.durationMs).toBeGreaterThanOrEqual(0);
});

test('pages neither repeat nor skip while rows come, and a made-up cursor is refused', async () => {
  const { volume } = await seed(catalog);
  for (let n = 0; n < 7; n++) {
    await catalog.checkpoints.create({ id: randomUUID(), volumeId: volume.id, name: `c${n}` });
  }
  const names: string[] = [];
  let cursor: string | null = null;
  do {
    const page: Awaited<ReturnType<typeof catalog.checkpoints.list>> = await catalog.checkpoints.list(
      volume.id,
      {
        limit: 3,
        cursor,
      },
    );
    names.push(...page.items.map(item => item.name));
    if (names.length === 3) {
      await catalog.checkpoints.create({ id: randomUUID(), volumeId: volume.id, name: 'late' });
    }
    cursor = page.nextCursor;
  } while (cursor !== null);
  expect(names).toEqual(['c0', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6', 'late']);
  await expect(async () => catalog.runs.list({ cursor: 'bm9uc2Vuc2U' })).rejects.toMatchObject({
    code: 'catalog-invalid-cursor',
  });
});

test('runs are listed newest first, by state, kind and volume', async () => {
  const { volume } = await seed(catalog);
  const ids = [randomUUID(), randomUUID(), randomUUID()] as const;
  await catalog.runs.create({ id: ids[0], kind: 'backup', volumeId: volume.id, request: {} });
  await catalog.runs.create({ id: ids[1], kind: 'restore', request: {} });
  await catalog.runs.create({ id: ids[2], kind: 'backup', request: {} });
  await catalog.leases.claim(ids[2], { owner: 'w', leaseMs: 1000, attempt: 1 });
  const list = async (filter: object) => (await catalog.runs.list(filter)).items.map(run => run.id);
  expect(await list({})).toEqual([ids[2], ids[1], ids[0]]);
  expect(await list({ kind: 'backup' })).toEqual([ids[2], ids[0]]);
  expect(await list({ state: 'running' })).toEqual([ids[2]]);
  expect(await list({ volumeId: volume.id })).toEqual([ids[0]]);
});

test('a transaction that rejects leaves neither rows nor events', async () => {
  const { node } = await seed(catalog);
  const before = await catalog.events.listAfter(0);
  const wanted = {
    id: randomUUID(),
    name: 'second',
    storageNodeId: node.id,
    sizeBytes: 512,
    format: 'raw' as const,
  };
  const work = catalog.transaction(async tx => {
    await tx.volumes.create(wanted);
    await tx.volumes.create({ ...wanted, id: randomUUID() });
  });
  await expect(work).rejects.toMatchObject({ code: 'volume-name-taken' });
  expect(await catalog.volumes.find('second')).toBeNull();
  expect(await catalog.events.listAfter(0)).toEqual(before);
});

test('event ids grow in the order of commits, whoever began first', async () => {
  const { node } = await seed(catalog);
  const after = (await catalog.events.listAfter(0)).at(-1)!.id;
  const volume = (name: string) => ({
    id: randomUUID(),
    name,
    storageNodeId: node.id,
    sizeBytes: 512,
    format: 'raw' as const,
  });
  let release = () => {};
  const held = new Promise<void>(resolve => {
    release = resolve;
  });
  const slow = catalog.transaction(async tx => {
    await tx.volumes.create(volume('first begun'));
    await held;
  });
  await catalog.volumes.create(volume('first committed'));
  const seen = await catalog.events.listAfter(after);
  release();
  await slow;
  const later = await catalog.events.listAfter(seen.at(-1)!.id);
  expect([...seen, ...later].map(event => event.data.name)).toEqual(['first committed', 'first begun']);
});

test('many writers at once neither lose an event nor stand in each other’s way', async () => {
  const { volume } = await seed(catalog);
  const names = Array.from({ length: 30 }, (_, n) => `c${n}`);
  const add = (name: string) => catalog.checkpoints.create({ id: randomUUID(), volumeId: volume.id, name });
  await Promise.all(names.map(add));
  const told = (await catalog.events.listAfter(0)).filter(event => event.kind === 'checkpoint-creating');
  expect(told.map(event => event.data.name).sort()).toEqual([...names].sort());
});

test('a database that is away is `catalog-unavailable`, for every kind of call', async () => {
  const away = Catalog.connect('postgres://nobody@127.0.0.1:9/nothing');
  const unavailable = {
    code: 'catalog-unavailable',
    message: expect.stringContaining('TIDEMARK_DATABASE_URL'),
  };
  await expect(away.ping()).rejects.toMatchObject(unavailable);
  await expect(away.volumes.list()).rejects.toMatchObject(unavailable);
  await expect(away.runs.requestCancel(randomUUID())).rejects.toMatchObject(unavailable);
  await expect(away.transaction(async tx => tx.volumes.find('x'))).rejects.toMatchObject(unavailable);
  await away.close();
});

test('a connection that is cut is `catalog-unavailable`, and the next call works', async () => {
  const cut = catalog.transaction(async tx => {
    await tx.volumes.list();
    await inDatabase(database.url, client =>
      client.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()`,
      ),
    );
    await tx.volumes.list();
  });
  await expect(cut).rejects.toMatchObject({ code: 'catalog-unavailable' });
  await catalog.ping();
});

test('a process that freezes within a transaction holds up the others for seconds only', async () => {
  const { volume } = await seed(catalog);
  const other = Catalog.connect(database.url);
  const [locked, thawed] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const frozen = other.transaction(async tx => {
    await tx.volumes.getReady('disk');
    locked.resolve();
    await thawed.promise;
    await tx.volumes.getReady('disk');
  });
  frozen.catch(() => {});
  await locked.promise;
  // Frozen until this one is through: were it held up, it would be for good.
  await catalog.volumes.markDeleting(volume.id, randomUUID());
  thawed.resolve();
  await expect(frozen).rejects.toMatchObject({ code: 'catalog-unavailable' });
  await other.close();
});
