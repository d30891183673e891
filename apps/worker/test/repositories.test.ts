// Goal: what repositories hold is verified, scanned into a catalog that lost it, and verified by itself day by day.
// Method: a real worker and catalog; a storage node that finds damage on command.
import { randomUUID } from 'node:crypto';
import { inDatabase } from '@tidemark/catalog/testing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Fleet, poll } from './fleet.ts';

let fleet: Fleet;

beforeEach(async () => {
  fleet = await Fleet.open();
  await fleet.startWorker();
  await fleet.furnish();
});
afterEach(() => fleet.close());

async function makeBackup() {
  const { backupId, repositoryId } = await fleet.succeed(await fleet.backup('monday'));
  return { backupId: backupId!, repositoryId: repositoryId! };
}

async function verify(ids: { backupId: string; repositoryId: string }) {
  const id = randomUUID();
  const request = { ...ids, chain: true, speedBytesPerSecond: null };
  return fleet.catalog.transaction(async catalog => {
    await catalog.backupLeases.take(ids.backupId, 'run', id);
    return catalog.runs.create({ id, kind: 'verify', ...ids, request });
  });
}

test('a sound backup is said to be sound, and its lease ends with the run', async () => {
  const ids = await makeBackup();
  const run = await fleet.succeed(await verify(ids));
  expect(run.result).toMatchObject({ result: 'sound', damagedBytes: 0, ranges: [] });
  expect(await fleet.catalog.backups.get(ids.backupId)).toMatchObject({
    verifyResult: 'sound',
    damage: null,
  });
  expect(await fleet.catalog.backupLeases.holders(ids.backupId)).toEqual([]);
  expect(fleet.beta.jobs.size).toBe(0);
});

test('damage is a result with its ranges; a later sound verification takes it back', async () => {
  const ids = await makeBackup();
  const ranges = [{ offset: 65_536, length: 65_536 }];
  fleet.beta.verifications.ranges = ranges;
  const run = await fleet.succeed(await verify(ids));
  expect(run.result).toMatchObject({ result: 'damaged', damagedBytes: 65_536, ranges });
  expect(await fleet.catalog.backups.get(ids.backupId)).toMatchObject({
    verifyResult: 'damaged',
    damage: ranges,
  });
  fleet.beta.verifications.ranges = [];
  await fleet.succeed(await verify(ids));
  expect(await fleet.catalog.backups.get(ids.backupId)).toMatchObject({
    verifyResult: 'sound',
    damage: null,
  });
});

test('a storage node that forgets the job is asked anew', async () => {
  const ids = await makeBackup();
  fleet.beta.holdJobs = true;
  const run = await verify(ids);
  await poll('the job', async () => (fleet.beta.jobs.size === 1 ? true : undefined));
  fleet.beta.jobs.clear();
  fleet.beta.stop();
  fleet.beta.holdJobs = false;
  await fleet.beta.start();
  expect((await fleet.succeed(run)).result).toMatchObject({ result: 'sound' });
});

test('a cancelled verification leaves no job and says nothing of the backup', async () => {
  const ids = await makeBackup();
  fleet.beta.holdJobs = true;
  const run = await verify(ids);
  await poll('the job', async () => (fleet.beta.jobs.size === 1 ? true : undefined));
  await fleet.catalog.runs.requestCancel(run.id);
  expect((await fleet.end(run)).state).toBe('cancelled');
  expect([...fleet.beta.jobs.values()].map(job => job.state)).toEqual(['concluded']);
  expect((await fleet.catalog.backups.get(ids.backupId)).verifiedAt).toBeNull();
});

test('a scan puts lost rows back, and tells of those that have no file', async () => {
  const { backupId, repositoryId } = await makeBackup();
  await inDatabase(fleet.database.url, client => client.query('DELETE FROM backup'));
  const scan = async () => {
    const request = { repositoryId, name: 'vault' };
    return fleet.succeed(
      await fleet.catalog.runs.create({ id: randomUUID(), kind: 'scan-repository', repositoryId, request }),
    );
  };
  expect((await scan()).result).toMatchObject({ found: 1, added: { count: 1, ids: [backupId] } });
  expect(await fleet.catalog.backups.get(backupId)).toMatchObject({ state: 'available', kind: 'full' });
  fleet.beta.published.clear();
  expect((await scan()).result).toMatchObject({ found: 0, missing: { count: 1, ids: [backupId] } });
  expect(await fleet.catalog.backups.find(backupId)).not.toBeNull();
});

test('an empty repository goes from its storage node and from the catalog', async () => {
  const { id: repositoryId, storageNodeId } = await fleet.catalog.repositories.get('vault');
  const remove = async () => {
    await fleet.catalog.repositories.markDeleting(repositoryId, null);
    const request = { repositoryId, name: 'vault', storageNodeId };
    return fleet.catalog.runs.create({ id: randomUUID(), kind: 'delete-repository', repositoryId, request });
  };
  fleet.beta.fail('deleteRepository', 'repository-in-use');
  expect((await fleet.end(await remove())).error?.code).toBe('repository-in-use');
  expect((await fleet.catalog.repositories.get('vault')).state).toBe('ready');
  fleet.beta.heal();
  // It goes, its answer does not come, and for a while nobody is there.
  fleet.beta.fail('deleteRepository', 'storage-node-unreachable', { times: 1, afterwards: true });
  fleet.beta.fail('deleteRepository', 'storage-node-unreachable', { times: 5 });
  await fleet.succeed(await remove());
  expect(await fleet.catalog.repositories.find('vault')).toBeNull();
  expect(fleet.beta.repositories.size).toBe(0);
});

test('what is due is verified without anybody asking, once, though two workers look', async () => {
  const ids = await makeBackup();
  await fleet.catalog.repositories.update(ids.repositoryId, { verifyPercentPerDay: 100 });
  await fleet.stopWorkers();
  await Promise.all([
    fleet.startWorker({ verifyScheduleMs: 50 }),
    fleet.startWorker({ verifyScheduleMs: 50 }),
  ]);
  await poll(
    'the verification',
    async () => (await fleet.catalog.backups.get(ids.backupId)).verifyResult ?? undefined,
  );
  await new Promise(resolve => setTimeout(resolve, 300));
  const { items } = await fleet.catalog.runs.list({ kind: 'verify' });
  expect(items).toHaveLength(1);
  expect(items[0]!.reason).toContain("repository 'vault' is due each day");
  // Whoever may see the volume alone sees it, too.
  const { volumeId, checkpointId } = await fleet.catalog.backups.get(ids.backupId);
  expect(items[0]).toMatchObject({ volumeId, checkpointId });
});
