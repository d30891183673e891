// Goal: the backups of a group are all of its instant; grouped, all are published or none; individual, one that fails
// touches no other; whoever fails, cancels or dies, the record says so and nothing half-made stays. Method: real
// workers and catalog; storage nodes that fail on command.
import { type CatalogTransaction, hasEnded, type Run, steerGroup } from '@tidemark/catalog';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
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

const ALL_READY = { disk: 'ready', 'disk-2': 'ready', other: 'ready' };

async function expectNothingLeft(made: MadeGroup, state: 'failed' | 'cancelled') {
  const { run, group } = await groups.settled(made);
  expect([run.state, group.state]).toEqual([state, state]);
  for (const child of await groups.children(made)) {
    await fleet.until(child, one => hasEnded(one) && !one.cleanupPending);
  }
  expect(await groups.leftovers()).toEqual(clean);
  return { run, group };
}

/** Once it copies. */
const copying = async (made: MadeGroup, volume: string) =>
  fleet.until(await groups.child(made, volume), ({ progress }) => progress.currentBytes > 0);

describe('a group backup', () => {
  test('copies the moments of one instant, and builds on the group before', async () => {
    const first = await groups.backUp();
    await fleet.succeed(first.run);
    expect(await groups.states(first)).toEqual(ALL_READY);
    const { members, pointInTime } = await groups.group(first);
    const backups = await Promise.all(members.map(({ backupId }) => fleet.catalog.backups.get(backupId!)));
    for (const backup of backups) {
      expect(backup).toMatchObject({ state: 'available', kind: 'full' });
      expect(backup.reason).toContain(`no checkpoint of volume '${backup.volumeName}' has a backup`);
      expect(backup.pointInTime!.getTime()).toBeLessThanOrEqual(pointInTime!.getTime());
    }
    expect([fleet.alpha, fleet.beta].flatMap(node => node.callsOf('startBackup'))).toEqual([]);
    expect((await groups.leftovers()).moments).toEqual([]);
    const second = await groups.backUp();
    await fleet.succeed(second.run);
    for (const { backupId, checkpointId } of (await groups.group(second)).members) {
      const { kind, parentId } = await fleet.catalog.backups.get(backupId!);
      expect([kind, backups.some(({ id }) => id === parentId)]).toEqual(['incremental', true]);
      const base = [fleet.alpha, fleet.beta].map(node => node.groups.bases.get(checkpointId)).find(Boolean);
      expect(backups.map(one => one.checkpointId)).toContain(base);
    }
  });

  test('is full for the member whose base is not trusted, and says why', async () => {
    const first = await groups.backUp();
    await fleet.succeed(first.run);
    const { members } = await groups.group(first);
    const doubted = members.find(({ volumeName }) => volumeName === 'other')!;
    fleet.beta.checkpoints.get(doubted.checkpointId)!.inconsistent = true;
    const second = await groups.backUp();
    await fleet.succeed(second.run);
    const kinds: Record<string, string> = {};
    for (const { backupId, volumeName } of (await groups.group(second)).members) {
      const { kind, reason, parentId } = await fleet.catalog.backups.get(backupId!);
      kinds[volumeName] = kind;
      if (volumeName !== 'other') continue;
      expect([reason, parentId]).toEqual([expect.stringContaining("bitmap of checkpoint 'group-1'"), null]);
    }
    expect(kinds).toEqual({ disk: 'incremental', 'disk-2': 'incremental', other: 'full' });
  });

  test('goes on when a worker dies while its members copy, also with two of them', async () => {
    await fleet.startWorker();
    fleet.alpha.holdJobs = true;
    const made = await groups.backUp();
    await copying(made, 'disk');
    await fleet.stopWorkers();
    fleet.alpha.holdJobs = false;
    await fleet.startWorker();
    await fleet.startWorker();
    await fleet.succeed(made.run);
    expect(await groups.states(made)).toEqual(ALL_READY);
  });

  test('holds no worker while it waits: one with a single place makes all of it', async () => {
    await fleet.stopWorkers();
    await fleet.startWorker({}, { concurrency: 1 });
    const made = await groups.backUp();
    await fleet.succeed(made.run);
    expect(await groups.states(made)).toEqual(ALL_READY);
  });
});

describe('grouped', () => {
  test('publishes nothing before the last member is checked', async () => {
    fleet.alpha.holdJobs = true;
    const made = await groups.backUp();
    // Looked at again and again, it waits.
    const waiting = await fleet.until(
      await groups.child(made, 'other'),
      run => hasEnded(run) || run.attempt > 3,
    );
    expect(waiting.steps.at(-1)).toMatchObject({ name: 'await-group', state: 'running' });
    expect(await groups.states(made)).toMatchObject({ other: 'checked' });
    expect(fleet.beta.published.size).toBe(0);
    fleet.alpha.holdJobs = false;
    await fleet.succeed(made.run);
    expect(fleet.beta.published.size).toBe(3);
  });

  test('one that fails takes all others with it, and the checkpoints', async () => {
    fleet.alpha.holdJobs = true;
    const made = await groups.backUp();
    await copying(made, 'disk');
    await copying(made, 'disk-2');
    const child = await groups.child(made, 'disk');
    fleet.alpha.scriptedJobs.moments.get(child.checkpointId!)!.broken = 'full';
    const status = fleet.alpha.jobs.get(`backup-${child.checkpointId}`)!;
    status.error = { code: 'moment-lost', message: 'The scratch is full.' };
    status.state = 'concluded';
    const { run, group } = await expectNothingLeft(made, 'failed');
    expect(run.error?.code).toBe('group-incomplete');
    expect(group.error!.message).toContain("The backup of volume 'disk' in group 'group-1' failed");
    expect(group.error!.message).toContain('The scratch is full.');
    const states = await groups.states(made);
    expect(states.disk).toBe('failed');
    expect([states['disk-2'], states.other]).toEqual(['cancelled', 'cancelled']);
    expect(fleet.beta.published.size).toBe(0);
    expect((await groups.child(made, 'disk')).restarts).toBe(0);
  });

  test('one without a target fails all, also those that wait to be published', async () => {
    fleet.alpha.holdJobs = true;
    const made = await groups.backUp();
    await poll(
      'the member of beta',
      async () => (await groups.states(made)).other === 'checked' || undefined,
    );
    fleet.alpha.failJobs({ code: 'repository-full', message: 'There is no room left.' });
    fleet.alpha.holdJobs = false;
    const { group } = await expectNothingLeft(made, 'failed');
    expect(group.error!.message).toContain('(repository-full)');
    expect(fleet.beta.published.size).toBe(0);
  });

  test('a cancel request takes all back until they are published', async () => {
    fleet.alpha.holdJobs = true;
    const made = await groups.backUp();
    await poll(
      'the member of beta',
      async () => (await groups.states(made)).other === 'checked' || undefined,
    );
    await fleet.catalog.runs.requestCancel(made.run.id);
    await expectNothingLeft(made, 'cancelled');
  });

  test('a member that is cancelled by itself takes all others with it', async () => {
    fleet.alpha.holdJobs = true;
    const made = await groups.backUp();
    await copying(made, 'disk');
    await fleet.catalog.runs.requestCancel((await groups.child(made, 'disk')).id);
    const { group } = await expectNothingLeft(made, 'failed');
    expect(group.error!.message).toContain("volume 'disk'");
  });
});

describe('what is said to the run of a group is said to its copies', () => {
  const job = (child: Run) => fleet.alpha.jobs.get(`backup-${child.checkpointId}`);
  const steer = (made: MadeGroup, ask: (tx: CatalogTransaction, id: string) => Promise<Run>) =>
    fleet.catalog.transaction(tx => steerGroup(tx, made.run, id => ask(tx, id)));
  const pause = (made: MadeGroup, paused: boolean) =>
    steer(made, (tx, id) => tx.runs.requestPause(id, paused));

  test('while they go on: they stand still, go on, and have another speed', async () => {
    fleet.alpha.holdJobs = true;
    const made = await groups.backUp();
    const copies = [await copying(made, 'disk'), await copying(made, 'disk-2')];
    expect((await pause(made, true)).pauseRequested).toBe(true);
    for (const copy of copies) {
      await poll('pause', async () => job(copy)?.state === 'paused' || undefined);
    }
    fleet.alpha.holdJobs = false;
    await steer(made, (tx, id) => tx.runs.requestSpeed(id, 4096));
    for (const copy of copies) {
      await poll('speed', async () => job(copy)?.speedBytesPerSecond === 4096 || undefined);
      expect(job(copy)!.state).toBe('paused');
    }
    await pause(made, false);
    await fleet.succeed(made.run);
    expect(await groups.states(made)).toEqual(ALL_READY);
  });

  test('before they begin: they begin as they were told', async () => {
    await fleet.stopWorkers();
    const made = await groups.backUp();
    await pause(made, true);
    await steer(made, (tx, id) => tx.runs.requestSpeed(id, 8192));
    fleet.alpha.holdJobs = true;
    await fleet.startWorker();
    const copy = await groups.child(made, 'disk');
    expect(copy).toMatchObject({ pauseRequested: true, speedBytesPerSecond: 8192 });
    await poll('pause', async () => job(copy)?.state === 'paused' || undefined);
    fleet.alpha.holdJobs = false;
    expect(await groups.states(made)).toMatchObject({ disk: 'copying' });
    await pause(made, false);
    await fleet.succeed(made.run);
  });

  test('and is refused for one without copies, and for one that has ended', async () => {
    await fleet.stopWorkers();
    const bare = await groups.make();
    await expect(pause(bare, true)).rejects.toMatchObject({ code: 'run-not-controllable' });
    await fleet.startWorker();
    await fleet.succeed(bare.run);
    const made = await groups.backUp();
    await fleet.succeed(made.run);
    await expect(pause(made, true)).rejects.toMatchObject({ code: 'run-ended' });
  });
});

describe('individual', () => {
  test('one that fails touches no other, and is told with the next step', async () => {
    fleet.alpha.holdJobs = true;
    const made = await groups.backUp('individual');
    const child = await copying(made, 'disk');
    const status = fleet.alpha.jobs.get(`backup-${child.checkpointId}`)!;
    status.error = { code: 'moment-lost', message: 'The scratch is full.' };
    status.state = 'concluded';
    fleet.alpha.holdJobs = false;
    const run = await fleet.succeed(made.run);
    expect(run.result).toMatchObject({
      state: 'incomplete',
      failed: [{ volume: 'disk', code: 'moment-lost' }],
    });
    const group = await groups.group(made);
    expect(group).toMatchObject({ state: 'incomplete', error: { code: 'group-incomplete' } });
    expect(group.error!.message).toMatch(/'disk'.*Make a backup of each/);
    expect(await groups.states(made)).toEqual({ ...ALL_READY, disk: 'failed' });
    expect((await fleet.end(child)).error?.message).toContain('It was the instant of a group');
    const { id } = await fleet.catalog.volumes.get('disk');
    expect(await fleet.catalog.checkpoints.get(id, 'group-1')).toMatchObject({ state: 'ready', backups: [] });
    expect(fleet.beta.published.size).toBe(2);
    expect((await groups.leftovers()).moments).toEqual([]);
  });

  test('a cancel request keeps what is published', async () => {
    fleet.alpha.holdJobs = true;
    const made = await groups.backUp('individual');
    await poll('the member of beta', async () => (await groups.states(made)).other === 'ready' || undefined);
    await fleet.catalog.runs.requestCancel(made.run.id);
    await fleet.succeed(made.run);
    expect(await groups.states(made)).toEqual({ disk: 'cancelled', 'disk-2': 'cancelled', other: 'ready' });
    expect((await groups.leftovers()).moments).toEqual([]);
    expect(fleet.beta.published.size).toBe(1);
  });
});

describe('a group is deleted', () => {
  test('with its checkpoints and backups', async () => {
    const made = await groups.backUp();
    await fleet.succeed(made.run);
    const { run } = await groups.remove('group-1');
    await fleet.succeed(run);
    expect(await fleet.catalog.groups.find('group-1')).toBeNull();
    expect(await groups.leftovers()).toEqual(clean);
  });

  test('and the record of one that failed goes by itself', async () => {
    fleet.beta.groups.isBroken = true;
    const made = await groups.make();
    await groups.settled(made);
    await fleet.succeed((await groups.remove(made.group.id)).run);
    expect(await fleet.catalog.groups.find(made.group.id)).toBeNull();
    expect(await groups.leftovers()).toEqual(clean);
  });

  test('as far as its storage nodes go along: what is merged stays gone, and the rest is as it was', async () => {
    const made = await groups.make();
    await fleet.succeed(made.run);
    fleet.beta.fail('deleteCheckpoint', 'volume-busy');
    const { run } = await groups.remove('group-1');
    expect(await fleet.end(run)).toMatchObject({ state: 'failed', error: { code: 'volume-busy' } });
    expect(await groups.group(made)).toMatchObject({ state: 'ready' });
    const there = [...fleet.alpha.checkpoints.values(), ...fleet.beta.checkpoints.values()];
    expect((await groups.leftovers()).checkpointRows).toEqual(there.map(({ name }) => `${name} ready`));
    fleet.beta.heal();
    await fleet.succeed((await groups.remove('group-1')).run);
    expect(await fleet.catalog.groups.find('group-1')).toBeNull();
    expect(await groups.leftovers()).toEqual(clean);
  });

  test('not while a member is protected, in use, or its storage node away', async () => {
    const made = await groups.backUp();
    await fleet.succeed(made.run);
    const { members } = await groups.group(made);
    const [one] = members;
    await fleet.catalog.retention.change(one!.backupId!, { pinnedUntil: new Date(Date.now() + 3_600_000) });
    await expect(groups.remove('group-1')).rejects.toThrow(/volume 'disk'.*is protected until/);
    await fleet.catalog.retention.change(one!.backupId!, { pinnedUntil: null });
    await fleet.catalog.checkpoints.update(
      one!.checkpointId,
      { pinnedUntil: new Date(Date.now() + 3_600_000) },
      null,
    );
    await expect(groups.remove('group-1')).rejects.toThrow(/keeps its checkpoint of volume 'disk'/);
    expect(await groups.group(made)).toMatchObject({ state: 'ready' });
    expect((await fleet.catalog.backups.get(one!.backupId!)).state).toBe('available');
    expect(MEMBERS).toContain(one!.volumeName);
  });
});
