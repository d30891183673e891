// Goal: an operator prunes a chain from the shell while guests write, backups and restores run; every backup that is
// left holds what the volume held, and what is gone gives its space back. Method: the real services in a temporary
// home, the real command, a guest over NBD.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { NbdClient } from '@tidemark/nbd';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Stack } from './stack.ts';

const GRANULE = 64 * 1024;
const GRANULES = 128;
const CLI = fileURLToPath(new URL('../../apps/cli/bin/tidemark.mjs', import.meta.url));
const NAMES = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const run = promisify(execFile);

let home: string;
let stack: Stack;
const held = new Map<string, string>();

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'tidemark-home-'));
  stack = new Stack({ home, ports: 'free', nodes: ['alpha', 'beta'] });
  await stack.start();
  await tidemark('repository', 'create', 'vault', '--storage-node', 'beta');
  await tidemark('volume', 'create', 'disk', '--storage-node', 'alpha', '--size', '8MiB');
  for (const [day, name] of NAMES.entries()) {
    await write(day + 1, day * 7, day * 7 + 20);
    await backup(name, day === 0 ? 'full' : 'incremental');
  }
});

afterAll(async () => {
  await stack.stop();
  rmSync(home, { recursive: true });
});

/** What it prints; rejects with what it says when it fails. */
async function tidemark(...args: string[]): Promise<string> {
  const { stdout } = await run(process.execPath, [CLI, '--url', stack.url, ...args]);
  return stdout;
}

// biome-ignore lint/suspicious/noExplicitAny: the shape of an answer is what the tests look at
const json = async (...args: string[]): Promise<any> => JSON.parse(await tidemark('--json', ...args));

async function guest<T>(volume: string, act: (client: NbdClient) => Promise<T>): Promise<T> {
  const { exportUri } = await json('volume', 'show', volume);
  const client = await NbdClient.connect({ uri: exportUri });
  try {
    return await act(client);
  } finally {
    await client.disconnect();
  }
}

/** Granules of [from, to), flushed. */
const write = (byte: number, from: number, to: number) =>
  guest('disk', async client => {
    for (let granule = from; granule < to; granule++) {
      const bytes = Buffer.alloc(GRANULE, byte);
      bytes.writeUInt32LE(granule);
      await client.write((granule % GRANULES) * GRANULE, bytes);
    }
    await client.flush();
  });

const digest = (volume: string) =>
  guest(volume, async client => {
    const content = Buffer.alloc(client.sizeBytes);
    await client.read(0, content);
    return createHash('sha256').update(content).digest('hex');
  });

async function backup(checkpoint: string, kind: string): Promise<void> {
  held.set(checkpoint, await digest('disk'));
  const place = ['--volume', 'disk', '--repository', 'vault', '--checkpoint', checkpoint];
  await tidemark('backup', 'create', ...place, '--kind', kind);
}

async function backups(): Promise<{ id: string; checkpoint: string; kind: string; state: string }[]> {
  return (await json('backup', 'list', '--volume', 'disk', '--hidden')).items;
}

async function expectRestorable(): Promise<void> {
  for (const { id, checkpoint } of await backups()) {
    const name = `from-${checkpoint}-${Date.now()}`;
    await tidemark('restore', '--backup', id, '--storage-node', 'alpha', '--to-volume', name);
    expect([checkpoint, await digest(name)]).toEqual([checkpoint, held.get(checkpoint)]);
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
  const told = await json('prune', '--repository', 'vault', '--keep-last', '2');
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
  const { items } = await json('checkpoint', 'list', 'disk');
  expect(items.map((one: { name: string }) => one.name)).toEqual(['tue', 'fri', 'sat']);
  await expectRestorable();
});

test('guests, a backup and a restore go on while a prune is slow', { timeout: 120_000 }, async () => {
  await write(50, 0, 100);
  await backup('sun', 'incremental');
  await write(60, 3, 30);
  await backup('next', 'incremental');
  // `fri` leaves its place below `sat`, slowly.
  const slow = ['--repository', 'vault', '--keep-last', '3', '--speed', '500KiB', '--no-wait'];
  const { run: pruning } = await json('prune', ...slow);
  const [written] = await Promise.all([
    write(70, 40, 50).then(() => backup('during', 'incremental')),
    tidemark(
      'restore',
      '--backup',
      await idOf('next'),
      '--storage-node',
      'alpha',
      '--to-volume',
      'during-prune',
    ),
  ]);
  expect(written).toBeUndefined();
  expect(await digest('during-prune')).toBe(held.get('next'));
  await tidemark('run', 'watch', pruning.id);
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
