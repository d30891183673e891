// Goal: a catalog that was put back from an older copy finds what was made since, and the next increment on it is
// right; an audit of lost bits is an alarm, and the next backup is full and says why. Method: the real services in a
// temporary home, the real command; rows are deleted as an older copy lacks them, bits lost by writing past the node.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { inDatabase } from '@tidemark/catalog/testing';
import { NbdClient } from '@tidemark/nbd';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Stack } from './stack.ts';

const GRANULE = 64 * 1024;
const CLI = fileURLToPath(new URL('../../apps/cli/bin/tidemark.mjs', import.meta.url));
const run = promisify(execFile);

let home: string;
let stack: Stack;

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'tidemark-home-'));
  stack = new Stack({ home, ports: 'free', nodes: ['alpha', 'beta'] });
  await stack.start();
  await tidemark('repository', 'create', 'vault', '--storage-node', 'beta');
  await tidemark('volume', 'create', 'disk', '--storage-node', 'alpha', '--size', '8MiB');
  await write('disk', 1, 0, 60);
  await backup('disk', 'mon', 'full');
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
const write = (volume: string, byte: number, from: number, to: number) =>
  guest(volume, async client => {
    for (let granule = from; granule < to; granule++) {
      await client.write(granule * GRANULE, Buffer.alloc(GRANULE, byte));
    }
    await client.flush();
  });

const digest = (volume: string) =>
  guest(volume, async client => {
    const content = Buffer.alloc(client.sizeBytes);
    await client.read(0, content);
    return createHash('sha256').update(content).digest('hex');
  });

async function backup(volume: string, checkpoint: string, kind: string) {
  const place = ['--volume', volume, '--repository', 'vault', '--checkpoint', checkpoint];
  return (await json('backup', 'create', ...place, '--kind', kind)).backup;
}

async function expectEqual(backupId: string, name: string, expected: string): Promise<void> {
  await tidemark('restore', '--backup', backupId, '--storage-node', 'alpha', '--to-volume', name);
  expect([name, await digest(name)]).toEqual([name, expected]);
}

const listed = async (noun: string, ...args: string[]): Promise<string[]> =>
  (await json(noun, 'list', ...args)).items.map(
    (one: { name?: string; kind: string; checkpoint?: string }) =>
      one.checkpoint === undefined ? (one.name ?? one.kind) : `${one.checkpoint} ${one.kind}`,
  );

/** What was created after `since` is not in the older copy. */
const putBackOlderCatalog = (since: Date) =>
  inDatabase(stack.databaseUrl, async client => {
    const runs = '(SELECT id FROM run WHERE created_at > $1)';
    await client.query(`DELETE FROM run_step WHERE run_id IN ${runs}`, [since]);
    for (const table of ['event', 'run', 'backup', 'checkpoint', 'snapshot', 'volume']) {
      await client.query(`DELETE FROM ${table} WHERE created_at > $1`, [since]);
    }
  });

test('what was made after the catalog was saved is adopted, and built on', { timeout: 120_000 }, async () => {
  expect(await tidemark('reconcile')).toBe('compared 2 storage nodes: 0 repaired, 0 open\n');
  const saved = new Date();
  await tidemark('volume', 'create', 'late', '--storage-node', 'alpha', '--size', '8MiB');
  await write('late', 2, 10, 30);
  const first = await backup('late', 'first', 'full');
  await write('disk', 3, 20, 40);
  const tuesday = await backup('disk', 'tue', 'incremental');
  const held = [await digest('disk'), await digest('late')];
  await putBackOlderCatalog(saved);
  expect(await listed('volume')).toEqual(['disk']);
  expect(await listed('backup')).toEqual(['mon full']);

  // Volume, its checkpoint, that of the other, two backups.
  expect(await tidemark('reconcile')).toBe('compared 2 storage nodes: 5 repaired, 0 open\n');
  expect(await listed('volume')).toEqual(['disk', 'late']);
  expect((await listed('backup')).sort()).toEqual(['first full', 'mon full', 'tue incremental']);
  expect(await listed('checkpoint', 'disk')).toEqual(['mon', 'tue']);
  expect((await listed('difference', '--state', 'repaired')).sort()).toEqual([
    'backup-unknown',
    'backup-unknown',
    'checkpoint-unknown',
    'checkpoint-unknown',
    'volume-unknown',
  ]);
  await expectEqual(tuesday.id, 'tue-again', held[0]!);
  await expectEqual(first.id, 'first-again', held[1]!);

  for (const [volume, parent] of [['disk', tuesday.id] as const, ['late', first.id] as const]) {
    await write(volume, 4, 25, 35);
    const next = await backup(volume, 'next', 'incremental');
    expect([next.kind, next.parentId, next.dirtyBytes]).toEqual(['incremental', parent, 10 * GRANULE]);
    await expectEqual(next.id, `${volume}-next`, await digest(volume));
  }
  expect(await tidemark('reconcile')).toBe('compared 2 storage nodes: 0 repaired, 0 open\n');
});

test('bitmaps that are right pass their audit; one that lost a bit is an alarm', {
  timeout: 120_000,
}, async () => {
  const { id } = await json('volume', 'show', 'disk');
  expect(await tidemark('volume', 'audit', 'disk', '--sample', '0')).toMatch(
    /compared with backup .*: equal/,
  );
  const image = await open(join(home, 'nodes', 'alpha', 'volumes', id, 'disk.raw'), 'r+');
  await image.write(Buffer.from('past the bitmap'), 0, undefined, 50 * GRANULE);
  await image.close();
  const alarm = await tidemark('volume', 'audit', 'disk', '--sample', '0').catch((error: Error) => error);
  expect(alarm).toMatchObject({ code: 1, stderr: expect.stringContaining('audit-failed') });
  const { auditResult } = await json('volume', 'show', 'disk');
  expect(auditResult).toBe('different');
  const full = await backup('disk', 'after', 'incremental');
  expect([full.kind, full.reason]).toEqual(['full', expect.stringContaining('the bitmap audit of')]);
  await expectEqual(full.id, 'disk-after', await digest('disk'));
  expect(await tidemark('volume', 'audit', 'disk', '--sample', '0')).toMatch(/: equal/);
  expect((await backup('disk', 'later', 'incremental')).kind).toBe('incremental');
});
