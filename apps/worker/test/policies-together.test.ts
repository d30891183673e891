// Goal: volumes of one firing that are to be of one instant begin when all of their storage nodes have a place and
// their repository has room for all of them, and wait or fail together, with the reason; and what cannot be brought
// elsewhere at once is brought later, and by another run where one failed. Method: a real worker and catalog; scripted
// storage nodes.
import { randomUUID } from 'node:crypto';
import { type FiringWithCounts, intendBackup, type PolicyDefinition } from '@tidemark/catalog';
import { inDatabase } from '@tidemark/catalog/testing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Fleet } from './fleet.ts';
import { GroupFleet, MEMBERS } from './group-fleet.ts';
import { groupedFiring, groupedPolicy } from './grouped-policy.ts';

/** On a machine that others use as well. */
const PATIENCE = { timeout: 150_000 };
const NEED_BYTES = 700;

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

test('each is told what it is expected to take, and all of it is set aside', {
  timeout: 300_000,
}, async () => {
  fleet.alpha.holdJobs = true;
  const { members } = await groupedFiring(fleet);
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
  const { tell } = await groupedFiring(fleet);
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
  const { tell } = await groupedFiring(fleet, { selector: 'app=shop' });
  await expect
    .poll(tell, PATIENCE)
    .toEqual(waiting("storage node 'beta' has 1 of at most 1 backups under way"));
  expect((await fleet.catalog.groups.list()).items).toEqual([]);
  fleet.beta.holdJobs = false;
  await expect.poll(tell, PATIENCE).toEqual(DONE);
});

interface Fired {
  readonly firing: () => Promise<FiringWithCounts>;
  readonly policyId: string;
  readonly otherId: string;
}

/** Backups of all of them, each by itself, that are to be in another repository as well. */
async function fireReplicated(
  retry: PolicyDefinition['retry'],
  before: () => Promise<unknown> = async () => {},
): Promise<Fired> {
  await fleet.succeed(await fleet.createRepository('other'));
  const { id: otherId } = await fleet.catalog.repositories.get('other');
  await before();
  const { policies, firings } = fleet.catalog;
  const { id } = await groupedPolicy(fleet, { grouped: null, replicaIds: [otherId], retry });
  const firingId = await policies.fire(id);
  return { firing: () => firings.get(id, firingId), policyId: id, otherId };
}

const runsOf = async (otherId: string) => {
  const { items } = await fleet.catalog.runs.list({ kind: 'replicate', limit: 100 });
  return items.filter(({ repositoryId: target }) => target === otherId);
};

test('a replica that could not start is tried again, until it can', { timeout: 300_000 }, async () => {
  const { storageNodes, runs } = fleet.catalog;
  const cordon = (isCordoned: boolean) => storageNodes.setCordoned(fleet.nodeIds.beta, isCordoned);
  const { firing, otherId } = await fireReplicated({ times: 0, delayMs: 0 }, () => cordon(true));
  const refusals = () =>
    inDatabase(fleet.database.url, async client => {
      const { rows } = await client.query('SELECT refusals FROM policy_firing_replica');
      // Each comes with the end of its backup.
      return rows.length < MEMBERS.length ? 0 : Math.min(...rows.map(row => row.refusals as number));
    });
  await expect.poll(refusals, PATIENCE).toBeGreaterThan(1);
  const { followUps, state, members } = await firing();
  expect([state, members.succeeded]).toEqual(['running', MEMBERS.length]);
  expect(followUps).toHaveLength(MEMBERS.length);
  for (const { runId, reason, againAt } of followUps) {
    expect([runId, reason]).toEqual([null, expect.stringContaining("'beta' is cordoned")]);
    expect(againAt).toBeInstanceOf(Date);
  }
  await cordon(false);
  await expect.poll(async () => (await firing()).state, PATIENCE).toBe('succeeded');
  for (const { runId, reason, againAt } of (await firing()).followUps) {
    expect([reason, againAt]).toEqual([null, null]);
    const run = await runs.get(runId!);
    expect(run).toMatchObject({ kind: 'replicate', state: 'succeeded', repositoryId: otherId });
    expect(run.requestedBy).toBe('policy nightly');
  }
});

const NO_ROOM = { code: 'repository-full', message: 'no room' } as const;

test('a replica whose run failed gets another one, also when workers went meanwhile', {
  timeout: 300_000,
}, async () => {
  fleet.beta.verifications.replicationErrors = [NO_ROOM];
  const { firing, otherId } = await fireReplicated({ times: 1, delayMs: 2_000 });
  const again = async () => (await firing()).followUps.filter(({ againAt, runId }) => againAt && runId);
  await expect.poll(async () => (await again()).length, PATIENCE).toBe(1);
  expect((await again())[0]!.reason).toContain('no room');
  expect((await firing()).state).toBe('running');
  await fleet.stopWorkers();
  await fleet.startWorker({ policyWaitMs: 200, replicationRetryMs: 200 });
  await expect.poll(async () => (await firing()).state, PATIENCE).toBe('succeeded');
  const states = (await runsOf(otherId)).map(({ state }) => state).sort();
  expect(states).toEqual(['failed', ...MEMBERS.map(() => 'succeeded')]);
  expect((await firing()).reason).toBeNull();
});

test('a firing whose replicas go on failing says so at its end, and is retried for them alone', {
  timeout: 300_000,
}, async () => {
  const { firings, runs, events } = fleet.catalog;
  fleet.beta.verifications.replicationErrors = Array(2 * MEMBERS.length).fill(NO_ROOM);
  const { firing, policyId, otherId } = await fireReplicated({ times: 1, delayMs: 10 });
  await expect.poll(async () => (await firing()).state, PATIENCE).toBe('failed');
  const { id, followUps, reason, members } = await firing();
  expect([reason, members.succeeded]).toEqual([`3 of 3 replicas failed`, MEMBERS.length]);
  for (const one of followUps) expect(one).toMatchObject({ reason: expect.stringContaining('no room') });
  expect(await runsOf(otherId)).toHaveLength(2 * MEMBERS.length);
  const [told] = await events.listAfter(0, 1, { kinds: ['policy-firing-failed'], subjectId: policyId });
  expect(told!.data).toEqual({ firingId: id, reason });
  expect(await firings.retry(policyId, id)).toBe(MEMBERS.length);
  await expect.poll(async () => (await firing()).state, PATIENCE).toBe('succeeded');
  expect((await firing()).reason).toBeNull();
  expect((await runs.list({ kind: 'backup' })).items).toHaveLength(MEMBERS.length);
  expect(await runsOf(otherId)).toHaveLength(3 * MEMBERS.length);
});
