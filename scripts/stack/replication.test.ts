// Goal: backups are in another repository by rule, also after services were killed in the middle; and when the host of
// the first repository is lost for good, every replica restores what the volume held, and the next increment goes on
// from there. Method: the real services with three storage nodes, the real command, guests over NBD, kill -9.
import { randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Answer, digestOf, Operator } from './testing/operator.ts';

const MiB = 1024 * 1024;
const GRANULE = 64 * 1024;
const DISK_MIB = 8;
const PATIENCE = { timeout: 120_000, interval: 100 };

let operator: Operator;
const held = new Map<string, string>();

beforeAll(async () => {
  operator = await Operator.open({ disk: `${DISK_MIB}MiB` }, { nodes: ['alpha', 'beta', 'gamma'] });
  await operator.tidemark(
    'repository',
    'create',
    'offsite',
    '--storage-node',
    'gamma',
    '--compression',
    'zstd',
  );
  await operator.write('disk', 0, randomBytes(DISK_MIB * MiB));
  await backUp('mon', 'full');
});
afterAll(() => operator?.close());

async function backUp(checkpoint: string, kind: string, ...more: string[]): Promise<Answer> {
  held.set(checkpoint, digestOf(await operator.contents('disk')));
  return (await operator.backUp('disk', checkpoint, kind, ...more)).backup;
}

async function change(granule: number): Promise<void> {
  await operator.write('disk', granule * GRANULE, randomBytes(GRANULE));
}

async function backups(repository: string): Promise<Answer[]> {
  return (await operator.json('backup', 'list', '--repository', repository, '--hidden')).items;
}

const there = async (repository = 'offsite') =>
  (await backups(repository))
    .filter(({ state }) => state === 'available')
    .map(({ checkpoint, kind }) => `${checkpoint} ${kind}`);
const one = async (repository: string, name: string) =>
  (await backups(repository)).find(({ checkpoint }) => checkpoint === name);
/** Empty while the api is away. */
const nodeStates = () =>
  operator.get('storage-nodes').then(
    ({ items }) =>
      items
        .map(({ state }: Answer) => state)
        .sort()
        .join(' '),
    () => '',
  );
const rule = () => operator.json('replication', 'rule', 'show', 'away');
const isCaughtUp = async () => (await rule()).status.missing.backups;

test('a replica comes once, whole, though services are killed meanwhile', { timeout: 300_000 }, async () => {
  const mon = await one('vault', 'mon');
  const slow = ['--repository', 'offsite', '--speed', '512KiB', '--no-wait'];
  const { run, backup } = await operator.json('backup', 'replicate', mon.id, ...slow);
  const progress = async () => (await operator.json('run', 'show', run.id)).progress;
  for (const victim of ['worker', 'beta', 'gamma', 'api']) {
    await expect.poll(async () => (await progress()).currentBytes, PATIENCE).toBeGreaterThan(0);
    await operator.kill(victim);
    await expect.poll(nodeStates, PATIENCE).toBe('online online online');
  }
  await operator.tidemark('run', 'speed', run.id, '0');
  await operator.tidemark('run', 'watch', run.id);
  expect(await operator.json('backup', 'show', backup.id)).toMatchObject({
    ...{ state: 'available', replicaOfId: mon.id, checkpoint: 'mon', kind: 'full', compression: 'zstd' },
  });
  expect(await operator.restored(backup.id, 'from-mon')).toBe(held.get('mon'));
  const { items } = await operator.json('difference', 'list');
  expect(items.filter(({ state }: Answer) => state === 'open')).toEqual([]);
});

test('one that is cancelled leaves nothing, and what came before it stays', {
  timeout: 120_000,
}, async () => {
  await change(3);
  const tue = await backUp('tue', 'incremental');
  const slow = ['--repository', 'offsite', '--speed', '1', '--no-wait'];
  const { run, backup } = await operator.json('backup', 'replicate', tue.id, ...slow);
  await expect.poll(async () => (await operator.json('run', 'show', run.id)).state, PATIENCE).toBe('running');
  await operator.tidemark('run', 'cancel', run.id);
  await expect
    .poll(async () => (await operator.json('run', 'show', run.id)).state, PATIENCE)
    .toBe('cancelled');
  expect((await operator.refusal('backup', 'show', backup.id)).stderr).toContain('backup-not-found');
  expect(await there()).toEqual(['mon full']);
});

test('a rule brings what is missing, sends no more than that, and keeps what it says', {
  timeout: 240_000,
}, async () => {
  await operator.tidemark(
    'replication',
    'rule',
    'create',
    'away',
    '--source',
    'vault',
    '--target',
    'offsite',
  );
  await expect.poll(isCaughtUp, PATIENCE).toBe(0);
  expect(await one('offsite', 'tue')).toMatchObject({ kind: 'incremental', sentBytes: GRANULE });
  for (const [granule, name] of ['wed', 'thu', 'fri'].entries()) {
    await change(10 + granule);
    await backUp(name, 'incremental');
  }
  await expect.poll(isCaughtUp, PATIENCE).toBe(0);
  expect(await there()).toEqual([
    'fri incremental',
    'thu incremental',
    'wed incremental',
    'tue incremental',
    'mon full',
  ]);
  await operator.tidemark('replication', 'rule', 'set', 'away', '--keep-last', '2');
  await expect.poll(() => there(), PATIENCE).toEqual(['fri incremental', 'thu incremental', 'mon full']);
  expect((await there('vault')).length).toBe(5);
});

test('the first repository is lost for good: all that is kept comes back, and the next goes on', {
  timeout: 240_000,
}, async () => {
  await operator.tidemark('replication', 'rule', 'set', 'away', '--enabled', 'no');
  const disk = operator.stateDir('beta');
  rmSync(disk, { recursive: true, force: true });
  // Whatever is started there from now on finds no disk.
  writeFileSync(disk, '');
  await operator.bringDown('beta');
  await expect.poll(nodeStates, PATIENCE).toBe('online online unreachable');
  for (const { id, checkpoint } of await backups('offsite')) {
    expect([checkpoint, await operator.restored(id, `lost-${checkpoint}`)]).toEqual([
      checkpoint,
      held.get(checkpoint),
    ]);
  }
  await change(40);
  held.set('sat', digestOf(await operator.contents('disk')));
  const place = ['--volume', 'disk', '--repository', 'offsite', '--checkpoint', 'sat'];
  const { backup } = await operator.json('backup', 'create', ...place, '--kind', 'incremental');
  const fri = await one('offsite', 'fri');
  expect(backup).toMatchObject({
    kind: 'incremental',
    parentId: fri.id,
    sentBytes: GRANULE,
    replicaOfId: null,
  });
  expect(await operator.restored(backup.id, 'lost-sat')).toBe(held.get('sat'));
});
