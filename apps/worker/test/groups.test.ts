// Goal: a group is one instant on all its storage nodes or nothing at all, and says which; its hooks are thawed
// whatever happens; whoever dies, cancels or does not answer, nothing half-made stays. Method: a real worker and
// catalog; storage nodes that fail on command.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { GroupProof } from '../src/runs/group-proof.ts';
import { Fleet, poll } from './fleet.ts';
import { GroupFleet, type MadeGroup, MEMBERS } from './group-fleet.ts';

let fleet: Fleet;
let groups: GroupFleet;
let clean: Awaited<ReturnType<GroupFleet['leftovers']>>;

beforeEach(async () => {
  fleet = await Fleet.open();
  await fleet.startWorker();
  groups = new GroupFleet(fleet);
  await groups.furnish();
  clean = await groups.leftovers();
});

afterEach(() => fleet.close());

const FREEZE_THAW = ['freeze app', 'thaw app'];
const methodsOf = (node: 'alpha' | 'beta') =>
  fleet[node].calls.map(({ method }) => method).filter(method => /Group$/.test(method));

/** Failed, with nothing left anywhere; returns its run. */
async function expectNothingLeft(made: MadeGroup, code: string) {
  const { run, group } = await groups.settled(made);
  expect([run.state, run.error?.code]).toEqual(['failed', code]);
  expect(group).toMatchObject({ state: 'failed', pointInTime: null, proof: null, error: { code } });
  expect(await groups.leftovers()).toEqual(clean);
  return { run, group };
}

describe('a group of checkpoints', () => {
  test('is made on all storage nodes, in the order that makes it one instant, and holds the proof', async () => {
    const made = await groups.make({ name: 'monday', hooks: [groups.hook('app')] });
    const run = await fleet.succeed(made.run);
    const order = ['prepareGroup', 'fenceGroup', 'commitGroup', 'releaseGroup', 'decideGroup'];
    expect(methodsOf('alpha')).toEqual(order);
    expect(methodsOf('beta')).toEqual(order);
    expect(fleet.alpha.groups.hooks).toEqual(FREEZE_THAW);
    const group = await groups.group(made);
    expect(group).toMatchObject({ name: 'monday', state: 'ready', error: null });
    expect(group.pointInTime).toEqual(run.checkpointAt);
    expect(group.members.map(({ state }) => state)).toEqual(['ready', 'ready', 'ready']);
    for (const name of MEMBERS) {
      const { id } = await fleet.catalog.volumes.get(name);
      expect(await fleet.catalog.checkpoints.get(id, 'monday')).toMatchObject({ state: 'ready' });
    }
    const proof = group.proof as unknown as GroupProof & { hooks: unknown };
    const { coordinator, nodes, longestWaitMs, hooks } = proof;
    const { allFencedMs, commitSentMs, allCommittedMs, releaseSentMs, allReleasedMs } = coordinator;
    const times = [0, allFencedMs, commitSentMs, allCommittedMs, releaseSentMs, allReleasedMs];
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    expect(nodes).toHaveLength(2);
    for (const node of nodes) {
      expect(node).toMatchObject({ held: true, fenceId: expect.stringContaining(node.storageNode) });
      expect(node.fencedMs).toBeLessThanOrEqual(allFencedMs);
      expect(node.committedMs).toBeGreaterThanOrEqual(commitSentMs);
      expect(node.releasedMs).toBeGreaterThanOrEqual(releaseSentMs);
    }
    expect(longestWaitMs).toBe(3.5);
    expect(hooks).toMatchObject([{ phase: 'freeze' }, { phase: 'thaw', error: null }]);
    expect(run.result).toMatchObject({ groupId: group.id, state: 'ready', failed: [], longestWaitMs: 3.5 });
  });

  test('prepares a storage node again that was away for a moment', async () => {
    fleet.beta.fail('prepareGroup', 'storage-node-unreachable', { times: 2 });
    await fleet.succeed((await groups.make()).run);
    expect(fleet.beta.callsOf('fenceGroup')).toHaveLength(1);
  });

  test('a storage node that stays away while it is told is told when it is compared with the catalog', async () => {
    fleet.beta.fail('decideGroup', 'storage-node-unreachable');
    const made = await groups.make();
    await fleet.succeed(made.run);
    expect(fleet.beta.groups.groups.size).toBe(1);
    fleet.beta.heal();
    await fleet.succeed(await fleet.reconcile('beta'));
    expect(await fleet.differences()).toEqual(['group-undecided repaired']);
    expect(fleet.beta.groups.groups.size).toBe(0);
    expect(fleet.beta.checkpoints.size).toBe(1);
  });
});

describe('nothing of a group is left', () => {
  const CALLS = ['prepareGroup', 'fenceGroup', 'commitGroup', 'releaseGroup'] as const;

  for (const method of CALLS) {
    test(`where a storage node refuses ${method}`, async () => {
      fleet.beta.fail(method, 'volume-busy', { times: 1 });
      const made = await groups.make({ hooks: [groups.hook('app')] });
      const { group } = await expectNothingLeft(made, 'volume-busy');
      expect(group.error!.message).toContain("failed at volume 'other' of storage node beta");
      const states = Object.fromEntries(group.members.map(one => [one.volumeName, one.state]));
      expect(states).toEqual({ disk: 'cancelled', 'disk-2': 'cancelled', other: 'failed' });
      expect(fleet.alpha.groups.hooks.at(-1)).toBe(method === 'prepareGroup' ? undefined : 'thaw app');
    });

    test(`where the answer of ${method} is lost`, async () => {
      fleet.beta.fail(method, 'io-error', { afterwards: true });
      await expectNothingLeft(await groups.make(), 'io-error');
    });
  }

  test('where a storage node does not answer in time', async () => {
    fleet.beta.hang('commitGroup');
    const made = await groups.make({ fenceLimitMs: 200, hooks: [groups.hook('app')] });
    const { run } = await expectNothingLeft(made, 'storage-node-unreachable');
    expect(run.error?.message).toContain("its part of the fence's limit");
    expect(fleet.alpha.groups.hooks).toContain('thaw app');
  });

  test('where a fence did not hold', async () => {
    fleet.beta.groups.isBroken = true;
    const { group } = await expectNothingLeft(await groups.make(), 'group-fence-broken');
    expect(group.error!.message).toContain('Raise fenceLimitMs');
  });

  test('where a hook does not freeze, and all are told to thaw', async () => {
    fleet.alpha.groups.failingHooks.set('second', 'freeze');
    const hooks = ['first', 'second', 'third'].map(name => groups.hook(name));
    const { group } = await expectNothingLeft(await groups.make({ hooks }), 'hook-failed');
    expect(group.error!.message).toContain("'second' of storage node alpha of group");
    expect(fleet.alpha.groups.hooks.slice(0, 2)).toEqual(['freeze first', 'freeze second']);
    expect(fleet.alpha.groups.hooks).toEqual(
      expect.arrayContaining(['thaw first', 'thaw second', 'thaw third']),
    );
    expect(fleet.alpha.callsOf('fenceGroup')).toEqual([]);
  });

  test('a storage node that is away while all is taken back is told later, and so are hooks', async () => {
    fleet.alpha.groups.failingHooks.set('app', 'thaw');
    fleet.beta.groups.isBroken = true;
    fleet.beta.fail('decideGroup', 'storage-node-unreachable', { times: 4 });
    const made = await groups.make({ hooks: [groups.hook('app')] });
    const run = await fleet.end(made.run);
    expect(run).toMatchObject({ state: 'failed', cleanupPending: true });
    fleet.alpha.groups.failingHooks.clear();
    await expectNothingLeft(made, 'group-fence-broken');
  });

  for (const method of ['prepareGroup', 'fenceGroup', 'commitGroup', 'releaseGroup'] as const) {
    test(`where it is cancelled during ${method}`, async () => {
      fleet.beta.afterNext.set(method, () => fleet.beta.hang(method));
      fleet.beta.hang(method);
      const made = await groups.make({ fenceLimitMs: 60_000, hooks: [groups.hook('app')] });
      await poll('the call', async () => fleet.alpha.callsOf(method)[0]);
      await fleet.catalog.runs.requestCancel(made.run.id);
      const { run, group } = await groups.settled(made);
      expect([run.state, group.state]).toEqual(['cancelled', 'cancelled']);
      expect(await groups.leftovers()).toEqual(clean);
    });

    test(`where the worker goes away during ${method}, and another one takes the group over`, async () => {
      fleet.beta.hang(method);
      const made = await groups.make({ fenceLimitMs: 60_000, hooks: [groups.hook('app')] });
      await poll('the call', async () => fleet.alpha.callsOf(method)[0]);
      await fleet.stopWorkers();
      fleet.beta.heal();
      await fleet.startWorker();
      // No guest waits for a preparation: it is done again.
      if (method === 'prepareGroup') {
        await fleet.succeed(made.run);
        return;
      }
      await expectNothingLeft(made, 'group-interrupted');
      expect(fleet.alpha.groups.hooks.at(-1)).toBe('thaw app');
    });
  }
});

describe('the oldest checkpoint of each volume goes for the new one', () => {
  const everywhere = (...list: string[]) => Object.fromEntries(MEMBERS.map(name => [name, list]));

  beforeEach(async () => {
    for (const name of ['one', 'two']) await fleet.succeed((await groups.make({ name })).run);
    await groups.limit(2);
  });

  test('once the group is decided, and answer and result name them', async () => {
    await expect(groups.make()).rejects.toMatchObject({ code: 'checkpoint-limit' });
    const made = await groups.make({ name: 'three', dropOldest: true });
    expect(made.dropped!.map(({ volume, name }) => `${volume} ${name}`).sort()).toEqual(
      MEMBERS.map(name => `${name} one`),
    );
    const run = await fleet.succeed(made.run);
    const dropped = run.result!.dropped as { volume: string; name: string }[];
    expect(dropped.map(({ volume, name }) => `${volume} ${name}`).sort()).toEqual(
      MEMBERS.map(name => `${name} one`),
    );
    expect(run.result).toMatchObject({ notDropped: [] });
    expect(await groups.checkpoints()).toEqual(everywhere('two ready', 'three ready'));
    const methods = fleet.alpha.calls.map(({ method }) => method);
    expect(methods.lastIndexOf('decideGroup')).toBeLessThan(methods.indexOf('deleteCheckpoint'));
  });

  test('and stays where there is no group', async () => {
    fleet.beta.groups.isBroken = true;
    const made = await groups.make({ name: 'three', dropOldest: true });
    expect((await groups.settled(made)).run.state).toBe('failed');
    expect(await groups.checkpoints()).toEqual(everywhere('one ready', 'two ready'));
  });

  test('with backups, when these have ended', async () => {
    fleet.alpha.holdJobs = true;
    const made = await groups.backUp('grouped', { name: 'three', dropOldest: true });
    await poll('a member', async () => (await groups.states(made)).other === 'checked' || undefined);
    expect(await groups.checkpoints()).toEqual(everywhere('one deleting', 'two ready', 'three ready'));
    expect(fleet.alpha.callsOf('deleteCheckpoint')).toEqual([]);
    fleet.alpha.holdJobs = false;
    await fleet.succeed(made.run);
    expect(await groups.checkpoints()).toEqual(everywhere('two ready', 'three ready'));
  });

  test('one that its storage node keeps is told with the reason, and no group fails for it', async () => {
    fleet.beta.fail('deleteCheckpoint', 'volume-busy');
    const run = await fleet.succeed((await groups.make({ name: 'three', dropOldest: true })).run);
    expect(run.result).toMatchObject({ notDropped: [{ volume: 'other', name: 'one' }] });
    expect((await groups.checkpoints()).other).toEqual(['one ready', 'two ready', 'three ready']);
  });
});

describe('webhooks', () => {
  test('are called before and after, and one that does not answer is a failure in its time', async () => {
    const heard: { phase: string; volumes: { name: string }[] }[] = [];
    let answers = true;
    const server = createServer((request, response) => {
      let text = '';
      request.on('data', part => {
        text += part;
      });
      request.on('end', () => {
        heard.push(JSON.parse(text));
        if (answers) response.end();
      });
    });
    await new Promise<void>(listening => server.listen(0, '127.0.0.1', listening));
    const webhook = `http://127.0.0.1:${(server.address() as AddressInfo).port}/quiesce?key=secret`;
    try {
      await fleet.succeed((await groups.make({ hooks: [{ webhook, timeoutMs: 5_000 }] })).run);
      expect(heard.map(({ phase }) => phase)).toEqual(['freeze', 'thaw']);
      expect(heard[0]!.volumes.map(({ name }) => name).sort()).toEqual(MEMBERS);
      answers = false;
      clean = await groups.leftovers();
      const made = await groups.make({ hooks: [{ webhook, timeoutMs: 50 }] });
      const run = await fleet.end(made.run);
      expect(run.error).toMatchObject({ code: 'hook-failed' });
      expect(run.error!.message).toContain('no answer within 50 ms');
      expect(JSON.stringify((await groups.group(made)).error)).not.toContain('secret');
      answers = true;
      await groups.settled(made);
      expect(await groups.leftovers()).toEqual(clean);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  test('lead neither to addresses that no webhook is sent to, nor from one address to another', async () => {
    const refused = groups.make({ hooks: [{ webhook: 'http://169.254.169.254/latest', timeoutMs: 1_000 }] });
    await expect(refused).rejects.toMatchObject({
      code: 'invalid-request',
      message: expect.stringContaining('leads to 169.254.169.254'),
    });
    const server = createServer((_, response) => {
      response.writeHead(307, { location: 'http://169.254.169.254/' }).end();
    });
    await new Promise<void>(listening => server.listen(0, '127.0.0.1', listening));
    const webhook = `http://127.0.0.1:${(server.address() as AddressInfo).port}/quiesce`;
    try {
      const made = await groups.make({ hooks: [{ webhook, timeoutMs: 5_000 }] });
      const { error } = await fleet.end(made.run);
      expect(error!.message).toContain('answered 307; redirects are not followed');
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });
});
