// Goal: snapshots and commits go through their states, one commit a volume, and rows of overwritten snapshots
// go while the commit keeps their names. Method: a real database for each test.
import { randomUUID } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import type { Catalog } from './catalog.ts';
import { inDatabase, openTestCatalog, type TestDatabase } from './testing/index.ts';
import { seed } from './testing/nouns.ts';

let database: TestDatabase;
let catalog: Catalog;
let volumeId: string;
const runId = randomUUID();

beforeEach(async () => {
  ({ catalog, database } = await openTestCatalog());
  volumeId = (await seed(catalog)).volume.id;
});

async function snapshot(name: string, ready = true): Promise<string> {
  const { id } = await catalog.snapshots.create({ id: randomUUID(), volumeId, name }, runId);
  if (ready) await catalog.snapshots.markReady(id, new Date(), runId);
  return id;
}

const ALL = { topSnapshotId: null, topSnapshot: null, baseSnapshotId: null, baseSnapshot: null };
const ACTIVE = { ...ALL, shallow: false, active: true, deleteFiles: true };

const commit = () => catalog.commits.create({ id: randomUUID(), volumeId, runId, ...ACTIVE });
const stateOf = async (id: string) => (await catalog.commits.get(volumeId, id)).state;

async function kinds(subjectId: string): Promise<string[]> {
  const events = await catalog.events.listAfter(0, 1000);
  return events.filter(event => event.subjectId === subjectId).map(event => event.kind);
}

test('a snapshot is found by id and name, and its name is its own within the volume', async () => {
  const id = await snapshot('before');
  const found = await catalog.snapshots.get(volumeId, 'before');
  expect(found).toMatchObject({ id, volumeId, state: 'ready', pointInTime: expect.any(Date) });
  expect(await catalog.snapshots.get(volumeId, id)).toEqual(found);
  await snapshot('after', false);
  const { items } = await catalog.snapshots.list(volumeId);
  expect(items.map(({ name, state }) => [name, state])).toEqual([
    ['before', 'ready'],
    ['after', 'creating'],
  ]);
  await expect(snapshot('before')).rejects.toMatchObject({ code: 'snapshot-name-taken' });
  await expect(catalog.snapshots.get(volumeId, 'x')).rejects.toMatchObject({ code: 'snapshot-not-found' });
  expect(await kinds(id)).toEqual(['snapshot-creating', 'snapshot-ready']);
});

test('a snapshot that never came to be goes, one that came stays', async () => {
  const [unmade, made] = [await snapshot('unmade', false), await snapshot('made')];
  for (const id of [unmade, made, unmade]) await catalog.snapshots.deleteUnmade(id, runId);
  expect((await catalog.snapshots.list(volumeId)).items.map(({ name }) => name)).toEqual(['made']);
  expect(await kinds(unmade)).toEqual(['snapshot-creating', 'snapshot-deleted']);
});

test('a snapshot that was thought lost is taken in again, under a name that is free', async () => {
  const id = await snapshot('noon', false);
  const found = { id, volumeId, name: 'noon', pointInTime: new Date(1000) };
  await catalog.snapshots.adopt(found, runId);
  expect(await catalog.snapshots.get(volumeId, 'noon')).toMatchObject({ id, state: 'ready' });
  const late = { ...found, id: randomUUID() };
  await catalog.snapshots.adopt(late, runId);
  await catalog.snapshots.adopt(late, runId);
  expect(await catalog.snapshots.get(volumeId, late.id)).toMatchObject({
    name: `noon-${late.id.slice(0, 8)}`,
  });
});

test('a volume has one commit at a time, and neither new snapshots nor an end meanwhile', async () => {
  await snapshot('before');
  const { id } = await commit();
  const busy = { code: 'volume-busy', message: expect.stringContaining(`cancel its run ${runId}`) };
  await expect(commit()).rejects.toMatchObject(busy);
  await expect(snapshot('meanwhile')).rejects.toMatchObject(busy);
  await expect(catalog.volumes.markDeleting(volumeId, runId)).rejects.toMatchObject(busy);
  await catalog.commits.markCopying(id, runId);
  await catalog.commits.markReady(id, runId);
  await expect(commit()).rejects.toMatchObject({ message: expect.stringContaining('pivot, or keep') });
  await catalog.commits.end(id, { state: 'done' }, runId);
  await snapshot('later');
  await commit();
});

test('of two commits at once the second is refused', async () => {
  const results = await Promise.allSettled([commit(), commit(), commit()]);
  expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
});

test('no commit begins while a snapshot is being made', async () => {
  await snapshot('half', false);
  await expect(commit()).rejects.toMatchObject({
    code: 'volume-busy',
    message: expect.stringContaining("'half'"),
  });
});

test('a commit that waits takes one decision, which can be taken back, and ends once', async () => {
  const { id } = await commit();
  await expect(catalog.commits.decide(id, 'pivot', runId)).rejects.toMatchObject({
    code: 'commit-not-ready',
    message: expect.stringContaining('starting'),
  });
  await catalog.commits.markCopying(id, runId);
  await catalog.commits.markCopying(id, runId);
  await catalog.commits.markReady(id, runId);
  await catalog.commits.decide(id, 'keep', runId);
  await expect(catalog.commits.decide(id, 'pivot', runId)).rejects.toMatchObject({
    code: 'commit-not-ready',
  });
  await catalog.commits.undecide(id, runId);
  await catalog.commits.decide(id, 'pivot', runId);
  const error = { code: 'commit-not-found', message: 'gone' };
  await catalog.commits.end(id, { state: 'failed', error }, runId);
  await catalog.commits.end(id, { state: 'done' }, runId);
  expect(await catalog.commits.get(volumeId, id)).toMatchObject({
    state: 'failed',
    decision: 'pivot',
    error,
    finishedAt: expect.any(Date),
  });
  expect(await kinds(id)).toEqual(
    ['starting', 'copying', 'ready', 'keeping', 'ready', 'pivoting', 'failed'].map(
      state => `commit-${state}`,
    ),
  );
  await expect(catalog.commits.decide(randomUUID(), 'keep', runId)).rejects.toMatchObject({
    code: 'commit-not-found',
  });
});

test('overwritten snapshots go, and the commit keeps their names', async () => {
  const [one, two, three] = [await snapshot('one'), await snapshot('two'), await snapshot('three')];
  const { id } = await commit();
  await catalog.commits.dropLostSnapshots(id, [two, three, 'by-hand'], runId);
  await catalog.commits.dropLostSnapshots(id, [three!], runId);
  await catalog.commits.dropLostSnapshots(id, [three!], runId);
  expect((await catalog.snapshots.list(volumeId)).items.map(({ name }) => name)).toEqual(['three']);
  expect((await catalog.commits.get(volumeId, id)).lostSnapshots).toEqual([
    { id: one, name: 'one' },
    { id: two, name: 'two' },
  ]);
  await catalog.commits.end(id, { state: 'cancelled' }, runId);
  expect(await stateOf(id)).toBe('cancelled');
  await new Promise(resolve => setTimeout(resolve, 5));
  const later = await snapshot('later');
  await catalog.commits.dropLostSnapshots(id, [], runId);
  expect((await catalog.snapshots.list(volumeId)).items.map(row => row.id)).toEqual([later]);
  await catalog.volumes.delete(volumeId, runId);
  expect(await catalog.commits.find(volumeId, id)).toBeNull();
});

test('the database itself refuses what makes no sense', async () => {
  const { id } = await commit();
  const set = (what: string) =>
    inDatabase(database.url, client => client.query(`UPDATE volume_commit SET ${what} WHERE id = '${id}'`));
  for (const what of ["state = 'lost'", "state = 'done'", 'active = false', "decision = 'perhaps'"]) {
    await expect(set(what), what).rejects.toThrow(/check constraint/);
  }
  const alone = set("shallow = true, base_snapshot = 'b', base_snapshot_id = id");
  await expect(alone).rejects.toThrow(/check constraint/);
});
