// Goal: volumes of one firing that are to be of one instant begin when all of their storage nodes have a place and
// their repository has room for all of them, and wait or fail together, with the reason; and what cannot
// be brought elsewhere at once is brought later. Method: a real worker and catalog;
// scripted storage nodes.
import { randomUUID } from 'node:crypto';
import { intendBackup, type Policy, type PolicyDefinition } from '@tidemark/catalog';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Fleet } from './fleet.ts';
import { GroupFleet, MEMBERS } from './group-fleet.ts';

/** On a machine that others use as well. */
const PATIENCE = { timeout: 150_000 };
const NEED_BYTES = 700;
const HOURLY = { cron: '0 * * * *', timeZone: 'UTC', missed: 'once', missedMax: 3, jitterMs: 0 } as const;

let fleet: Fleet;
let groups: GroupFleet;
let repositoryId: string;

beforeEach(async () => {
  fleet = await Fleet.open();
  await fleet.startWorker({ policyWaitMs: 200, replicationRetryMs: 200, replicationRetryMaxMs: 1_000 });
  groups = new GroupFleet(fleet);
  await groups.furnish();
  for (const node of [fleet.alpha, fleet.beta]) {
    for (const volume of node.volumes.values()) volume.allocatedBytes = NEED_BYTES;
  }
  repositoryId = (await fleet.catalog.repositories.get('vault')).id;
}, 120_000);
afterEach(() => fleet.close());

function policy(more: Partial<PolicyDefinition> = {}): Promise<Policy> {
  const definition: PolicyDefinition = {
    ...{ description: '', selector: '', schedule: HOURLY, kind: 'incremental', fullEvery: 0, repositoryId },
    ...{ replicaIds: [], keep: null, verifyPercent: 0, concurrency: 8, bandwidth: [], priority: 10 },
    ...{ retry: { times: 0, delayMs: 0 }, dropOldest: true, grouped: { fenceLimitMs: 5_000 }, ...more },
  };
  return fleet.catalog.policies.create({ id: randomUUID(), name: 'nightly', definition, enabled: false });
}

async function fire(more: Partial<PolicyDefinition> = {}) {
  const { id } = await policy(more);
  const firingId = await fleet.catalog.policies.fire(id);
  const members = async () => (await fleet.catalog.firings.members({ firingId })).items;
  const tell = async () => (await members()).map(({ state, reason }) => `${state} ${reason}`);
  return { members, tell };
}

test('each is told what it is expected to take, and all of it is set aside', {
  timeout: 300_000,
}, async () => {
  fleet.alpha.holdJobs = true;
  const { members } = await fire();
  await expect
    .poll(async () => (await members()).map(({ state }) => state), PATIENCE)
    .toEqual(MEMBERS.map(() => 'admitted'));
  const estimates = (await members()).map(({ estimateBytes }) => estimateBytes);
  expect(estimates).toEqual(MEMBERS.map(() => NEED_BYTES));
  const loads = await fleet.catalog.admissions.loads();
  expect(loads.reservedBytes.get(repositoryId)).toBe(MEMBERS.length * NEED_BYTES);
  fleet.alpha.holdJobs = false;
});

const waiting = (reason: string) => MEMBERS.map(() => `waiting ${reason}`);
const DONE = MEMBERS.map(() => 'succeeded null');

test('all wait while there is no room for all, though each would fit', { timeout: 300_000 }, async () => {
  fleet.beta.availableBytes = 3 * NEED_BYTES - 1;
  const { tell } = await fire();
  const reason = "needs up to 2100 bytes, and repository 'vault' has 2099 left";
  await expect.poll(tell, PATIENCE).toEqual(waiting(reason));
  expect((await fleet.catalog.groups.list()).items).toEqual([]);
  fleet.beta.availableBytes = 3 * NEED_BYTES;
  await expect.poll(tell, PATIENCE).toEqual(DONE);
});

test('all wait for the storage node of any of them', { timeout: 300_000 }, async () => {
  await fleet.succeed(await fleet.createVolume('apart', 'beta'));
  const { volumes, storageNodes } = fleet.catalog;
  for (const name of MEMBERS) await volumes.update((await volumes.get(name)).id, { labels: { app: 'shop' } });
  await storageNodes.update(fleet.nodeIds.beta, { maxConcurrentBackups: 1 });
  fleet.beta.holdJobs = true;
  const other = await fleet.catalog.transaction(tx =>
    intendBackup(tx, randomUUID(), {
      ...{ volume: 'apart', repository: 'vault', checkpoint: 'x', kind: 'full', description: '' },
      ...{ dropOldest: false, direct: false },
    }),
  );
  await fleet.until(other.run, ({ progress }) => progress.currentBytes > 0);
  const { tell } = await fire({ selector: 'app=shop' });
  await expect
    .poll(tell, PATIENCE)
    .toEqual(waiting("storage node 'beta' has 1 of at most 1 backups under way"));
  expect((await fleet.catalog.groups.list()).items).toEqual([]);
  fleet.beta.holdJobs = false;
  await expect.poll(tell, PATIENCE).toEqual(DONE);
});

test('a replica that could not start is tried again, until it can', { timeout: 300_000 }, async () => {
  await fleet.succeed(await fleet.createRepository('other'));
  const { id: otherId } = await fleet.catalog.repositories.get('other');
  const { storageNodes, policies, firings, runs } = fleet.catalog;
  await storageNodes.setCordoned(fleet.nodeIds.beta, true);
  const { id } = await policy({ grouped: null, replicaIds: [otherId] });
  const firingId = await policies.fire(id);
  const found = () => firings.get(id, firingId);
  await expect.poll(async () => (await found()).state, PATIENCE).toBe('succeeded');
  const tries = async () => (await found()).followUps.map(({ again }) => again?.tries ?? 0);
  await expect.poll(async () => Math.min(...(await tries())), PATIENCE).toBeGreaterThan(1);
  const { followUps } = await found();
  expect(followUps).toHaveLength(MEMBERS.length);
  for (const { runId, reason } of followUps) {
    expect([runId, reason]).toEqual([null, expect.stringContaining("'beta' is cordoned")]);
  }
  await storageNodes.setCordoned(fleet.nodeIds.beta, false);
  await expect
    .poll(async () => (await found()).followUps.every(({ runId }) => runId !== null), PATIENCE)
    .toBe(true);
  for (const { runId, reason, again } of (await found()).followUps) {
    expect([reason, again]).toEqual([null, undefined]);
    const run = await fleet.succeed(await runs.get(runId!));
    expect(run).toMatchObject({ kind: 'replicate', repositoryId: otherId, requestedBy: 'policy nightly' });
  }
  expect(await firings.listReplicasDue()).toEqual([]);
});
