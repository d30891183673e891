// Goal: what retention reads and writes of backups is consistent under concurrency: nobody takes a lease on what is
// being hidden, and a row goes only with its children told where they stand.
import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { beforeEach, expect, test } from 'vitest';
import type { Backup } from './backup-repository.ts';
import type { Catalog } from './catalog.ts';
import { inDatabase, openTestCatalog, type TestDatabase } from './testing/index.ts';
import { addBackup, seed } from './testing/nouns.ts';

let database: TestDatabase;
let catalog: Catalog;
let ids: { volumeId: string; repositoryId: string };
let chain: Backup[];
const runId = randomUUID();

beforeEach(async () => {
  ({ catalog, database } = await openTestCatalog());
  const { volume, repository } = await seed(catalog);
  ids = { volumeId: volume.id, repositoryId: repository.id };
  chain = [];
  for (const checkpoint of ['one', 'two', 'three']) {
    const parentId = chain.at(-1)?.id;
    const at = new Date(chain.length);
    chain.push(await addBackup(catalog, { ...ids, checkpoint, at, ...(parentId && { parentId }) }));
  }
});

const merged = ({ id }: Backup, parentId: string | null) => ({
  id,
  parentId,
  kind: parentId === null ? 'full' : 'incremental',
  reason: 'merged',
  storedBytes: 2 ** 33 + 5,
});
const setState = ({ id }: Backup, state: string) =>
  inDatabase(database.url, client => client.query('UPDATE backup SET state = $1 WHERE id = $2', [state, id]));

test('whoever wants a backup that is being hidden waits, and is refused', async () => {
  const [one] = chain;
  let taking: Promise<void> | undefined;
  await catalog.transaction(async tx => {
    await tx.retention.lockBackups(ids.repositoryId);
    taking = catalog.backupLeases.take(one!.id, 'run', randomUUID());
    taking.catch(() => undefined);
    await tx.retention.hide([one!.id], runId);
  });
  await expect(taking).rejects.toMatchObject({ code: 'backup-not-usable' });
  expect(await catalog.backups.get(one!.id)).toMatchObject({ state: 'hidden' });
});

test('states change in their order only, and back where the repository never heard of it', async () => {
  const [one] = chain;
  const state = async () => (await catalog.backups.get(one!.id)).state;
  await catalog.retention.markRemoving(one!.id, runId);
  expect(await state()).toBe('available');
  await catalog.retention.hide([one!.id], runId);
  await catalog.retention.markRemoving(one!.id, runId);
  expect(await state()).toBe('removing');
  await catalog.retention.markHidden(one!.id, runId);
  expect(await state()).toBe('hidden');
  await catalog.retention.unhide(one!.id, runId);
  expect(await state()).toBe('available');
});

test('a row goes with its child told where it stands, once, and what came back is kept', async () => {
  const [one, two, three] = chain as [Backup, Backup, Backup];
  await catalog.retention.finish(one.id, [merged(two, null)], runId);
  await catalog.retention.finish(one.id, [merged(two, null)], runId);
  expect(await catalog.backups.find(one.id)).toBeNull();
  expect(await catalog.backups.get(two.id)).toMatchObject({ parentId: null, kind: 'full', reason: 'merged' });
  expect(await catalog.retention.removedBy(runId)).toEqual([{ id: one.id, freedBytes: 2 ** 33 - 5 }]);
  await expect(catalog.retention.finish(two.id, [], runId)).rejects.toThrow();
  expect(await catalog.backups.get(three.id)).toMatchObject({ parentId: two.id });
});

test('two that end one removal at once both succeed, and it is told of once', async () => {
  const [one, two] = chain as [Backup, Backup];
  const end = () => catalog.retention.finish(one.id, [merged(two, null)], runId);
  let ending: Promise<unknown> | undefined;
  // All have begun before one can go on.
  await catalog.transaction(async tx => {
    await tx.retention.lockBackups(ids.repositoryId);
    ending = Promise.allSettled([end(), end(), end()]);
    await setTimeout(300);
  });
  expect(await ending).toEqual(Array(3).fill({ status: 'fulfilled', value: undefined }));
  expect(await catalog.retention.removedBy(runId)).toHaveLength(1);
});

test('a row that another still names as its parent does not go', async () => {
  const [one, two] = chain as [Backup, Backup];
  const ending = catalog.retention.finish(one.id, [merged(two, one.id)], runId);
  await expect(ending).rejects.toMatchObject({
    code: 'backup-in-use',
    message: expect.stringContaining(two.id),
  });
  expect(await catalog.backups.get(two.id)).toMatchObject({ parentId: one.id });
});

test('whether a removal may begin is told', async () => {
  const [one] = chain;
  expect(await catalog.retention.markRemoving(one!.id, runId)).toBe(false);
  await catalog.retention.hide([one!.id], runId);
  expect(await catalog.retention.markRemoving(one!.id, runId)).toBe(true);
  expect(await catalog.retention.markRemoving(one!.id, runId)).toBe(true);
  await catalog.retention.unhide(one!.id, runId);
  expect(await catalog.retention.markRemoving(one!.id, runId)).toBe(false);
});

test('what is being made, or has lost its files, is in use', async () => {
  await setState(chain[1]!, 'missing');
  await setState(chain[2]!, 'creating');
  const rows = await catalog.retention.backups(ids.repositoryId);
  expect(rows.map(({ holders }) => holders.length)).toEqual([0, 1, 1]);
});

test('what cannot all be read is told, with all that stands on it and did not send it again', async () => {
  const [one, two] = chain as [Backup, Backup];
  const unsound = async () => (await catalog.retention.backups(ids.repositoryId)).map(row => row.unsound);
  expect(await unsound()).toEqual([null, null, null]);
  const below = 'what it stands on is known to be damaged';
  await catalog.backupDamage.note(one.id, [{ offset: 0, length: 65_536 }], runId);
  expect(await unsound()).toEqual(['known to be damaged', below, below]);
  await catalog.backupDamage.markSent(two.id, [{ offset: 0, length: 65_536 }]);
  expect(await unsound()).toEqual(['known to be damaged', null, null]);
  await catalog.verifications.record(two.id, { result: 'damaged' }, runId);
  expect((await unsound()).slice(1)).toEqual([
    'known to be damaged',
    'what it stands on is damaged or missing',
  ]);
  await catalog.verifications.record(two.id, { result: 'sound' }, runId);
  await setState(one, 'missing');
  const lost = 'what it stands on is damaged or missing';
  expect(await unsound()).toEqual(['its repository does not have it', lost, lost]);
});

test('thousands are hidden at once, and told of one by one', async () => {
  const many = [...chain.map(({ id }) => id), ...Array.from({ length: 12_000 }, () => randomUUID())];
  await catalog.retention.hide(many, runId);
  await catalog.retention.hide(many, runId);
  const { items } = await catalog.backups.list({ hidden: true });
  expect(items.map(({ state }) => state)).toEqual(['hidden', 'hidden', 'hidden']);
  const told = (await catalog.events.listAfter(0, 100)).filter(({ kind }) => kind === 'backup-hidden');
  expect(told.map(({ subjectId }) => subjectId).sort()).toEqual(chain.map(({ id }) => id).sort());
});

test('unused are checkpoints made with a backup that none has any more, but the newest', async () => {
  const unused = async (...without: string[]) =>
    (await catalog.retention.unusedCheckpoints([ids.volumeId], new Set(without))).map(({ name }) => name);
  const all = chain.map(({ id }) => id);
  // No run has made these: an operator may have taken them alone.
  expect(await unused(...all)).toEqual([]);
  for (const { checkpointId } of chain) {
    const run = {
      id: randomUUID(),
      kind: 'backup',
      request: {},
      volumeId: ids.volumeId,
      checkpointId,
    } as const;
    await catalog.runs.create(run);
  }
  expect(await unused()).toEqual([]);
  expect(await unused(chain[0]!.id)).toEqual(['one']);
  expect(await unused(...all)).toEqual(['one', 'two']);
  await catalog.checkpoints.update(chain[1]!.checkpointId, { pinnedUntil: new Date(Date.now() + 1e6) }, null);
  expect(await unused(...all)).toEqual(['one']);
});

test('a change of one thing leaves the other, and needs an available backup', async () => {
  const [one] = chain;
  const pinnedUntil = new Date('2099-01-01T00:00:00Z');
  await catalog.retention.change(one!.id, { pinnedUntil });
  await catalog.retention.change(one!.id, { description: 'note' });
  expect(await catalog.backups.get(one!.id)).toMatchObject({ description: 'note', pinnedUntil });
  await setState(one!, 'hidden');
  const late = catalog.retention.change(one!.id, { description: 'late' });
  await expect(late).rejects.toMatchObject({ code: 'backup-not-found' });
});
