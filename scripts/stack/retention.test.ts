// Goal: an operator prunes a chain from the shell while guests write, backups and restores run; every backup that is
// left holds what the volume held, and what is gone gives its space back. Method: the real services in a temporary
// home, the real command, a guest over NBD.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Operator } from './testing/operator.ts';

const GRANULE = 64 * 1024;
const GRANULES = 128;
const NAMES = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat'];

let operator: Operator;
const held = new Map<string, string>();

beforeAll(async () => {
  operator = await Operator.open({ disk: '8MiB' });
  for (const [day, name] of NAMES.entries()) {
    await write(day + 1, day * 7, day * 7 + 20);
    await backup(name, day === 0 ? 'full' : 'incremental');
  }
});

afterAll(() => operator?.close());

const tidemark = (...args: string[]) => operator.tidemark(...args);

/** Granules of [from, to), flushed. */
function write(byte: number, from: number, to: number): Promise<void> {
  const pieces = Array.from({ length: to - from }, (_, index) => {
    const bytes = Buffer.alloc(GRANULE, byte);
    bytes.writeUInt32LE(from + index);
    return { offset: ((from + index) % GRANULES) * GRANULE, bytes };
  });
  return operator.writeAll('disk', pieces);
}

async function backup(checkpoint: string, kind: string): Promise<void> {
  held.set(checkpoint, await operator.digest('disk'));
  await operator.backUp('disk', checkpoint, kind);
}

async function backups(): Promise<{ id: string; checkpoint: string; kind: string; state: string }[]> {
  return (await operator.json('backup', 'list', '--volume', 'disk', '--hidden')).items;
}

async function expectRestorable(): Promise<void> {
  for (const { id, checkpoint } of await backups()) {
    const name = `from-${checkpoint}-${Date.now()}`;
    expect([checkpoint, await operator.restored(id, name)]).toEqual([checkpoint, held.get(checkpoint)]);
  }
}

const idOf = async (name: string) => (await backups()).find(({ checkpoint }) => checkpoint === name)!.id;
const left = async () =>
  (await backups()).map(({ checkpoint, kind, state }) => `${checkpoint} ${kind} ${state}`);

test('a chain is pruned to what rules and pins keep, and all of that is as it was', {
  timeout: 120_000,
}, async () => {
  await tidemark('backup', 'pin', await idOf('tue'), '--until', '2099-01-01');
  const plan = await tidemark('prune', '--repository', 'vault', '--keep-last', '2', '--dry-run');
  expect(plan).toMatch(/^3 of 6 go; at most .* come back$/m);
  expect(await left()).toHaveLength(6);
  const told = await operator.json('prune', '--repository', 'vault', '--keep-last', '2');
  expect(told.run.result).toMatchObject({
    waiting: [],
    checkpoints: [{ name: 'mon' }, { name: 'wed' }, { name: 'thu' }],
  });
  expect(told.run.result.freedBytes).toBeGreaterThan(0);
  expect(await left()).toEqual([
    'sat incremental available',
    'fri incremental available',
    'tue full available',
  ]);
  const { items } = await operator.json('checkpoint', 'list', 'disk');
  expect(items.map((one: { name: string }) => one.name)).toEqual(['tue', 'fri', 'sat']);
  await expectRestorable();
});

test('guests, a backup and a restore go on while a prune is slow', { timeout: 120_000 }, async () => {
  await write(50, 0, 100);
  await backup('sun', 'incremental');
  await write(60, 3, 30);
  await backup('next', 'incremental');
  // `fri` leaves its place below `sat`, and stands still in the middle of it.
  const slow = ['--repository', 'vault', '--keep-last', '3', '--speed', '100KiB', '--no-wait'];
  const { run } = await operator.json('prune', ...slow);
  const pruning = () => operator.json('run', 'show', run.id);
  await expect
    .poll(async () => (await pruning()).progress.currentBytes, { timeout: 30_000 })
    .toBeGreaterThan(0);
  await tidemark('run', 'pause', run.id);
  await write(70, 40, 50);
  await backup('during', 'incremental');
  const place = ['--storage-node', 'alpha', '--to-volume', 'during-prune'];
  await tidemark('restore', '--backup', await idOf('next'), ...place);
  expect(await operator.digest('during-prune')).toBe(held.get('next'));
  expect(await pruning()).toMatchObject({ state: 'running', paused: true });
  await tidemark('run', 'speed', run.id, '0');
  await tidemark('run', 'resume', run.id);
  await tidemark('run', 'watch', run.id);
  expect(await left()).toEqual(
    expect.arrayContaining(['during incremental available', 'next incremental available']),
  );
  expect((await left()).some(one => one.startsWith('fri'))).toBe(false);
  await expectRestorable();
});

test('a backup goes when it is asked for, and what stands on it is whole', { timeout: 120_000 }, async () => {
  await tidemark('backup', 'delete', await idOf('sun'));
  expect((await left()).some(one => one.startsWith('sun'))).toBe(false);
  await tidemark('backup', 'unpin', await idOf('tue'));
  await tidemark('backup', 'delete', await idOf('tue'));
  const rest = await backups();
  expect(rest.at(-1)).toMatchObject({ checkpoint: 'sat', kind: 'full', state: 'available' });
  await expectRestorable();
});
