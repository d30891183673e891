// Goal: an operator has backups copied to another repository from a shell, once and by rule, and sees what is missing.
// Method: as in tidemark.test.ts.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Shell } from './support/shell.ts';

let shell: Shell;
const tidemark = (...args: string[]) => shell.run(...args);
const done = (...args: string[]) => shell.done(...args);

beforeAll(async () => {
  shell = await Shell.open();
  await done('storage-node', 'add', 'alpha', '--control-address', 'alpha.example:7411');
  for (const name of ['nightly', 'offsite'])
    await done('repository', 'create', name, '--storage-node', 'alpha');
  await done('volume', 'create', 'web', '--storage-node', 'alpha', '--size', '1MiB');
  const place = ['--volume', 'web', '--repository', 'nightly'];
  await done('backup', 'create', ...place, '--checkpoint', 'one', '--kind', 'full');
  await done('backup', 'create', ...place, '--checkpoint', 'two', '--kind', 'incremental');
});

afterAll(() => shell.close());

const rule = (...args: string[]) => done('replication', 'rule', ...args);

test('a rule is made, looked at, changed and deleted', async () => {
  const made = await rule('create', 'away', '--source', 'nightly', '--target', 'offsite', '--keep-last', '3');
  expect(made).toMatch(/^SOURCE +nightly$/m);
  expect(made).toMatch(/^KEEPS +last 3$/m);
  expect(made).toMatch(/^MISSING +2 backups, 128 KiB$/m);
  expect(await rule('set', 'away', '--keep-last', '1')).toMatch(/^MISSING +1 backup, /m);
  expect(await rule('set', 'away', '--keep-last', '3')).toMatch(/^KEEPS +last 3$/m);
  expect(await rule('list')).toMatch(/^away +nightly +offsite +- +yes +last 3$/m);
  const changed = await rule('set', 'away', '--enabled', 'no', '--keep-all', '--selector', 'tier=gold');
  expect(changed).toMatch(/^ENABLED +no$/m);
  expect(changed).toMatch(/^KEEPS +everything$/m);
  expect(changed).toMatch(/^MISSING +0 backups/m);
  const slow = await rule('set', 'away', '--speed', '1MiB', '--newest-first', 'yes', '--selector', '');
  expect(slow).toMatch(/^SPEED +1 MiB$/m);
  expect(slow).toMatch(/^FIRST +newest$/m);
  expect(await rule('show', 'away')).toMatch(/^MISSING +2 backups/m);
  expect(await rule('delete', 'away')).toContain('stays in offsite');
  const gone = await tidemark('replication', 'rule', 'show', 'away');
  expect([gone.exit, gone.err]).toEqual([1, expect.stringContaining('code: replication-rule-not-found')]);
  expect((await tidemark('replication', 'rule', 'set', 'away', '--enabled', 'maybe')).exit).toBe(2);
});

test('a backup is replicated with what it stands on, and not twice', async () => {
  const listed = await done('--json', 'backup', 'list', '--repository', 'nightly');
  const two = JSON.parse(listed).items.find(({ checkpoint }: { checkpoint: string }) => checkpoint === 'two');
  const shown = await done('backup', 'replicate', two.id, '--repository', 'offsite');
  expect(shown).toMatch(new RegExp(`^REPLICA OF +${two.id}$`, 'm'));
  expect(shown).toMatch(/^STATE +available$/m);
  expect(shown).toMatch(/^REPOSITORY +offsite$/m);
  const there = await done('backup', 'list', '--repository', 'offsite');
  expect(there.match(/^ID +VOLUME +CHECKPOINT +REPOSITORY .*\n\S+ +web +\S+ +offsite /m)).not.toBeNull();
  expect(there.match(/\b(one|two)\b/g)?.sort()).toEqual(['one', 'two']);
  const again = await tidemark('backup', 'replicate', two.id, '--repository', 'offsite');
  expect([again.exit, again.err]).toEqual([1, expect.stringContaining('code: backup-exists')]);
});
