// Goal: an operator makes, looks at and deletes groups from a shell, is shown the proof and each member, and is told by
// the exit status when not all of a group came about. Method: as in tidemark.test.ts.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Shell } from './support/shell.ts';

let shell: Shell;
const tidemark = (...args: string[]) => shell.run(...args);
const done = (...args: string[]) => shell.done(...args);

beforeAll(async () => {
  shell = await Shell.open();
  await done('storage-node', 'add', 'alpha', '--control-address', 'alpha.example:7411');
  await done('repository', 'create', 'nightly', '--storage-node', 'alpha');
  for (const name of ['web', 'db']) {
    await done('volume', 'create', name, '--storage-node', 'alpha', '--size', '1MiB', '--label', 'app=shop');
  }
});

afterAll(() => shell.close());

/** Of the newest run. */
const request = async () =>
  (await shell.app.catalog.runs.list({ kind: 'create-group', limit: 1 })).items[0]!.request;

test('a group is made, shown with its proof, listed and deleted', async () => {
  const { exit, out, err } = await tidemark('group', 'create', 'monday', '--selector', 'app=shop');
  expect([exit, err]).toEqual([0, expect.stringMatching(/^create-group .*: succeeded$/m)]);
  expect(out).toMatch(/^NAME +monday$/m);
  expect(out).toMatch(/^SELECTOR +app=shop$/m);
  expect(out).toMatch(/^LONGEST WAIT +3\.5 ms$/m);
  expect(out).toMatch(/^VOLUME +STATE +CHECKPOINT +BACKUP +ERROR\ndb +ready .*\nweb +ready /m);
  expect(out).toMatch(/^alpha +1\.0 ms +2\.0 ms +3\.0 ms +yes, 2\.5 ms +3\.5 ms$/m);
  expect(await done('group', 'list')).toMatch(
    /^ID +NAME +KIND +STATE.*\n\S+ +monday +checkpoint +ready +2 /m,
  );
  expect(await done('group', 'list', '--state', 'failed')).toBe('none\n');
  expect(await done('group', 'show', 'monday')).toBe(out);
  expect(await done('group', 'delete', 'monday')).toBe('group monday is deleted\n');
  const gone = await tidemark('group', 'show', 'monday');
  expect([gone.exit, gone.err]).toEqual([1, expect.stringMatching(/^code: group-not-found$/m)]);
});

test('options are passed on, and refused where they make no sense', async () => {
  const place = [
    '--volume',
    'web',
    '--volume',
    'db',
    '--backup',
    'nightly',
    '--kind',
    'full',
    '--speed',
    '1MiB',
  ];
  const how = ['--completion', 'individual', '--fence-limit', '250', '--description', 'before'];
  const hooks = ['--hook', 'alpha=quiesce', '--webhook', 'http://db.example/freeze', '--hook-timeout', '500'];
  const out = await done('group', 'create', 'tuesday', ...place, ...how, ...hooks, '--no-wait');
  expect(out).toMatch(/^accepted as create-group run \S+; follow it with: tidemark run watch /);
  await expect.poll(() => done('group', 'show', 'tuesday'), { timeout: 15_000 }).toMatch(/^STATE +ready$/m);
  expect(await request()).toMatchObject({
    ...{ name: 'tuesday', completion: 'individual', fenceLimitMs: 250, description: 'before' },
    backup: { speedBytesPerSecond: 1_048_576 },
    hooks: [
      { command: 'quiesce', storageNode: 'alpha', timeoutMs: 500 },
      { webhook: 'http://db.example/freeze', timeoutMs: 500 },
    ],
  });
  for (const args of [
    ['--volume', 'web', '--selector', 'app=shop'],
    ['--volume', 'web', '--hook', 'quiesce'],
    ['--volume', 'web', '--fence-limit', 'long'],
  ]) {
    expect((await tidemark('group', 'create', 'wednesday', ...args)).exit, args.join(' ')).toBe(2);
  }
  const none = await tidemark('group', 'create', 'wednesday');
  expect([none.exit, none.err]).toEqual([2, expect.stringContaining('Say which volumes')]);
});

test('what would be left out without a word is refused', async () => {
  const refused = async (...args: string[]) => {
    const { exit, err } = await tidemark('group', 'create', 'bare', '--volume', 'web', ...args);
    return [exit, err];
  };
  expect(await refused('--kind', 'full')).toEqual([2, expect.stringContaining('say with --backup')]);
  expect(await refused('--hook-timeout', '10')).toEqual([2, expect.stringContaining('--webhook')]);
  expect((await tidemark('group', 'show', 'bare')).exit).toBe(1);
});

test('the checkpoints that go for those of the group are named', async () => {
  await done('volume', 'create', 'tight', '--storage-node', 'alpha', '--size', '1MiB');
  await done('group', 'create', 'first', '--volume', 'tight');
  const { volumes, checkpoints } = shell.app.catalog;
  const { id } = await volumes.get('tight');
  await volumes.update(id, { checkpointLimit: 1 });
  const refused = await tidemark('group', 'create', 'second', '--volume', 'tight');
  expect(refused.err).toMatch(/^code: checkpoint-limit$/m);
  const first = await checkpoints.get(id, 'first');
  const dropped = [{ volume: 'tight', id: first.id, name: 'first' }];
  shell.worker.endNextGroup({ state: 'ready', failed: [], notThawed: [], dropped, notDropped: [] });
  const out = await done('group', 'create', 'second', '--volume', 'tight', '--drop-oldest');
  expect(out).toMatch(/^dropped checkpoint first of tight$/m);
  expect((await request()).members).toMatchObject([{ volume: 'tight', dropCheckpointIds: [first.id] }]);
});

test('a group whose backups did not all come about is no success', async () => {
  const failed = [{ volume: 'db', code: 'moment-lost', message: 'The scratch is full.' }];
  shell.worker.endNextGroup({ state: 'incomplete', failed, notThawed: [] });
  const made = await tidemark('group', 'create', 'thursday', '--volume', 'web');
  expect([made.exit, made.err]).toEqual([
    1,
    expect.stringContaining('db: moment-lost: The scratch is full.'),
  ]);
  expect(made.err).toMatch(/^code: group-incomplete$/m);
  shell.worker.endNextGroup({
    state: 'ready',
    failed: [],
    notThawed: ["'quiesce' of storage node alpha: it hangs"],
  });
  const frozen = await tidemark('group', 'create', 'friday', '--volume', 'web');
  expect([frozen.exit, frozen.err]).toEqual([1, expect.stringContaining('alpha: it hangs')]);
  expect(frozen.out).toMatch(/^NAME +friday$/m);
});
