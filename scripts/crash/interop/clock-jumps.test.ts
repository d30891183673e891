// Goal: a wall clock that is set ahead or back, by an hour or by 40 days, costs no backup, no restore and no guest
// anything; a run whose worker died is taken over as soon as ever; and nothing fires in a storm. Method: the real
// services with PostgreSQL, all living by a wall clock that the test sets in the middle of slow runs.
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Catalog, type Event } from '@tidemark/catalog';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Window } from '../disk-model.ts';
import type { RunJson } from '../rest.ts';
import { OneDisk, temporaryHome } from '../testing/one-disk.ts';
import { WallClock, whyNoWallClock } from '../testing/wall-clock.ts';
import { kill } from '../victims.ts';

const HOUR_SECONDS = 3_600;
const DAYS_40_SECONDS = 40 * 24 * HOUR_SECONDS;
/** Nothing waits longer than with a clock that is right: a lease of 3 s, a restart, undoing or copying the rest. */
const END_MS_MAX = 40_000;
/** Of the worker of these tests. */
const LEASE_MS = 3_000;
/** What a disk holds by then would take many times as long as a test waits. */
const SLOW = { speedBytesPerSecond: 32 * 1024 };
/** A comparison of each storage node for a jump, and for each return of one; no more verifications or audits. */
const SCHEDULED_RUNS_MAX = 4;

let clock: WallClock;
let disk: OneDisk;
let catalog: Catalog;
let backups = 0;

beforeAll(async () => {
  if (whyNoWallClock() !== undefined) return;
  clock = new WallClock();
  const home = temporaryHome();
  // The library is of no use to a process that changes its user: PostgreSQL's has to get there without help.
  chmodSync(home, 0o755);
  disk = await OneDisk.open({ home, environmentOf: () => clock.environment() });
  catalog = Catalog.connect(disk.stack.databaseUrl);
  await disk.furnish({ vaultOn: 'beta' });
  await disk.rest.call('PATCH', 'repositories/vault', { verifyPercentPerDay: 100 });
  await delay(2_000);
});
afterAll(async () => {
  await catalog?.close();
  await disk?.close();
  clock?.close();
});
afterEach(() => clock?.set(0));

const JUMPS = [
  { title: 'an hour ahead', from: 0, to: HOUR_SECONDS },
  { title: 'an hour back', from: HOUR_SECONDS, to: 0 },
  { title: '40 days ahead', from: 0, to: DAYS_40_SECONDS },
  { title: '40 days back', from: DAYS_40_SECONDS, to: 0 },
];

/** Once all services have lived by it for a while. */
async function live(aheadSeconds: number): Promise<void> {
  clock.set(aheadSeconds);
  await delay(LEASE_MS + 1_000);
  await expect
    .poll(async () => (await disk.rest.list('storage-nodes')).map(({ state }) => state), { timeout: 30_000 })
    .toEqual(['online', 'online']);
}

async function startSlowBackup(): Promise<{ runId: string; backupId: string; window: Window }> {
  const from = disk.guest.model.now();
  backups += 1;
  const { status, body } = await disk.backUp(`backup-${backups}`, SLOW, 'checkpoint');
  expect(status, JSON.stringify(body)).toBe(202);
  await delay(500);
  return { runId: body.run.id, backupId: body.backup.id, window: { from, to: disk.guest.model.now() } };
}

async function startSlowRestore(backup: string, name: string): Promise<{ runId: string; path: string }> {
  const target = { file: { name, storageNode: 'alpha' } };
  const { status, body } = await disk.rest.call('POST', 'restores', { backup, target, ...SLOW });
  expect(status, JSON.stringify(body)).toBe(202);
  await delay(500);
  const { stateDir } = disk.stack.nodes.find(node => node.name === 'alpha')!;
  return { runId: body.run.id, path: join(stateDir, 'restores', name) };
}

/** From here on as fast as it goes; the run is to have been under way until now. */
async function hasten(runId: string): Promise<RunJson> {
  expect(await disk.rest.read(`runs/${runId}`)).toMatchObject({ state: 'running' });
  const { status, body } = await disk.rest.call('POST', `runs/${runId}/speed`, { bytesPerSecond: 0 });
  expect(status, JSON.stringify(body)).toBeLessThan(300);
  const run = await disk.end(runId, END_MS_MAX);
  expect(run, JSON.stringify(run.error)).toMatchObject({ state: 'succeeded' });
  return run;
}

async function expectWhole(backupId: string, window: Window): Promise<void> {
  const { stateDir } = disk.stack.nodes.find(({ name }) => name === 'beta')!;
  expect(await disk.faultOf(await disk.backupPath(stateDir, backupId), window)).toBeUndefined();
  expect([disk.guest.faults, disk.guest.losses]).toEqual([[], 0]);
}

async function eventsAfter(id: number): Promise<Event[]> {
  const some = await catalog.events.listAfter(id, 1_000);
  return some.length < 1_000 ? some : [...some, ...(await eventsAfter(some.at(-1)!.id))];
}
const newestEvent = async () => (await eventsAfter(0)).at(-1)?.id ?? 0;

/** Nobody took the runs away, and schedules asked for no more than they may. */
async function expectCalm(runIds: readonly string[], since: number): Promise<void> {
  const events = await eventsAfter(since);
  const ofRuns = events.filter(event => runIds.includes(event.runId ?? '')).map(({ kind }) => kind);
  expect(ofRuns).not.toContain('run-taken-over');
  expect(ofRuns).not.toContain('run-retrying');
  expect(ofRuns).not.toContain('run-started-over');
  const asked = events.filter(({ kind, subjectId }) => kind === 'run-queued' && !runIds.includes(subjectId));
  expect(asked.length, JSON.stringify(asked)).toBeLessThanOrEqual(SCHEDULED_RUNS_MAX);
}

async function jump(aheadSeconds: number): Promise<void> {
  clock.set(aheadSeconds);
  await delay(LEASE_MS * 2);
}

beforeEach(({ skip }) => {
  const why = whyNoWallClock();
  skip(why !== undefined, why);
});

test.each(JUMPS)(
  'a slow backup and a slow restore do not notice that the clock jumps $title',
  async jumping => {
    const { title, from, to } = jumping;
    const source = await startSlowBackup();
    await hasten(source.runId);
    await live(from);
    const backup = await startSlowBackup();
    const restore = await startSlowRestore(source.backupId, title.replaceAll(' ', '-'));
    const before = await newestEvent();
    await jump(to);
    for (const runId of [backup.runId, restore.runId]) await hasten(runId);
    await expectWhole(backup.backupId, backup.window);
    expect(await disk.faultOf(restore.path, source.window)).toBeUndefined();
    await expectCalm([backup.runId, restore.runId], before);
  },
);

test.each(JUMPS)(
  'a run whose worker died is taken over when the clock jumps $title',
  async ({ from, to }) => {
    await live(from);
    const { runId, backupId, window } = await startSlowBackup();
    const before = await newestEvent();
    clock.set(to);
    expect(kill(disk, 'worker')).toBe(true);
    const isClaimedAnew = async () =>
      (await eventsAfter(before)).some(event => event.runId === runId && event.kind === 'run-claimed');
    await expect.poll(isClaimedAnew, { timeout: END_MS_MAX }).toBe(true);
    await hasten(runId);
    await expectWhole(backupId, window);
  },
);

test('a run that waits for another attempt comes to it when the clock jumps back', async () => {
  await live(DAYS_40_SECONDS);
  const { runId, backupId, window } = await startSlowBackup();
  expect(kill(disk, 'worker')).toBe(true);
  expect(kill(disk, 'beta')).toBe(true);
  await delay(2_000);
  clock.set(0);
  const { status } = await disk.rest.call('POST', `runs/${runId}/speed`, { bytesPerSecond: 0 });
  expect(status).toBeLessThan(300);
  const run = await disk.end(runId, END_MS_MAX);
  // The moment is kept: the copy is made again of it.
  expect(run, JSON.stringify(run.error)).toMatchObject({ state: 'succeeded' });
  await expectWhole(backupId, window);
});

test('checkpoints, bases and retention go by the order in which all was made', async () => {
  await live(HOUR_SECONDS);
  const first = await disk.backUp('ahead');
  expect(first.status, JSON.stringify(first.body)).toBe(201);
  await live(0);
  const window = { from: disk.guest.model.now(), to: 0 };
  const second = await disk.backUp('back', { kind: 'incremental' });
  expect(second.status, JSON.stringify(second.body)).toBe(201);
  window.to = disk.guest.model.now();
  const third = await disk.backUp('last', { kind: 'incremental' });
  expect(third.status, JSON.stringify(third.body)).toBe(201);
  const [ahead, back, last] = [first, second, third].map(({ body }) => body.backup.id);
  expect(await disk.rest.read(`backups/${back}`)).toMatchObject({ kind: 'incremental', parentId: ahead });
  expect(await disk.rest.read(`backups/${last}`)).toMatchObject({ kind: 'incremental', parentId: back });
  await expectWhole(back, window);
  const names = (await disk.rest.list('volumes/disk/checkpoints')).map(({ name }) => name);
  expect(names.slice(-3)).toEqual(['ahead', 'back', 'last']);
  // When the clock has come by the moment of the first, that has the latest point in time.
  await live(2 * HOUR_SECONDS);
  const plan = await disk.rest.call('POST', 'prune', {
    repository: 'vault',
    keep: { last: 1 },
    dryRun: true,
  });
  const kept = plan.body.items.filter(({ goes }: { goes: boolean }) => !goes);
  expect(kept.map(({ backup }: { backup: string }) => backup)).toContain(last);
});
