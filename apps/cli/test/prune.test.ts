// Goal: an operator sees from a shell what a prune would do, has it done, and protects what must stay. Method: as in
// tidemark.test.ts.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Shell } from './support/shell.ts';

let shell: Shell;
const tidemark = (...args: string[]) => shell.run(...args);
const done = (...args: string[]) => shell.done(...args);

beforeAll(async () => {
  shell = await Shell.open();
  await done('storage-node', 'add', 'alpha', '--control-address', 'alpha.example:7411');
  await done('repository', 'create', 'nightly', '--storage-node', 'alpha');
  await done('volume', 'create', 'web', '--storage-node', 'alpha', '--size', '1MiB');
  for (const checkpoint of ['one', 'two', 'three']) {
    await done(
      'backup',
      'create',
      '--volume',
      'web',
      '--repository',
      'nightly',
      '--checkpoint',
      checkpoint,
      '--kind',
      'full',
    );
  }
});

afterAll(() => shell.close());

const prune = (...args: string[]) => done('prune', '--repository', 'nightly', ...args);
const names = async () => (await done('backup', 'list')).match(/\b(one|two|three)\b/g);

test('what a prune would do is shown, done when asked, and what is protected stays', async () => {
  const plan = await prune('--keep-last', '1', '--dry-run', '--time-zone', 'UTC');
  expect(plan).toMatch(/^BACKUP +VOLUME +CHECKPOINT +POINT IN TIME +GOES +FREES +WHY$/m);
  expect(plan).toMatch(/ three .* no +- +last 1$/m);
  expect(plan).toMatch(/ two .* yes +<= 64 KiB +no rule keeps it; its checkpoint goes, too$/m);
  expect(plan).toMatch(/^2 of 3 go; at most 128 KiB come back$/m);
  expect(await names()).toEqual(['three', 'two', 'one']);
  const [, , , one] = plan.split('\n').map(line => line.split(' ')[0]!);
  expect(await done('backup', 'pin', one!, '--until', '2099-12-31')).toMatch(
    /^PINNED UNTIL +2099-12-31 00:00:00Z$/m,
  );
  expect(await prune('--keep-last', '1', '--dry-run')).toContain('pinned until 2099-12-31T00:00:00.000Z');
  expect(await prune('--keep-last', '1')).toMatch(/^removed \d+ backups/);
  expect(await names()).toEqual(['three', 'one']);
  const refused = await tidemark('backup', 'delete', one!);
  expect([refused.exit, refused.err]).toEqual([1, expect.stringContaining('code: backup-pinned')]);
  await done('backup', 'unpin', one!);
  await done('backup', 'describe', one!, 'the first');
  expect(await done('backup', 'show', one!)).toMatch(/^DESCRIPTION +the first$/m);
  await done('backup', 'delete', one!);
  expect(await names()).toEqual(['three']);
});

test('a prune without a rule is refused, and a moment that is none is not understood', async () => {
  const nothing = await tidemark('prune', '--repository', 'nightly');
  expect(nothing.err).toContain('Nothing would be kept.');
  expect((await tidemark('backup', 'pin', 'x', '--until', 'soon')).exit).toBe(2);
});
