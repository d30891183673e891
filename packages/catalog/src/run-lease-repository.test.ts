// Goal: one worker at a time drives a run; a lease that ran out goes to the next, at a higher epoch, and the
// one before it can change nothing more. Method: two owners take turns on a real database.
import { randomUUID } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import { Catalog } from './catalog.ts';
import type { Lease } from './run-lease-repository.ts';
import { inDatabase, openTestCatalog, type TestDatabase } from './testing/index.ts';

const LONG_MS = 60_000;
const error = { code: 'io-error', message: 'm' };
let database: TestDatabase;
let catalog: Catalog;
let runId: string;

beforeEach(async () => {
  ({ catalog, database } = await openTestCatalog());
  runId = randomUUID();
  await catalog.runs.create({ id: runId, kind: 'backup', request: { some: 'thing' } });
});

const claim = (owner: string, { leaseMs = LONG_MS, attempt = 1 } = {}) =>
  catalog.leases.claim(runId, { owner, leaseMs, attempt });
const take = async (owner: string, options?: { leaseMs?: number; attempt?: number }): Promise<Lease> =>
  (await claim(owner, options))!.lease;
const expire = () => new Promise(resolve => setTimeout(resolve, 30));

test('of many that claim at once, one gets the run', async () => {
  const claims = await Promise.all(Array.from({ length: 8 }, (_, n) => claim(`w${n}`)));
  const won = claims.filter(found => found !== null);
  expect(won).toHaveLength(1);
  expect(won[0]).toMatchObject({ run: { state: 'running', leaseEpoch: 1 }, lease: { epoch: 1 } });
  expect(won[0]!.run.startedAt).not.toBeNull();
});

test('a step that failed shows its error until it has succeeded', async () => {
  const lease = await take('a');
  const step = async () => (await catalog.runs.get(runId)).steps[0];
  await catalog.leases.startStep(lease, 's');
  await catalog.leases.failStep(lease, 's', error);
  await catalog.leases.startStep(lease, 's');
  expect(await step()).toMatchObject({ state: 'running', error });
  await catalog.leases.finishStep(lease, 's', { a: 1 });
  expect(await step()).toMatchObject({ state: 'succeeded', error: null, output: { a: 1 } });
});

test('a claim of another attempt gets nothing', async () => {
  expect(await claim('a', { attempt: 2 })).toBeNull();
});

test('a lease that ran out goes to the next epoch, and every write of the old one is refused', async () => {
  const old = await take('a', { leaseMs: 1 });
  await expire();
  expect(await catalog.runs.listDispatchable(10)).toEqual([]);
  expect(await catalog.runs.takeOverExpired()).toEqual([{ id: runId, attempt: 2 }]);
  expect(await catalog.runs.listDispatchable(10)).toEqual([{ id: runId, attempt: 2, priority: 0 }]);
  const next = await take('b', { attempt: 2 });
  expect(next.epoch).toBe(2);
  const writes = [
    () => catalog.leases.renew(old, LONG_MS),
    () => catalog.leases.startStep(old, 's'),
    () => catalog.leases.finishStep(old, 's', {}),
    () => catalog.leases.failStep(old, 's', error),
    () => catalog.leases.markUndone(old, 's'),
    () => catalog.leases.update(old, { reason: 'no' }),
    () => catalog.leases.beginUndo(old, error),
    () => catalog.leases.finish(old, { state: 'succeeded' }),
    () => catalog.leases.handBack(old, { delayMs: 0 }),
    () => catalog.leases.finishCleanup(old, null),
  ];
  for (const write of writes) await expect(write()).rejects.toMatchObject({ code: 'run-superseded' });
  expect(await catalog.runs.get(runId)).toMatchObject({
    state: 'running',
    reason: null,
    steps: [],
    attempt: 2,
  });
});

test('renewing holds the run, and tells of a cancel request', async () => {
  const lease = await take('a', { leaseMs: 200 });
  expect(await catalog.leases.renew(lease, LONG_MS)).toMatchObject({ cancelRequested: false });
  await new Promise(resolve => setTimeout(resolve, 220));
  expect(await catalog.runs.takeOverExpired()).toEqual([]);
  await catalog.runs.requestCancel(runId);
  expect(await catalog.leases.renew(lease, LONG_MS)).toMatchObject({ cancelRequested: true });
});

test('steps keep their order, state and output over attempts', async () => {
  const lease = await take('a');
  await catalog.leases.startStep(lease, 'one');
  await catalog.leases.finishStep(lease, 'one', { uri: 'nbd://x' });
  await catalog.leases.startStep(lease, 'two');
  await catalog.leases.failStep(lease, 'two', error);
  await catalog.leases.handBack(lease, { delayMs: 0, error });
  const second = await take('b', { attempt: 2 });
  await catalog.leases.startStep(second, 'two');
  const { steps, failures } = await catalog.runs.get(runId);
  expect(failures).toBe(1);
  expect(steps).toMatchObject([
    { name: 'one', state: 'succeeded', output: { uri: 'nbd://x' }, error: null },
    { name: 'two', state: 'running', finishedAt: null },
  ]);
});

test('the next step begins at the moment at which the one before ends, or neither does', async () => {
  const lease = await take('a');
  await catalog.leases.startStep(lease, 'one');
  await catalog.leases.finishStep(lease, 'one', {}, { next: 'two' });
  const [one, two] = (await catalog.runs.get(runId)).steps;
  expect([one, two]).toMatchObject([
    { name: 'one', state: 'succeeded' },
    { name: 'two', state: 'running', output: null, finishedAt: null },
  ]);
  expect(two!.startedAt).toEqual(one!.finishedAt);
  const old = { ...lease, epoch: lease.epoch - 1 };
  const late = catalog.leases.finishStep(old, 'two', {}, { next: 'three' });
  await expect(late).rejects.toMatchObject({ kind: 'superseded' });
  expect((await catalog.runs.get(runId)).steps).toMatchObject([{ name: 'one' }, { state: 'running' }]);
});

test('a run handed back waits as long as told, and a cancel request ends the wait', async () => {
  const attempt = await catalog.leases.handBack(await take('a'), { delayMs: LONG_MS, error });
  expect(attempt).toBe(2);
  expect(await catalog.runs.listDispatchable(10)).toEqual([]);
  expect(await claim('b', { attempt })).toBeNull();
  await catalog.runs.requestCancel(runId);
  expect(await catalog.runs.listDispatchable(10)).toEqual([{ id: runId, attempt, priority: 0 }]);
  expect(await claim('b', { attempt })).not.toBeNull();
});

test('an ended run cannot be claimed or cancelled, and is not dispatched', async () => {
  const lease = await take('a');
  const progress = { currentBytes: 2 ** 40, totalBytes: 2 ** 41, sentBytes: 5, dirtyBytes: 6 };
  await catalog.leases.update(lease, { progress, checkpointAt: new Date(5), reason: 'full: asked for' });
  await catalog.leases.finish(lease, { state: 'succeeded', result: { backupId: 'x' } });
  expect(await catalog.runs.get(runId)).toMatchObject({
    state: 'succeeded',
    result: { backupId: 'x' },
    progress,
    checkpointAt: new Date(5),
    leaseOwner: null,
  });
  expect(await claim('b')).toBeNull();
  expect(await catalog.runs.listDispatchable(10)).toEqual([]);
  await expect(catalog.runs.requestCancel(runId)).rejects.toMatchObject({ code: 'run-ended' });
});

test('a run with something left to clean up is dispatched after its end, until it is clean', async () => {
  const lease = await take('a');
  await catalog.leases.beginUndo(lease, error);
  await catalog.leases.finish(lease, { state: 'failed', error, cleanupInMs: 0 });
  expect(await catalog.runs.listDispatchable(10)).toEqual([{ id: runId, attempt: 2, priority: 0 }]);
  const second = await take('b', { attempt: 2 });
  expect((await catalog.runs.get(runId)).state).toBe('failed');
  await catalog.leases.finishCleanup(second, null);
  expect(await catalog.runs.listDispatchable(10)).toEqual([]);
  expect(await catalog.runs.get(runId)).toMatchObject({ state: 'failed', error, cleanupPending: false });
});

test('looking for runs to hand over does not read the history', async () => {
  const ended = 20_000;
  await inDatabase(database.url, async client => {
    await client.query(`INSERT INTO run (id, kind, state, request, created_at)
      SELECT gen_random_uuid(), 'backup', 'succeeded', '{}', now() - interval '1 day'
      FROM generate_series(1, ${ended})`);
    await client.query('ANALYZE run');
  });
  const reads = async () =>
    inDatabase(database.url, async client => {
      const { rows } = await client.query(`SELECT (seq_tup_read + idx_tup_fetch)::int AS rows,
        (SELECT sum(idx_tup_read)::int FROM pg_stat_user_indexes WHERE relname = 'run') AS entries
        FROM pg_stat_user_tables WHERE relname = 'run'`);
      return rows[0].rows + rows[0].entries;
    });
  const before = await reads();
  const fresh = Catalog.connect(database.url);
  expect(await fresh.runs.takeOverExpired()).toEqual([]);
  expect(await fresh.runs.listDispatchable(500)).toEqual([{ id: runId, attempt: 1, priority: 0 }]);
  // The server counts what a connection has read at its end.
  await fresh.close();
  await expect.poll(reads).toBeGreaterThan(before);
  expect((await reads()) - before).toBeLessThan(ended / 10);
});

test('failures are all shown, and count against the run since its last progress alone', async () => {
  const counts = async () => {
    const { failures, failuresInARow, targetAwayMs } = await catalog.runs.get(runId);
    return [failures, failuresInARow, targetAwayMs];
  };
  let attempt = 1;
  const again = async () => take('a', { attempt });
  const fail = async (more: { targetAwayMs?: number } = {}) => {
    attempt = await catalog.leases.handBack(await again(), { delayMs: 0, error, ...more });
  };
  await fail();
  await fail({ targetAwayMs: 250 });
  expect(await counts()).toEqual([2, 1, 250]);
  attempt = await catalog.leases.handBack(await again(), { delayMs: 0 });
  expect(await counts(), 'nothing failed').toEqual([2, 1, 250]);
  const lease = await again();
  await catalog.leases.update(lease, { progress: { currentBytes: 1 } });
  expect(await counts()).toEqual([2, 1, 250]);
  await catalog.leases.update(lease, { progress: { currentBytes: 2 }, goesOn: true });
  expect(await counts()).toEqual([2, 0, 0]);
  for (const goOn of [
    (held: Lease) => catalog.leases.finishStep(held, 's', {}),
    (held: Lease) => catalog.leases.startOver(held, { step: 's', error }),
  ]) {
    attempt = await catalog.leases.handBack(
      { runId, owner: 'a', epoch: (await catalog.runs.get(runId)).leaseEpoch },
      { delayMs: 0, error, targetAwayMs: 9 },
    );
    await fail();
    expect((await counts()).slice(1)).toEqual([1, 9]);
    const held = await again();
    await catalog.leases.startStep(held, 's');
    await goOn(held);
    expect((await counts()).slice(1)).toEqual([0, 0]);
  }
});
