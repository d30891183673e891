// Goal: members of a firing that are to be of one instant begin together, also where their run has failed and is told
// to one after the other; and names that are on their way are known to be taken. Method: a real database.
import { randomUUID } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import type { Catalog, PolicyDefinition } from './index.ts';
import { inDatabase, openTestCatalog } from './testing/index.ts';
import { seed } from './testing/nouns.ts';

const DEFINITION: PolicyDefinition = {
  ...{ description: '', selector: '', kind: 'checkpoint', fullEvery: 0, repositoryId: null, replicaIds: [] },
  schedule: { cron: '@hourly', timeZone: 'UTC', missed: 'once', missedMax: 1, jitterMs: 0 },
  ...{ keep: null, verifyPercent: 0, concurrency: 4, bandwidth: [], priority: 1, dropOldest: true },
  retry: { times: 1, delayMs: 0 },
  grouped: { fenceLimitMs: 500, completion: 'grouped', hooks: [] },
};
let catalog: Catalog;
let url: string;
let nouns: Awaited<ReturnType<typeof seed>>;

beforeEach(async () => {
  const opened = await openTestCatalog();
  catalog = opened.catalog;
  url = opened.database.url;
  nouns = await seed(catalog);
});

test('none of a firing is held while others are still to be told that their run has ended', async () => {
  const { id: volumeId } = await catalog.volumes.create({
    ...{ id: randomUUID(), name: 'disk-2', storageNodeId: nouns.node.id, sizeBytes: 2 ** 20, format: 'raw' },
  });
  await catalog.volumes.markReady(volumeId, { exportUri: 'nbd://h:1/disk-2', sizeBytes: 2 ** 20 }, null);
  const id = randomUUID();
  await catalog.policies.create({ id, name: 'nightly', enabled: false, definition: DEFINITION });
  const firingId = await catalog.policies.fire(id);
  await catalog.firings.begin(firingId);
  const held = () => catalog.transaction(tx => tx.admissions.holdAll(firingId));
  const all = await held();
  expect(all.map(({ volumeName }) => volumeName)).toEqual(['disk', 'disk-2']);
  const runId = randomUUID();
  await catalog.runs.create({ id: runId, kind: 'create-group', request: { groupId: randomUUID() } });
  for (const member of all) {
    const made = { kind: 'checkpoint', runId, backupId: null, estimateBytes: null } as const;
    await catalog.admissions.admit(member.id, made);
  }
  await inDatabase(url, client => client.query(`UPDATE run SET state = 'failed', finished_at = now()`));
  const again = { reason: 'it failed', delayMs: 0 };
  await catalog.admissions.again({ ...all[0]!, runId }, again);
  expect(await held()).toEqual([]);
  await catalog.admissions.again({ ...all[1]!, runId }, again);
  expect((await held()).map(({ id: one }) => one)).toEqual(all.map(({ id: one }) => one));
});

test('a name is taken by a checkpoint that has it, and by one that is being renamed from it', async () => {
  const { id: volumeId } = nouns.volume;
  const { checkpoints, runs } = catalog;
  const { id: checkpointId } = await checkpoints.create({ id: randomUUID(), volumeId, name: 'one' });
  const taken = (name: string, ids = [randomUUID(), volumeId]) => checkpoints.isNameTaken(ids, name);
  expect([await taken('one'), await taken('two')]).toEqual([true, false]);
  expect(await taken('one', [randomUUID()])).toBe(false);
  await checkpoints.markReady(checkpointId, new Date(), null);
  const id = randomUUID();
  await checkpoints.update(checkpointId, { name: 'two' }, id);
  const request = { name: 'two', previous: { name: 'one' } };
  await runs.create({ id, kind: 'update-checkpoint', volumeId, checkpointId, request });
  expect([await taken('one'), await taken('two'), await taken('three')]).toEqual([true, true, false]);
  await inDatabase(url, client => client.query(`UPDATE run SET state = 'succeeded', finished_at = now()`));
  expect([await taken('one'), await taken('two')]).toEqual([false, true]);
});
