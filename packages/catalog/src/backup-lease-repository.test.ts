// Goal: a lease is taken on what is available only, once per holder, and goes in the transaction in which its run
// has ended, whichever way; not before, where storage nodes may still work for the run.
import { randomUUID } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import type { Backup } from './backup-repository.ts';
import type { Catalog } from './catalog.ts';
import type { Lease } from './run-lease-repository.ts';
import { inDatabase, openTestCatalog, type TestDatabase } from './testing/index.ts';
import { addBackup, seed } from './testing/nouns.ts';

let database: TestDatabase;
let catalog: Catalog;
let backup: Backup;
const runId = randomUUID();

beforeEach(async () => {
  ({ catalog, database } = await openTestCatalog());
  const { volume, repository } = await seed(catalog);
  const ids = { volumeId: volume.id, repositoryId: repository.id };
  backup = await addBackup(catalog, { ...ids, checkpoint: 'one', at: new Date(0) });
  await catalog.runs.create({ id: runId, kind: 'restore', request: {} });
  await catalog.backupLeases.take(backup.id, 'run', runId);
});

const claim = async (): Promise<Lease> =>
  (await catalog.leases.claim(runId, { owner: 'w', leaseMs: 60_000, attempt: 1 }))!.lease;
const holders = async () => (await catalog.backupLeases.holders(backup.id)).map(({ holderId }) => holderId);
const setState = (state: string) =>
  inDatabase(database.url, client =>
    client.query('UPDATE backup SET state = $1 WHERE id = $2', [state, backup.id]),
  );

test('each holder has one lease of a backup, and drops its own only', async () => {
  const volumeId = randomUUID();
  await catalog.backupLeases.take(backup.id, 'run', runId);
  await catalog.backupLeases.take(backup.id, 'volume', volumeId);
  expect(await holders()).toEqual([runId, volumeId]);
  await catalog.backupLeases.drop('run', runId);
  await catalog.backupLeases.drop('run', runId);
  expect(await catalog.backupLeases.holders(backup.id)).toMatchObject([
    { backupId: backup.id, holder: 'volume', holderId: volumeId },
  ]);
});

test.each(['creating', 'hidden', 'removing'])('nobody begins to use a backup that is %s', async state => {
  await setState(state);
  const taking = catalog.backupLeases.take(backup.id, 'run', randomUUID());
  await expect(taking).rejects.toMatchObject({ code: 'backup-not-usable' });
  // Who has one already keeps it, also when asking again.
  await catalog.backupLeases.take(backup.id, 'run', runId);
  expect(await holders()).toEqual([runId]);
});

test('a backup that is not there has no holders and gives no lease', async () => {
  const taking = catalog.backupLeases.take(randomUUID(), 'run', runId);
  await expect(taking).rejects.toMatchObject({ code: 'backup-not-found' });
});

test.each(['succeeded', 'failed', 'cancelled'] as const)('a run that has %s holds nothing', async state => {
  await catalog.leases.finish(await claim(), { state });
  expect(await holders()).toEqual([]);
});

test('a run that has something left on a storage node holds its backups until that is gone', async () => {
  await catalog.leases.finish(await claim(), { state: 'failed', cleanupInMs: 0 });
  expect(await holders()).toEqual([runId]);
  const again = await catalog.leases.claim(runId, { owner: 'w', leaseMs: 60_000, attempt: 2 });
  await catalog.leases.finishCleanup(again!.lease, null);
  expect(await holders()).toEqual([]);
});

test('a transaction that fails takes no lease', async () => {
  const other = randomUUID();
  const failing = catalog.transaction(async tx => {
    await tx.backupLeases.take(backup.id, 'run', other);
    throw new Error('no');
  });
  await expect(failing).rejects.toThrow('no');
  expect(await holders()).toEqual([runId]);
});
