// Goal: groups that firings of a policy make are named, completed and thawed as the policy says, also when they are
// made again. Method: a real worker and catalog; scripted storage nodes.
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { intendCheckpoint, type PolicyDefinition, type PolicyGroups } from '@tidemark/catalog';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkpointName } from '../src/policies/member-intent.ts';
import { Fleet, poll } from './fleet.ts';
import { GroupFleet, type MadeGroup, MEMBERS } from './group-fleet.ts';
import { GROUPED, groupedFiring } from './grouped-policy.ts';

/** On a machine that others use as well. */
const PATIENCE = { timeout: 150_000 };
const TIMEOUT = { timeout: 300_000 };

let fleet: Fleet;
let groups: GroupFleet;

beforeEach(async () => {
  fleet = await Fleet.open();
  await fleet.startWorker({ policyWaitMs: 200 });
  groups = new GroupFleet(fleet);
  await groups.furnish();
}, 120_000);
afterEach(() => fleet.close());

async function fire(more: Partial<PolicyDefinition> = {}) {
  const firing = await groupedFiring(fleet, more);
  const { policyId, firingId, tell } = firing;
  /** What became of each, once the firing has ended. */
  const ended = async () => {
    const isEnded = async () => (await fleet.catalog.firings.get(policyId, firingId)).finishedAt !== null;
    await expect.poll(isEnded, PATIENCE).toBe(true);
    return tell();
  };
  return { ...firing, ended };
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

interface Heard {
  readonly phase: 'freeze' | 'thaw';
  readonly group: { readonly name: string };
  readonly volumes: readonly { readonly name: string }[];
  /** What the storage nodes had been called for by then. */
  readonly calls: readonly string[];
}

/** An application behind a webhook. */
async function application() {
  const heard: Heard[] = [];
  const answers = { freeze: 204, thaw: 204 };
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part);
    const calls = [...fleet.alpha.calls, ...fleet.beta.calls].map(({ method }) => method);
    const told = JSON.parse(Buffer.concat(parts).toString()) as Omit<Heard, 'calls'>;
    heard.push({ ...told, calls });
    response.writeHead(answers[told.phase]).end();
  });
  await new Promise<void>(listening => server.listen(0, '127.0.0.1', listening));
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { heard, answers, close, webhook: `http://127.0.0.1:${(server.address() as AddressInfo).port}/q` };
}

const phases = (heard: readonly Heard[]) => heard.map(({ phase }) => phase);
const ofCalls = (calls: readonly string[], method: string) => calls.filter(one => one === method).length;

test('hooks are called around the instant, and again when the firing is retried', TIMEOUT, async () => {
  const { heard, answers, close, webhook } = await application();
  try {
    const hooks = [
      { command: 'app', storageNode: fleet.nodeIds.beta, timeoutMs: 1_000 },
      { webhook, timeoutMs: 5_000 },
    ];
    answers.freeze = 500;
    const { policyId, firingId, ended } = await fire({ grouped: { ...GROUPED, fenceLimitMs: 4_000, hooks } });
    for (const told of await ended()) expect(told).toMatch(/^failed run .* did not freeze: .*500/);
    const [failed] = await madeGroups();
    await groups.settled({ group: failed!, run: await fleet.catalog.runs.get(failed!.runId) });
    expect(new Set(phases(heard))).toEqual(new Set(['freeze', 'thaw']));
    expect(heard.flatMap(({ calls }) => calls)).not.toContain('fenceGroup');
    heard.length = 0;
    fleet.beta.groups.hooks.length = 0;
    await fleet.catalog.policies.update(policyId, {
      definition: { ...(await fleet.catalog.policies.get(policyId)).definition, grouped: GROUPED },
    });
    answers.freeze = 204;
    // As it began, it is retried.
    await fleet.catalog.firings.retry(policyId, firingId);
    expect(await ended()).toEqual(DONE);
    const [freeze, thaw, ...more] = heard;
    expect([freeze!.phase, thaw!.phase, more]).toEqual(['freeze', 'thaw', []]);
    for (const [method, counts] of Object.entries({ fenceGroup: [0, 2], releaseGroup: [0, 2] })) {
      expect(
        [freeze, thaw].map(one => ofCalls(one!.calls, method)),
        method,
      ).toEqual(counts);
    }
    const [group] = await madeGroups();
    expect(group).toMatchObject({ state: 'ready', fenceLimitMs: 4_000, completion: 'individual' });
    expect(thaw!.group.name).toBe(group!.name);
    expect(thaw!.volumes.map(({ name }) => name).sort()).toEqual(MEMBERS);
    expect(fleet.beta.groups.hooks).toEqual(['freeze app', 'thaw app']);
  } finally {
    close();
  }
});

test('a firing whose hook has lost its storage node fails, and says so', TIMEOUT, async () => {
  const hooks = [{ command: 'app', storageNode: randomUUID(), timeoutMs: 1_000 }];
  const { ended } = await fire({ grouped: { ...GROUPED, hooks } });
  for (const told of await ended()) expect(told).toMatch(/^failed There is no storage node .* hook 'app'/);
  expect(await madeGroups()).toEqual([]);
});

/** The first group of the firing, with the copies of alpha under way; that of `disk` ends with a full scratch. */
async function failDisk(): Promise<MadeGroup> {
  const group = await poll('the group', async () => (await madeGroups())[0]);
  const made = { group, run: await fleet.catalog.runs.get(group.runId) };
  for (const volume of ['disk', 'disk-2']) {
    await fleet.until(await groups.child(made, volume), ({ progress }) => progress.currentBytes > 0);
  }
  const { checkpointId } = await groups.child(made, 'disk');
  fleet.alpha.scriptedJobs.moments.get(checkpointId!)!.broken = 'full';
  const status = fleet.alpha.jobs.get(`backup-${checkpointId}`)!;
  status.error = { code: 'moment-lost', message: 'The scratch is full.' };
  status.state = 'concluded';
  return made;
}

test(
  'completed as a whole, one that fails takes the others with it, and all are made again',
  TIMEOUT,
  async () => {
    fleet.alpha.holdJobs = true;
    const grouped: PolicyGroups = { ...GROUPED, completion: 'grouped' };
    const { ended } = await fire({ grouped, retry: { times: 1, delayMs: 10 } });
    const first = await failDisk();
    await groups.settled(first);
    expect(await groups.group(first)).toMatchObject({ state: 'failed', completion: 'grouped' });
    expect(await groups.states(first)).toEqual({ disk: 'failed', 'disk-2': 'cancelled', other: 'cancelled' });
    expect(fleet.beta.published.size).toBe(0);
    fleet.alpha.holdJobs = false;
    expect(await ended()).toEqual(DONE);
    const [second, ...others] = await madeGroups();
    expect(others.map(({ id }) => id)).toEqual([first.group.id]);
    expect(second!.members.map(({ volumeName, state }) => `${volumeName} ${state}`)).toEqual(
      MEMBERS.map(name => `${name} ready`),
    );
    expect(fleet.beta.published.size).toBe(MEMBERS.length);
  },
);

test('completed each by itself, one that fails leaves the others as they are', TIMEOUT, async () => {
  fleet.alpha.holdJobs = true;
  const { ended, members } = await fire();
  const made = await failDisk();
  fleet.alpha.holdJobs = false;
  await ended();
  expect(await groups.states(made)).toEqual({ disk: 'failed', 'disk-2': 'ready', other: 'ready' });
  expect(await groups.group(made)).toMatchObject({ state: 'incomplete', completion: 'individual' });
  const states = Object.fromEntries((await members()).map(({ volumeName, state }) => [volumeName, state]));
  expect(states).toEqual({ disk: 'failed', 'disk-2': 'succeeded', other: 'succeeded' });
  expect(fleet.beta.published.size).toBe(2);
});
