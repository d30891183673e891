// Goal: groups that firings of a policy make are named, completed and thawed as the policy says, also when they are
// made again. Method: a real worker and catalog; scripted storage nodes.
import { randomUUID } from 'node:crypto';
import { intendCheckpoint, type Policy, type PolicyDefinition } from '@tidemark/catalog';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkpointName } from '../src/policies/member-intent.ts';
import { Fleet } from './fleet.ts';
import { GroupFleet, MEMBERS } from './group-fleet.ts';

/** On a machine that others use as well. */
const PATIENCE = { timeout: 150_000 };
const TIMEOUT = { timeout: 300_000 };
const HOURLY = { cron: '0 * * * *', timeZone: 'UTC', missed: 'once', missedMax: 3, jitterMs: 0 } as const;

let fleet: Fleet;
let groups: GroupFleet;
let repositoryId: string;

beforeEach(async () => {
  fleet = await Fleet.open();
  await fleet.startWorker({ policyWaitMs: 200 });
  groups = new GroupFleet(fleet);
  await groups.furnish();
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
  /** What became of each, once the firing has ended. */
  const ended = async () => {
    const isEnded = async () => (await fleet.catalog.firings.get(id, firingId)).finishedAt !== null;
    await expect.poll(isEnded, PATIENCE).toBe(true);
    return tell();
  };
  return { policyId: id, firingId, members, tell, ended };
}

const DONE = MEMBERS.map(() => 'succeeded null');
const madeGroups = async () => (await fleet.catalog.groups.list()).items;

test('the name of a checkpoint that is being renamed is left to it', TIMEOUT, async () => {
  for (const node of [fleet.alpha, fleet.beta]) {
    for (const volume of node.volumes.values()) volume.allocatedBytes = 700;
  }
  fleet.beta.availableBytes = 1;
  const { policyId, firingId, tell, ended } = await fire();
  const noRoom = "waiting needs up to 2100 bytes, and repository 'vault' has 1 left";
  await expect.poll(tell, PATIENCE).toEqual(MEMBERS.map(() => noRoom));
  const { dueAt } = await fleet.catalog.firings.get(policyId, firingId);
  const name = checkpointName('nightly', dueAt, 1);
  const before = { name, description: '' };
  const made = await fleet.catalog.transaction(tx =>
    intendCheckpoint(tx, randomUUID(), { ...before, volume: 'disk', dropOldest: false }),
  );
  await fleet.succeed(made.run);
  fleet.alpha.hang('updateCheckpoint');
  const texts = { name: 'kept', description: '' };
  const checkpointId = made.checkpoint.id;
  const renaming = await fleet.ask(
    'update-checkpoint',
    { checkpointId, ...texts, previous: before },
    async runId => {
      await fleet.catalog.checkpoints.update(checkpointId, texts, runId);
    },
  );
  fleet.beta.availableBytes = 1_000_000;
  expect(await ended()).toEqual(DONE);
  expect((await madeGroups()).map(group => group.name)).toEqual([checkpointName('nightly', dueAt, 2)]);
  expect((await fleet.catalog.runs.get(renaming.id)).state).toBe('running');
  fleet.alpha.heal();
});
