// Goal: what is damaged in a chain is sent again by the next backup on it, each place once, whenever it was found and
// whatever becomes of the chain meanwhile. Method: a chain of three rows, and places of one cluster.
import { randomUUID } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import type { Backup } from './backup-repository.ts';
import type { Catalog } from './catalog.ts';
import { without } from './damaged-ranges.ts';
import { openTestCatalog } from './testing/index.ts';
import { addBackup, seed } from './testing/nouns.ts';

const CLUSTER = 65_536;
const runId = randomUUID();
const place = (cluster: number, clusters = 1) => ({ offset: cluster * CLUSTER, length: clusters * CLUSTER });

let catalog: Catalog;
let full: Backup;
let monday: Backup;
let tuesday: Backup;

beforeEach(async () => {
  ({ catalog } = await openTestCatalog());
  const { volume, repository } = await seed(catalog);
  const ids = { volumeId: volume.id, repositoryId: repository.id };
  full = await addBackup(catalog, { ...ids, checkpoint: 'full', at: new Date(0) });
  monday = await addBackup(catalog, { ...ids, checkpoint: 'monday', at: new Date(1), parentId: full.id });
  tuesday = await addBackup(catalog, { ...ids, checkpoint: 'tuesday', at: new Date(2), parentId: monday.id });
});

const known = ({ id }: Backup) => catalog.backupDamage.ofChain(id);

test('what was sent again is sound from there on, and what is found below later is not', async () => {
  await catalog.backupDamage.note(full.id, [place(1), place(5)], runId);
  await catalog.backupDamage.markSent(monday.id, [place(1), place(5)]);
  expect(await known(full)).toEqual([place(1), place(5)]);
  expect(await known(tuesday)).toEqual([]);
  await catalog.backupDamage.note(full.id, [place(2, 4)], runId);
  expect(await known(monday)).toEqual([place(2, 3)]);
  await catalog.backupDamage.markSent(tuesday.id, [place(2, 3)]);
  expect(await known(tuesday)).toEqual([]);
  await catalog.backupDamage.note(monday.id, [place(1)], runId);
  expect(await known(tuesday)).toEqual([place(1)]);
});

test('a verification of a backup alone forgets nothing of what it stands on', async () => {
  await catalog.backupDamage.note(monday.id, [place(7)], runId);
  const { verifications } = catalog;
  await verifications.record(monday.id, { result: 'damaged', ranges: [place(3)], adds: true }, runId);
  expect(await known(monday)).toEqual([place(3), place(7)]);
  await verifications.record(monday.id, { result: 'sound' }, runId);
  expect(await known(monday)).toEqual([place(3), place(7)]);
  await verifications.record(monday.id, { result: 'damaged', ranges: [place(7)] }, runId);
  expect(await known(monday)).toEqual([place(7)]);
  await verifications.record(monday.id, { result: 'sound', ranges: [] }, runId);
  expect(await known(monday)).toEqual([]);
});

test('a backup that is merged into the one on it leaves what is known of it there', async () => {
  await catalog.backupDamage.note(full.id, [place(1)], runId);
  await catalog.backupDamage.markSent(monday.id, [place(1)]);
  await catalog.backupDamage.note(monday.id, [place(4), place(6)], runId);
  await catalog.backupDamage.markSent(tuesday.id, [place(6)]);
  await catalog.retention.hide([monday.id], runId);
  await catalog.retention.markRemoving(monday.id, runId);
  const facts = { kind: 'incremental', reason: 'merged', storedBytes: 5 };
  await catalog.retention.finish(monday.id, [{ id: tuesday.id, parentId: full.id, ...facts }], runId);
  expect(await known(tuesday)).toEqual([place(4)]);
});

test('ranges are taken out of others wherever they meet', () => {
  const disk = [place(0, 10), place(20, 2)];
  expect(without(disk, [])).toEqual(disk);
  expect(without(disk, [place(0, 30)])).toEqual([]);
  expect(without(disk, [place(2), place(4, 2), place(9, 12)])).toEqual([
    place(0, 2),
    place(3),
    place(6, 3),
    place(21),
  ]);
});
