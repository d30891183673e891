// Goal: a catalog that was put back from an older copy finds what was made since, and the next increment on it is
// right; an audit of lost bits is an alarm, and the next backup is full and says why. Method: the real services in a
// temporary home, the real command; rows are deleted as an older copy lacks them, bits lost by writing past the node.
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { inDatabase } from '@tidemark/catalog/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Operator } from './testing/operator.ts';

const GRANULE = 64 * 1024;

let operator: Operator;

beforeAll(async () => {
  operator = await Operator.open({ disk: '8MiB' });
  await write('disk', 1, 0, 60);
  await backup('disk', 'mon', 'full');
});

afterAll(() => operator?.close());

const tidemark = (...args: string[]) => operator.tidemark(...args);
const digest = (volume: string) => operator.digest(volume);

/** Granules of [from, to), flushed. */
const write = (volume: string, byte: number, from: number, to: number) =>
  operator.write(volume, from * GRANULE, Buffer.alloc((to - from) * GRANULE, byte));

const backup = async (volume: string, checkpoint: string, kind: string) =>
  (await operator.backUp(volume, checkpoint, kind)).backup;

async function expectEqual(backupId: string, name: string, expected: string): Promise<void> {
  expect([name, await operator.restored(backupId, name)]).toEqual([name, expected]);
}

const listed = async (noun: string, ...args: string[]): Promise<string[]> =>
  (await operator.json(noun, 'list', ...args)).items.map(
    (one: { name?: string; kind: string; checkpoint?: string }) =>
      one.checkpoint === undefined ? (one.name ?? one.kind) : `${one.checkpoint} ${one.kind}`,
  );

/** What was created after `since` is not in the older copy. */
const putBackOlderCatalog = (since: Date) =>
  inDatabase(operator.stack.databaseUrl, async client => {
    const runs = '(SELECT id FROM run WHERE created_at > $1)';
    await client.query(`DELETE FROM run_step WHERE run_id IN ${runs}`, [since]);
    for (const table of ['event', 'run', 'backup', 'checkpoint', 'snapshot', 'volume']) {
      await client.query(`DELETE FROM ${table} WHERE created_at > $1`, [since]);
    }
  });

test('what was made after the catalog was saved is adopted, and built on', { timeout: 120_000 }, async () => {
  expect(await tidemark('reconcile')).toBe('compared 2 storage nodes: 0 repaired, 0 open\n');
  const saved = new Date();
  await operator.createVolume('late', '8MiB');
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
  const { id } = await operator.json('volume', 'show', 'disk');
  expect(await tidemark('volume', 'audit', 'disk', '--sample', '0')).toMatch(
    /compared with backup .*: equal/,
  );
  const image = await open(join(operator.stack.home, 'nodes', 'alpha', 'volumes', id, 'disk.raw'), 'r+');
  await image.write(Buffer.from('past the bitmap'), 0, undefined, 50 * GRANULE);
  await image.close();
  const alarm = await operator.refusal('volume', 'audit', 'disk', '--sample', '0');
  expect(alarm).toMatchObject({ code: 1, stderr: expect.stringContaining('audit-failed') });
  const { auditResult } = await operator.json('volume', 'show', 'disk');
  expect(auditResult).toBe('different');
  const full = await backup('disk', 'after', 'incremental');
  expect([full.kind, full.reason]).toEqual(['full', expect.stringContaining('the bitmap audit of')]);
  await expectEqual(full.id, 'disk-after', await digest('disk'));
  expect(await tidemark('volume', 'audit', 'disk', '--sample', '0')).toMatch(/: equal/);
  expect((await backup('disk', 'later', 'incremental')).kind).toBe('incremental');
});
