// Goal: an operator verifies backups from the shell, loses the catalog's rows and has them back by a scan, and is told
// exactly what a damaged disk took. Method: the real services in a temporary home, the real command, a guest over NBD,
// one byte flipped in the repository.
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { inDatabase } from '@tidemark/catalog/testing';
import { NbdClient } from '@tidemark/nbd';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Stack } from './stack.ts';

const CLUSTER = 64 * 1024;
const CLI = fileURLToPath(new URL('../../apps/cli/bin/tidemark.mjs', import.meta.url));
const run = promisify(execFile);

let home: string;
let stack: Stack;
let changed: Buffer;
const ids = { mon: '', tue: '' };

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

const write = (offset: number, bytes: Buffer) =>
  guest('disk', async client => {
    await client.write(offset, bytes);
    await client.flush();
  });

const digest = (volume: string) =>
  guest(volume, async client => {
    const content = Buffer.alloc(client.sizeBytes);
    await client.read(0, content);
    return createHash('sha256').update(content).digest('hex');
  });

async function backup(checkpoint: keyof typeof ids, kind: string): Promise<void> {
  const place = ['--volume', 'disk', '--repository', 'vault', '--checkpoint', checkpoint];
  ids[checkpoint] = (await json('backup', 'create', ...place, '--kind', kind)).backup.id;
}

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'tidemark-home-'));
  stack = new Stack({ home, ports: 'free', nodes: ['alpha', 'beta'] });
  await stack.start();
  await tidemark('repository', 'create', 'vault', '--storage-node', 'beta', '--compression', 'zstd');
  await tidemark('volume', 'create', 'disk', '--storage-node', 'alpha', '--size', '8MiB');
  await write(0, Buffer.alloc(20 * CLUSTER, 'what a guest keeps '));
  await backup('mon', 'full');
  changed = randomBytes(CLUSTER);
  await write(7 * CLUSTER, changed);
  await backup('tue', 'incremental');
}, 120_000);

afterAll(async () => {
  await stack.stop();
  rmSync(home, { recursive: true });
});

test('a sound chain is said to be sound, and takes less room than its data', {
  timeout: 120_000,
}, async () => {
  expect(await tidemark('backup', 'verify', ids.tue)).toContain('is sound');
  const shown = await json('backup', 'show', ids.tue);
  expect(shown).toMatchObject({ verifyResult: 'sound', damage: null, compression: 'zstd' });
  const { usedBytes, availableBytes } = await json('repository', 'show', 'vault');
  expect(usedBytes).toBeLessThan(20 * CLUSTER);
  expect(availableBytes).toBeGreaterThan(0);
});

test('rows of the catalog that are lost come back by a scan', { timeout: 120_000 }, async () => {
  await inDatabase(stack.databaseUrl, client => client.query('DELETE FROM backup'));
  expect((await json('backup', 'list')).items).toEqual([]);
  expect(await tidemark('repository', 'scan', 'vault')).toMatch(
    /2 backups found: 2 new to the catalog, 0 changed/,
  );
  expect(await json('backup', 'show', ids.tue)).toMatchObject({
    parentId: ids.mon,
    kind: 'incremental',
  });
  await tidemark('restore', '--backup', ids.tue, '--storage-node', 'alpha', '--to-volume', 'again');
  expect(await digest('again')).toBe(await digest('disk'));
});

test('one flipped byte is found, and told where it is', { timeout: 120_000 }, async () => {
  const repositories = join(home, 'nodes', 'beta', 'repositories');
  const [repositoryId] = await readdir(repositories);
  const image = join(repositories, repositoryId!, 'backups', `${ids.tue}.qcow2`);
  const file = await open(image, 'r+');
  try {
    const all = await file.readFile();
    // What is random does not compress: it lies there as it was.
    const at = all.indexOf(changed.subarray(0, 512));
    expect(at).toBeGreaterThan(0);
    await file.write(Buffer.from([all[at + 9]! ^ 1]), 0, 1, at + 9);
  } finally {
    await file.close();
  }
  const failure = await tidemark('backup', 'verify', ids.tue).catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: 1, stderr: expect.stringContaining('code: backup-damaged') });
  const { stdout: said } = failure as { stdout: string };
  expect(said).toContain('is DAMAGED: 65536 bytes');
  expect(said).toContain(`65536 bytes at ${7 * CLUSTER}`);
  expect(await json('backup', 'show', ids.tue)).toMatchObject({
    verifyResult: 'damaged',
    damage: [{ offset: 7 * CLUSTER, length: CLUSTER }],
  });
  expect(await tidemark('backup', 'verify', ids.mon)).toContain('is sound');
});

test('a repository with backups is not deleted, an empty one is', { timeout: 120_000 }, async () => {
  await expect(tidemark('repository', 'delete', 'vault')).rejects.toThrow(/holds 2 backups/);
  await tidemark('repository', 'create', 'spare', '--storage-node', 'beta');
  expect(await tidemark('repository', 'delete', 'spare')).toContain('deleted repository spare');
});
