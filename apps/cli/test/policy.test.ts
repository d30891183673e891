// Goal: an operator makes a policy from a shell, sees what it would do, switches it on, fires it and looks at what
// became of it. Method: as in tidemark.test.ts; the worker's part of a firing is played by the catalog.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Shell } from './support/shell.ts';

let shell: Shell;
const tidemark = (...args: string[]) => shell.run(...args);
const done = (...args: string[]) => shell.done(...args);

beforeAll(async () => {
  shell = await Shell.open();
  await done('storage-node', 'add', 'alpha', '--control-address', 'alpha.example:7411');
  await done('repository', 'create', 'vault', '--storage-node', 'alpha');
  await done('volume', 'create', 'web', '--storage-node', 'alpha', '--size', '1MiB');
});

afterAll(() => shell.close());

test('a policy is made, simulated, switched, changed, fired and deleted', async () => {
  const made = await done(
    ...['policy', 'create', 'nightly', '--repository', 'vault', '--cron', '30 2 * * *'],
    ...['--time-zone', 'Europe/Berlin', '--keep-daily', '2', '--full-every', '7', '--jitter', '60'],
    ...['--bandwidth', '08:00-18:00@1,2,3,4,5=50MiB', '--bandwidth', '18:00-08:00=0', '--retries', '1'],
  );
  expect(made).toMatch(/^STATE +disabled$/m);
  expect(made).toMatch(/^SCHEDULE +30 2 \* \* \* Europe\/Berlin$/m);
  for (const line of [
    ...[/^REPOSITORY +vault$/m, /^JITTER +60.0 s$/m, /^RETRIES +1, after 300.0 s$/m, /^MISSED +once$/m],
    /^BANDWIDTH +08:00-18:00@1,2,3,4,5=50 MiB\/s; 18:00-08:00=no limit$/m,
  ]) {
    expect(await done('policy', 'show', 'nightly')).toMatch(line);
  }
  const whole = JSON.parse(await done('--json', 'policy', 'show', 'nightly'));
  expect(whole).toMatchObject({
    schedule: { jitterMs: 60_000 },
    retry: { times: 1, delayMs: 300_000 },
    bandwidth: [
      { from: '08:00', to: '18:00', days: [1, 2, 3, 4, 5], bytesPerSecond: 50 * 2 ** 20 },
      { from: '18:00', to: '08:00', days: [], bytesPerSecond: 0 },
    ],
  });
  const simulated = (await done('policy', 'simulate', 'nightly', '--days', '3')).trim().split('\n');
  expect(simulated).toHaveLength(4);
  // Half past two of the policy's own clocks, summer or winter, and up to a minute of jitter.
  const local = String.raw`\d{4}-\d\d-\d\d 02:3[01]:\d\d\+0[12]:00`;
  expect(simulated[1]).toMatch(new RegExp(`^${local} +web +full +1 +-$`));
  expect(simulated[3]).toMatch(new RegExp(`^${local} +web +incremental +2 +${local}$`));
  const ofOne = ['policy', 'simulate', 'nightly', '--days', '3', '--volume', 'web'];
  expect(await done(...ofOne)).toMatch(new RegExp(`^kept at the end:\nweb ${local}: daily `, 'm'));
  const { items } = JSON.parse(await done('--json', ...ofOne));
  expect(items[0].startAt).toMatch(/T0[01]:3[01]:\d\d\.\d{3}Z$/);
  expect(await done('policy', 'enable', 'nightly')).toMatch(/^STATE +enabled$/m);
  expect(await done('policy', 'update', 'nightly', '--cron', '@hourly')).toMatch(
    /^SCHEDULE +@hourly Europe/m,
  );
  expect(await done('policy', 'list')).toMatch(/^nightly +enabled +all +@hourly/m);
  expect(await done('policy', 'disable', 'nightly')).toMatch(/^STATE +disabled$/m);
});

test('what a policy has is changed one by one, and taken away', async () => {
  const update = (...args: string[]) => done('policy', 'update', 'nightly', ...args);
  expect(await update('--keep-weekly', '4')).toMatch(/^KEEPS +daily 2, weekly 4$/m);
  expect(await update('--keep-weekly', '0')).toMatch(/^KEEPS +daily 2$/m);
  expect(await update('--no-bandwidth')).toMatch(/^TOGETHER +no$/m);
  expect(await update('--no-drop-oldest')).toMatch(/^DROPS OLDEST +no$/m);
  expect(await update('--drop-oldest')).toMatch(/^BANDWIDTH +-$/m);
  const bare = await update('--no-keep', '--no-repository', '--no-replicas', '--kind', 'checkpoint');
  expect(bare).toMatch(/^KEEPS +-$/m);
  expect(bare).toMatch(/^REPOSITORY +-$/m);
  await update('--kind', 'incremental', '--repository', 'vault', '--keep-daily', '2');
});

test('what is said of its groups is kept until it is changed, and refused where it makes none', async () => {
  const update = (...args: string[]) => done('policy', 'update', 'nightly', ...args);
  const grouped = async () => JSON.parse(await done('--json', 'policy', 'show', 'nightly')).grouped;
  for (const args of [
    ['--completion', 'grouped'],
    ['--hook', 'alpha=quiesce'],
    ['--fence-limit', '250'],
  ]) {
    const { exit, err } = await tidemark('policy', 'update', 'nightly', ...args);
    expect([exit, err], args[0]).toEqual([2, expect.stringContaining('say --grouped')]);
    const made = await tidemark(
      'policy',
      'create',
      'other',
      '--repository',
      'vault',
      '--cron',
      '@daily',
      ...args,
    );
    expect([made.exit, made.err], args[0]).toEqual([2, expect.stringContaining('say --grouped')]);
  }
  expect(await grouped()).toBeNull();
  const webhook = ['--webhook', 'http://db.example/freeze?key=secret'];
  const shown = await update('--grouped', '--hook', 'alpha=quiesce', ...webhook, '--hook-timeout', '500');
  expect(shown).toMatch(/^TOGETHER +yes, fence limit 500 ms$/m);
  expect(shown).toMatch(/^COMPLETION +individual$/m);
  expect(shown).toMatch(
    /^HOOKS +alpha=quiesce, 0\.5 s at most; http:\/\/db\.example\/freeze, 0\.5 s at most$/m,
  );
  const { id } = JSON.parse(await done('--json', 'storage-node', 'show', 'alpha'));
  const hooks = [
    { command: 'quiesce', storageNode: id, timeoutMs: 500 },
    { webhook: webhook[1], timeoutMs: 500 },
  ];
  await update('--completion', 'grouped');
  await update('--fence-limit', '250');
  expect(await grouped()).toEqual({ fenceLimitMs: 250, completion: 'grouped', hooks });
  expect(await update('--grouped')).toMatch(/^TOGETHER +yes, fence limit 250 ms$/m);
  for (const args of [
    ['--hook-timeout', '500'],
    ['--no-grouped', '--completion', 'grouped'],
    ['--no-hooks', '--hook', 'alpha=quiesce'],
    ['--completion', 'some'],
  ]) {
    expect((await tidemark('policy', 'update', 'nightly', ...args)).exit, args.join(' ')).toBe(2);
  }
  expect(await update('--no-hooks')).toMatch(/^HOOKS +-$/m);
  expect(await grouped()).toEqual({ fenceLimitMs: 250, completion: 'grouped', hooks: [] });
  expect(await update('--no-grouped')).toMatch(/^TOGETHER +no$/m);
});

test('a firing is waited for, and shown with its volumes', async () => {
  const firing = done('policy', 'fire', 'nightly');
  await expect.poll(async () => (await shell.app.catalog.firings.listToBegin()).length).toBe(1);
  const [id] = await shell.app.catalog.firings.listToBegin();
  await shell.app.catalog.firings.begin(id!);
  expect(await done('policy', 'runs', 'nightly')).toMatch(/ asked +running +1 waiting /);
  expect(await done('policy', 'runs', 'nightly', id!)).toMatch(/^web +full +waiting /m);
  const all = { policyIds: [], storageNodeIds: [], repositoryIds: [] };
  const [member] = await shell.app.catalog.admissions.candidates(all, 1);
  await shell.app.catalog.admissions.end(member!.id, { from: 'waiting', state: 'failed', reason: 'no luck' });
  const end = () =>
    shell.app.catalog.transaction(async catalog => {
      const found = await catalog.firings.lockToFinish(id!);
      await catalog.firings.finish(found!.firing, { failed: true, reason: null });
    });
  await end();
  expect(await firing).toMatch(/^STATE +failed$/m);
  expect(await done('policy', 'retry', 'nightly', id!, '--no-wait')).toMatch(/^STATE +running$/m);
  const deleted = await done('policy', 'delete', 'nightly');
  expect(deleted).toMatch(/^NAME +nightly$/m);
  expect(deleted).toMatch(/^STATE +deleted; its backups stay$/m);
  expect((await tidemark('policy', 'show', 'nightly')).exit).toBe(1);
});

test('what is not understood says what to give', async () => {
  const bad = await tidemark('policy', 'create', 'x', '--bandwidth', 'always=1');
  expect([bad.exit, bad.err]).toEqual([2, expect.stringContaining('08:00-18:00=50MiB')]);
});
