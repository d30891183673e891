// Goal: a prune takes out what can go, in an order that copies each increment once, leaves what cannot hidden, and
// catalog and repository agree after whatever happens on the way. Method: a real worker and catalog, a storage node
// that plays chains and fails on command.
import { randomUUID } from 'node:crypto';
import type { Backup, Run } from '@tidemark/catalog';
import type { StoredBackup } from '@tidemark/proto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Fleet } from './fleet.ts';

const NAMES = ['mon', 'tue', 'wed', 'thu', 'fri'];
let fleet: Fleet;
let backups: Map<string, Backup>;

beforeEach(async () => {
  fleet = await Fleet.open();
  await fleet.startWorker();
  await fleet.furnish();
  for (const name of NAMES) {
    await fleet.succeed(await fleet.backup(name, name === 'mon' ? 'full' : 'incremental'));
  }
  const { items } = await fleet.catalog.backups.list({ hidden: true });
  backups = new Map(items.map(backup => [backup.checkpoint, backup]));
});
afterEach(() => fleet.close());

const idOf = (name: string) => backups.get(name)!.id;
const nameOf = (id: string | null) => [...backups].find(([, backup]) => backup.id === id)?.[0] ?? null;
const rows = async () =>
  (await fleet.catalog.backups.list({ hidden: true })).items
    .map(({ checkpoint, parentId, state, kind }) => `${checkpoint} on ${nameOf(parentId)}: ${kind}, ${state}`)
    .reverse();
const ended = () => fleet.beta.removals.ended.map(nameOf);
const checkpoints = () => [...fleet.alpha.checkpoints.values()].map(({ name }) => name);

test('those in between go from the oldest on, and their checkpoints follow', async () => {
  const run = await fleet.succeed(await fleet.prune('mon', 'tue', 'thu'));
  expect(ended()).toEqual(['mon', 'tue', 'thu']);
  expect(await rows()).toEqual(['wed on null: full, available', 'fri on wed: incremental, available']);
  expect(run.result).toEqual({
    removed: ['mon', 'tue', 'thu'].map(name => ({ backup: idOf(name), freedBytes: 12 })),
    waiting: [],
    checkpoints: ['mon', 'tue', 'thu'].map(name => ({ id: backups.get(name)!.checkpointId, name })),
    freedBytes: 36,
  });
  expect(checkpoints()).toEqual(['wed', 'fri']);
  // Each had 512, and 12 of them twice.
  const stored = (await fleet.catalog.backups.list({ hidden: true })).items.map(
    ({ storedBytes }) => storedBytes,
  );
  expect(stored).toEqual([1012, 1512]);
  expect(await fleet.leftovers()).toMatchObject({ jobs: [], checkpointRows: ['wed', 'fri'] });
});

test('the newest checkpoint, a pinned one and one made alone stay', async () => {
  const { catalog } = fleet;
  const { id: volumeId } = await catalog.volumes.get('disk');
  await fleet.succeed(await fleet.ask('create-checkpoint', await alone(volumeId, 'by-hand')));
  await fleet.succeed(await fleet.backup('sat', 'incremental'));
  const tue = await catalog.checkpoints.get(volumeId, 'tue');
  await catalog.checkpoints.update(tue.id, { pinnedUntil: new Date(Date.now() + 1e6) }, null);
  await fleet.succeed(await fleet.prune('tue', 'wed', 'sat'));
  expect(checkpoints()).toEqual(['mon', 'tue', 'thu', 'fri', 'by-hand', 'sat']);
  expect(await rows()).toHaveLength(3);
});

async function alone(volumeId: string, name: string) {
  const checkpointId = randomUUID();
  await fleet.catalog.checkpoints.create({ id: checkpointId, volumeId, name });
  return { checkpointId, name };
}

test('what is in use stays hidden with why, and the next prune takes it', async () => {
  fleet.beta.removals.read.add(idOf('wed'));
  const run = await fleet.succeed(await fleet.prune('tue'));
  expect(run.result).toMatchObject({ removed: [], waiting: [{ backup: idOf('tue') }], freedBytes: 0 });
  expect(await rows()).toContain('tue on mon: incremental, hidden');
  expect(checkpoints()).toContain('tue');
  fleet.beta.removals.read.clear();
  const next = await fleet.succeed(await fleet.prune());
  expect(next.result).toMatchObject({ removed: [{ backup: idOf('tue') }], waiting: [] });
  expect(await rows()).toContain('wed on mon: incremental, available');
});

test('a lease of the catalog keeps parent and child as they are', async () => {
  const holder = randomUUID();
  await fleet.catalog.backupLeases.take(idOf('wed'), 'volume', holder);
  const run = await fleet.succeed(await fleet.prune('tue'));
  const why = `parent of ${idOf('wed')}, which is in use by volume ${holder}: stays hidden`;
  expect(run.result).toMatchObject({ removed: [], waiting: [{ backup: idOf('tue'), why }] });
  expect(fleet.beta.callsOf('startRemoval')).toEqual([]);
});

test.each([
  ['startRemoval', false],
  ['startRemoval', true],
  ['getBackup', false],
  ['dismissJob', true],
] as const)('%s that fails for a while is done again (answer lost: %s)', async (method, afterwards) => {
  fleet.beta.fail(method, 'storage-node-unreachable', { times: 2, afterwards });
  const run = await fleet.succeed(await fleet.prune('mon', 'tue'));
  expect(run.result).toMatchObject({
    removed: [{ backup: idOf('mon') }, { backup: idOf('tue') }],
    freedBytes: 24,
  });
  expect((await rows())[0]).toBe('wed on null: full, available');
  expect(await fleet.leftovers()).toMatchObject({ jobs: [] });
});

test('a storage node that forgot the job goes on, or has ended the removal by itself', async () => {
  fleet.beta.holdJobs = true;
  const run = await fleet.prune('mon', 'tue');
  await fleet.until(run, ({ progress }) => progress.currentBytes > 0);
  // Past its point of no return it is ended by the next start, before that it is asked for again.
  fleet.beta.stop();
  fleet.beta.jobs.clear();
  fleet.beta.removals.end(fleet.beta.published.get(idOf('mon'))!);
  fleet.beta.holdJobs = false;
  await fleet.beta.start();
  const { result } = await fleet.succeed(run);
  expect(result).toMatchObject({ removed: [{ backup: idOf('mon') }, { backup: idOf('tue') }] });
  expect((await rows())[0]).toBe('wed on null: full, available');
});

test('another worker goes on where one was lost', async () => {
  fleet.beta.holdJobs = true;
  const run = await fleet.prune('mon', 'tue');
  await fleet.until(run, ({ progress }) => progress.currentBytes > 0);
  await fleet.stopWorkers();
  fleet.beta.holdJobs = false;
  await fleet.startWorker();
  await fleet.succeed(run);
  expect(ended()).toEqual(['mon', 'tue']);
});

test('cancelled: what was hidden at the repository stays so, the rest is available again', async () => {
  fleet.beta.holdJobs = true;
  const run = await fleet.prune('mon', 'tue', 'thu');
  await fleet.until(run, ({ progress }) => progress.currentBytes > 0);
  await fleet.catalog.runs.requestCancel(run.id);
  expect((await fleet.end(run)).state).toBe('cancelled');
  expect((await rows()).map(row => row.split(', ')[1])).toEqual([
    'hidden',
    'available',
    'available',
    'available',
    'available',
  ]);
  expect(await fleet.leftovers()).toMatchObject({ jobs: [] });
  fleet.beta.holdJobs = false;
  await fleet.succeed(await fleet.prune());
  expect(ended()).toEqual(['mon']);
});

test('a removal that fails ends the run once the others have gone, and can be asked for again', async () => {
  const error = { code: 'image-invalid', message: 'image of tue is damaged' } as const;
  fleet.beta.removals.failures.set(idOf('tue'), error);
  const run = await fleet.end(await fleet.prune('mon', 'tue', 'fri'));
  expect([run.state, run.error]).toEqual(['failed', error]);
  // The newest one goes first: nothing has to be copied for it.
  expect(ended()).toEqual(['fri', 'mon']);
  const left = ['tue on null: full, hidden', 'wed on tue: incremental, available'];
  expect(await rows()).toEqual([...left, 'thu on wed: incremental, available']);
  expect(await fleet.leftovers()).toMatchObject({ jobs: [] });
  fleet.beta.removals.failures.clear();
  await fleet.succeed(await fleet.prune());
  expect(ended()).toEqual(['fri', 'mon', 'tue']);
});

const waitsForTurn = (run: Run) =>
  fleet.until(run, ({ reason }) => reason?.includes('same repository') ?? false);

test('of two prunes one works at a time, and a cancelled one leaves the other what is its own', async () => {
  fleet.beta.holdJobs = true;
  const first = await fleet.prune('mon', 'tue');
  await fleet.until(first, ({ progress }) => progress.currentBytes > 0);
  const second = await fleet.prune('thu');
  expect((await waitsForTurn(second)).reason).toContain(first.id);
  expect(fleet.beta.callsOf('startRemoval')).toHaveLength(1);
  await fleet.catalog.runs.requestCancel(first.id);
  expect((await fleet.end(first)).state).toBe('cancelled');
  fleet.beta.holdJobs = false;
  const { result } = await fleet.succeed(second);
  expect(result).toMatchObject({ removed: [{ backup: idOf('mon') }, { backup: idOf('thu') }] });
  expect(await rows()).toEqual([
    'tue on null: full, available',
    'wed on tue: incremental, available',
    'fri on wed: incremental, available',
  ]);
});

test('a prune that is cancelled before its turn has changed nothing, nor does the one before it', async () => {
  fleet.beta.holdJobs = true;
  const first = await fleet.prune('mon');
  await fleet.until(first, ({ progress }) => progress.currentBytes > 0);
  const second = await fleet.prune('tue', 'thu');
  await waitsForTurn(second);
  await fleet.catalog.runs.requestCancel(second.id);
  expect((await fleet.end(second)).state).toBe('cancelled');
  fleet.beta.holdJobs = false;
  const { result } = await fleet.succeed(first);
  expect(result).toMatchObject({ removed: [{ backup: idOf('mon') }], waiting: [] });
  expect((await rows()).map(row => row.split(', ')[1])).toEqual(Array(4).fill('available'));
});

test('one that is cancelled before any worker took it lets all go again', async () => {
  await fleet.stopWorkers();
  const run = await fleet.prune('mon', 'tue');
  await fleet.catalog.runs.requestCancel(run.id);
  await fleet.startWorker();
  expect((await fleet.end(run)).state).toBe('cancelled');
  expect((await rows()).map(row => row.split(', ')[1])).toEqual(Array(5).fill('available'));
});

test('what two asked for goes though one of them is cancelled', async () => {
  fleet.beta.holdJobs = true;
  const first = await fleet.prune('mon', 'tue');
  await fleet.until(first, ({ progress }) => progress.currentBytes > 0);
  const second = await fleet.prune('tue');
  await waitsForTurn(second);
  await fleet.catalog.runs.requestCancel(first.id);
  await fleet.end(first);
  fleet.beta.holdJobs = false;
  await fleet.succeed(second);
  expect(ended()).toEqual(['mon', 'tue']);
});

test('a backup that was let go again after the plan was made is not removed', async () => {
  const { retention } = fleet.catalog;
  fleet.beta.holdJobs = true;
  const run = await fleet.prune('mon', 'tue');
  await fleet.until(run, ({ progress }) => progress.currentBytes > 0);
  await retention.unhide(idOf('tue'), run.id);
  fleet.beta.holdJobs = false;
  await fleet.succeed(run);
  expect(ended()).toEqual(['mon']);
  expect(await rows()).toContain('tue on null: full, available');
});

test('a row whose files went without an answer goes, also while its child is in use', async () => {
  await fleet.stopWorkers();
  fleet.beta.removals.end(fleet.beta.published.get(idOf('tue'))!);
  await fleet.catalog.backupLeases.take(idOf('wed'), 'volume', randomUUID());
  const run = await fleet.prune('tue');
  await fleet.startWorker();
  const { result } = await fleet.succeed(run);
  expect(result).toMatchObject({ removed: [{ backup: idOf('tue') }], waiting: [] });
  expect(await rows()).toContain('wed on mon: incremental, available');
});

test.each([
  ['is read and stands on it', (child: StoredBackup) => child.parentBackupId],
  ['cannot be read', (child: StoredBackup) => fleet.beta.published.delete(child.backupId)],
])('a hidden one without a manifest whose child %s keeps its row, and the others go', async (_, spoil) => {
  await fleet.stopWorkers();
  fleet.beta.published.delete(idOf('tue'));
  spoil(fleet.beta.published.get(idOf('wed'))!);
  const run = await fleet.prune('tue', 'fri');
  await fleet.startWorker();
  const { state, error } = await fleet.end(run);
  expect([state, error?.code]).toEqual(['failed', 'image-invalid']);
  expect(error!.message).toContain(idOf('wed'));
  expect(ended()).toEqual(['fri']);
  expect(await rows()).toContain('tue on mon: incremental, hidden');
});
