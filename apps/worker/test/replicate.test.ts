// Goal: a replicate run copies what is missing, oldest first, once each; either host, the worker and the network
// may fail between any two steps, and what fails for good leaves nothing half-made. Method: a real worker and catalog,
// and storage nodes that fail on command.
import { randomUUID } from 'node:crypto';
import { type Backup, intendReplica, type Run } from '@tidemark/catalog';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Fleet, poll } from './fleet.ts';

/** Time enough to do something between two attempts. */
const SLOW = { retryDelayMs: 200, retryDelayMaxMs: 200, replicationLookMs: 50, replicationRetryMs: 60_000 };
/** The scripted jobs send so much. */
const SENT = 4096;

let fleet: Fleet;
let monday: Backup;
let tuesday: Backup;

beforeEach(async () => {
  fleet = await Fleet.open();
  await fleet.startWorker(SLOW);
  await fleet.furnish();
  await fleet.succeed(await makeRepository('offsite'));
  const first = await fleet.succeed(await fleet.backup('monday'));
  const second = await fleet.succeed(await fleet.backup('tuesday', 'incremental'));
  monday = await fleet.catalog.backups.get(first.backupId!);
  tuesday = await fleet.catalog.backups.get(second.backupId!);
});
afterEach(() => fleet.close());

/** On alpha, so that both storage nodes have their part. */
function makeRepository(name: string): Promise<Run> {
  const wanted = { name, storageNodeId: fleet.nodeIds.alpha, limitBytes: null };
  return fleet.catalog.transaction(async catalog => {
    const { id: repositoryId } = await catalog.repositories.create({ id: randomUUID(), ...wanted });
    const request = { repositoryId, ...wanted };
    return catalog.runs.create({ id: randomUUID(), kind: 'create-repository', repositoryId, request });
  });
}

/** As the api does. */
async function replicate(backupId: string, more: { flatten?: boolean } = {}): Promise<Run> {
  const wanted = { backupId, repository: 'offsite', flatten: false, speedBytesPerSecond: null, ruleId: null };
  const intend = { ...wanted, ...more };
  const made = await fleet.catalog.transaction(catalog => intendReplica(catalog, randomUUID(), intend));
  return made.run;
}

async function offsite(): Promise<string[]> {
  const { id: repositoryId } = await fleet.catalog.repositories.get('offsite');
  const { items } = await fleet.catalog.backups.list({ repositoryId });
  return items.map(({ checkpoint, state }) => `${checkpoint} ${state}`);
}

async function expectClean(): Promise<void> {
  const { partial, openBackups, jobs } = await fleet.leftovers();
  expect({ partial, openBackups, jobs }).toEqual({ partial: [], openBackups: [], jobs: [] });
  expect(await fleet.catalog.backupLeases.holders(monday.id)).toEqual([]);
}

test('what is missing below comes first, and each is sent once', async () => {
  const run = await fleet.succeed(await replicate(tuesday.id));
  expect(run.result).toMatchObject({ sentBytes: 2 * SENT, flatten: false });
  expect(await offsite()).toEqual(['tuesday available', 'monday available']);
  const [first, second] = fleet.alpha.verifications.replications;
  expect([first!.backupId, second!.backupId]).toEqual((run.result as { backups: string[] }).backups);
  expect(run.progress).toMatchObject({ sentBytes: 2 * SENT });
  const replica = fleet.alpha.published.get(run.backupId!)!;
  expect(replica).toMatchObject({ replicaOfBackupId: tuesday.id, parentBackupId: first!.backupId });
  expect(replica).toMatchObject({ checkpointName: 'tuesday', kind: 'incremental' });
  await expectClean();
});

test('either storage node may restart in the middle: one goes on, the other begins that one backup anew', async () => {
  const { alpha, beta } = fleet;
  alpha.holdJobs = true;
  const run = await fleet.until(await replicate(monday.id), ({ progress }) => progress.currentBytes > 0);
  // The target forgets partial images and jobs.
  alpha.jobs.clear();
  alpha.dropPartial(run.backupId!);
  alpha.stop();
  await alpha.start();
  await poll('a second copy', async () => (alpha.verifications.replications.length >= 2 ? true : undefined));
  // The source forgets exports; the job ends, and another one of the same target follows.
  beta.dropOpenBackup(monday.id);
  const job = await poll('job', async () =>
    [...alpha.jobs.values()].find(({ state }) => state === 'running'),
  );
  Object.assign(job, { state: 'concluded', error: { code: 'io-error', message: 'the source is away' } });
  alpha.holdJobs = false;
  await fleet.succeed(run);
  const targets = alpha.verifications.replications.map(({ targetUri }) => targetUri);
  expect(new Set(targets.slice(1)).size).toBe(1);
  expect(await offsite()).toEqual(['monday available']);
  await expectClean();
});

test('a worker that dies after the publication finds it, and copies nothing again', async () => {
  const { alpha } = fleet;
  alpha.fail('publishBackup', 'storage-node-unreachable', { times: 1, afterwards: true });
  const run = await fleet.succeed(await replicate(monday.id));
  expect(run.failures).toBe(1);
  expect(alpha.verifications.replications).toHaveLength(1);
  expect(await offsite()).toEqual(['monday available']);
  await expectClean();
});

test('damage of the source is noted there and ends the run; what came before it stays', async () => {
  const { alpha } = fleet;
  alpha.verifications.replicationErrors = [undefined, { code: 'backup-damaged', message: 'damaged at 0' }];
  const run = await fleet.end(await replicate(tuesday.id));
  expect([run.state, run.error?.code]).toEqual(['failed', 'backup-damaged']);
  expect(await offsite()).toEqual(['monday available']);
  expect((await fleet.catalog.backups.get(tuesday.id)).damage).toEqual([{ offset: 0, length: 1024 }]);
  await expect(replicate(tuesday.id)).rejects.toMatchObject({ code: 'backup-damaged' });
  await expectClean();
});

test('what was not stored as it came is copied again', async () => {
  const { alpha } = fleet;
  alpha.verifications.faults = [{ code: 'image-invalid', message: 'differs' }];
  await fleet.succeed(await replicate(monday.id));
  expect(alpha.verifications.replications).toHaveLength(2);
  expect(alpha.callsOf('discardBackup')).toHaveLength(1);
  await expectClean();
});

test('a cancelled one leaves nothing, though the source is away when it is undone', async () => {
  const { alpha, beta } = fleet;
  alpha.holdJobs = true;
  const run = await fleet.until(await replicate(tuesday.id), ({ progress }) => progress.currentBytes > 0);
  beta.stop();
  await fleet.catalog.runs.requestCancel(run.id);
  expect((await fleet.end(run)).state).toBe('cancelled');
  expect(await offsite()).toEqual([]);
  expect([...alpha.partial.keys()]).toEqual([]);
  await beta.start();
  await fleet.until(run, ({ cleanupPending }) => !cleanupPending);
  await expectClean();
});

test('a rule that cannot be looked at keeps no other from being carried out', async () => {
  const { catalog } = fleet;
  const source = await catalog.repositories.get('vault');
  const target = await catalog.repositories.get('offsite');
  const nothing = { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
  for (const [name, keep] of [['broken', nothing] as const, ['away', null] as const]) {
    await catalog.replicationRules.create({
      ...{
        id: randomUUID(),
        name,
        sourceRepositoryId: source.id,
        targetRepositoryId: target.id,
        selector: '',
      },
      ...{ enabled: true, keep, timeZone: 'UTC', flatten: false, newestFirst: false },
      ...{ concurrency: 2, speedBytesPerSecond: null },
    });
  }
  await poll('replicas', async () => ((await offsite()).length === 2 ? true : undefined));
});

test('a rule brings all of it, rests after a failure, and lets go of what it does not keep', async () => {
  const { alpha, catalog } = fleet;
  const source = await catalog.repositories.get('vault');
  const target = await catalog.repositories.get('offsite');
  alpha.verifications.replicationErrors = [{ code: 'repository-full', message: 'no room' }];
  const id = randomUUID();
  await catalog.replicationRules.create({
    ...{ id, name: 'away', sourceRepositoryId: source.id, targetRepositoryId: target.id, selector: '' },
    ...{ enabled: true, keep: null, timeZone: 'UTC', flatten: false, newestFirst: false },
    ...{ concurrency: 2, speedBytesPerSecond: null },
  });
  await poll('failure', async () =>
    (await catalog.replicationRules.runs(id)).failures > 0 ? true : undefined,
  );
  const asked = () => alpha.verifications.replications.length;
  const before = asked();
  await new Promise(resolve => setTimeout(resolve, 20 * SLOW.replicationLookMs));
  expect(asked()).toBe(before);
  await fleet.stopWorkers();
  await fleet.startWorker({ ...SLOW, replicationRetryMs: 1 });
  const isThere = (wanted: string[]) =>
    poll(wanted.join(), async () => (String(await offsite()) === String(wanted) ? true : undefined));
  await isThere(['tuesday available', 'monday available']);
  const keep = { last: 1, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
  // A base of what comes next stays.
  await fleet.succeed(await fleet.backup('wednesday', 'incremental'));
  await isThere(['wednesday available', 'tuesday available', 'monday available']);
  // What another rule keeps there does not go, or that one would bring it back for ever.
  const other = randomUUID();
  const { createdAt: _, source: __, target: ___, ...setting } = await catalog.replicationRules.get(id);
  await catalog.replicationRules.create({ ...setting, id: other, name: 'all of it' });
  await catalog.replicationRules.update(id, { keep });
  await new Promise(resolve => setTimeout(resolve, 20 * SLOW.replicationLookMs));
  expect((await catalog.runs.list({ kind: 'prune' })).items).toEqual([]);
  await catalog.replicationRules.delete(other);
  await isThere(['wednesday available', 'monday available']);
});
