// Goal: an operator verifies backups from the shell, loses the catalog's rows and has them back by a scan, and is told
// exactly what a damaged disk took. Method: the real services in a temporary home, the real command, a guest over NBD,
// one byte flipped in the repository.
import { randomBytes } from 'node:crypto';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { inDatabase } from '@tidemark/catalog/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Operator } from './testing/operator.ts';

const CLUSTER = 64 * 1024;

let operator: Operator;
let changed: Buffer;
const ids = { mon: '', tue: '' };

const tidemark = (...args: string[]) => operator.tidemark(...args);

async function backup(checkpoint: keyof typeof ids, kind: string): Promise<void> {
  ids[checkpoint] = (await operator.backUp('disk', checkpoint, kind)).backup.id;
}

beforeAll(async () => {
  operator = await Operator.open({ disk: '8MiB' }, { vault: ['--compression', 'zstd'] });
  await operator.write('disk', 0, Buffer.alloc(20 * CLUSTER, 'what a guest keeps '));
  await backup('mon', 'full');
  changed = randomBytes(CLUSTER);
  await operator.write('disk', 7 * CLUSTER, changed);
  await backup('tue', 'incremental');
}, 120_000);

afterAll(() => operator?.close());

test('a sound chain is said to be sound, and takes less room than its data', {
  timeout: 120_000,
}, async () => {
  expect(await tidemark('backup', 'verify', ids.tue)).toContain('is sound');
  const shown = await operator.json('backup', 'show', ids.tue);
  expect(shown).toMatchObject({ verifyResult: 'sound', damage: null, compression: 'zstd' });
  const { usedBytes, availableBytes } = await operator.json('repository', 'show', 'vault');
  expect(usedBytes).toBeLessThan(20 * CLUSTER);
  expect(availableBytes).toBeGreaterThan(0);
});

test('rows of the catalog that are lost come back by a scan', { timeout: 120_000 }, async () => {
  await inDatabase(operator.stack.databaseUrl, client => client.query('DELETE FROM backup'));
  expect((await operator.json('backup', 'list')).items).toEqual([]);
  expect(await tidemark('repository', 'scan', 'vault')).toMatch(
    /2 backups found: 2 new to the catalog, 0 changed/,
  );
  expect(await operator.json('backup', 'show', ids.tue)).toMatchObject({
    parentId: ids.mon,
    kind: 'incremental',
  });
  await tidemark('restore', '--backup', ids.tue, '--storage-node', 'alpha', '--to-volume', 'again');
  expect(await operator.digest('again')).toBe(await operator.digest('disk'));
});

test('one flipped byte is found, and told where it is', { timeout: 120_000 }, async () => {
  const repositories = join(operator.stack.home, 'nodes', 'beta', 'repositories');
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
  const failure = await operator.refusal('backup', 'verify', ids.tue);
  expect(failure).toMatchObject({ code: 1, stderr: expect.stringContaining('code: backup-damaged') });
  expect(failure.stdout).toContain('is DAMAGED: 65536 bytes');
  expect(failure.stdout).toContain(`65536 bytes at ${7 * CLUSTER}`);
  expect(await operator.json('backup', 'show', ids.tue)).toMatchObject({
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
