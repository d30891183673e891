// Goal: a volume changes its owner once, however often that is said, and nothing but what needs the volume keeps it
// from moving or being deleted. Method: a real catalog.
import { randomUUID } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import type { Catalog } from './catalog.ts';
import type { RunKind } from './run.ts';
import { openTestCatalog } from './testing/index.ts';
import { seed } from './testing/nouns.ts';

let catalog: Catalog;
let volumeId: string;
let from: string;
let to: string;

beforeEach(async () => {
  ({ catalog } = await openTestCatalog());
  const { volume, node } = await seed(catalog);
  [volumeId, from] = [volume.id, node.id];
  const other = { id: randomUUID(), name: 'beta', controlAddress: '127.0.0.1:7412' };
  to = (await catalog.storageNodes.create(other)).id;
});

const begun = (kind: RunKind) => catalog.runs.create({ id: randomUUID(), kind, volumeId, request: {} });

test('what is said again of a switch whose answer nobody heard changes nothing, and is no failure', async () => {
  const runId = randomUUID();
  await catalog.moves.begin(volumeId, runId);
  await catalog.moves.switchTo(volumeId, { from, to });
  await catalog.moves.switchTo(volumeId, { from, to });
  expect(await catalog.volumes.get(volumeId)).toMatchObject({ storageNodeId: to, state: 'moving' });
  const elsewhere = { from, to: randomUUID() };
  await expect(catalog.moves.switchTo(volumeId, elsewhere)).rejects.toMatchObject({
    code: 'volume-not-ready',
  });
  const names = { from: 'alpha', to: 'beta', toId: to, exportUri: 'nbd://h:2/disk' };
  await catalog.moves.finish(volumeId, names, runId);
  await expect(catalog.moves.switchTo(volumeId, { from, to })).rejects.toMatchObject({
    code: 'volume-not-ready',
  });
});

test('a verification of one of its backups keeps a volume neither from moving nor from its end', async () => {
  await begun('verify');
  expect(await catalog.losses.unendedRun(volumeId)).toBeNull();
  const moved = catalog.transaction(async tx => {
    await tx.moves.begin(volumeId, randomUUID());
    throw new Error('taken back');
  });
  await expect(moved).rejects.toThrow('taken back');
  await catalog.volumes.markDeleting(volumeId, randomUUID());
  await catalog.volumes.unmarkDeleting(volumeId, randomUUID());
  const { id } = await begun('backup');
  expect(await catalog.losses.unendedRun(volumeId)).toMatchObject({ id });
  for (const refused of [
    catalog.moves.begin(volumeId, randomUUID()),
    catalog.volumes.markDeleting(volumeId, randomUUID()),
  ]) {
    await expect(refused).rejects.toMatchObject({ code: 'volume-busy' });
  }
});
