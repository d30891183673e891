// Goal: a worker lets go of a run by itself when it can no longer be sure to hold it. Method: a catalog that
// cannot be reached.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { Catalog } from '@tidemark/catalog';
import { createTestDatabase, inDatabase } from '@tidemark/catalog/testing';
import { expect, test } from 'vitest';
import { LeaseKeeper } from './lease-keeper.ts';
import { WORKER_LIMITS } from './limits.ts';

/** Timers of Node.js count in whole milliseconds of their own and may fire that much early. */
const TIMER_EARLY_MS = 2;

test('a lease that cannot be renewed is let go when it runs out, not before', async () => {
  const catalog = Catalog.connect('postgres://nobody@127.0.0.1:9/nothing');
  const limits = { ...WORKER_LIMITS, leaseMs: 400, renewMs: 40 };
  const lease = { runId: randomUUID(), owner: 'w', epoch: 1 };
  const claimedAtMs = performance.now();
  const keeper = new LeaseKeeper(catalog, lease, limits, claimedAtMs);
  keeper.start({ cancelRequested: false });
  await once(keeper.lost, 'abort');
  expect(performance.now() - claimedAtMs).toBeGreaterThanOrEqual(limits.leaseMs - TIMER_EARLY_MS);
  expect(keeper.lost.reason).toMatchObject({ code: 'run-superseded' });
  await keeper.close();
  await catalog.close();
});

test('a lease whose renewal gets no answer is let go when it runs out', async () => {
  const database = await createTestDatabase();
  const catalog = Catalog.connect(database.url);
  const runId = randomUUID();
  await catalog.runs.create({ id: runId, kind: 'backup', request: {} });
  const limits = { ...WORKER_LIMITS, leaseMs: 500, renewMs: 50 };
  const claimedAtMs = performance.now();
  const { leaseMs } = limits;
  const { lease } = (await catalog.leases.claim(runId, { owner: 'w', leaseMs, attempt: 1 }))!;
  const keeper = new LeaseKeeper(catalog, lease, limits, claimedAtMs);
  await inDatabase(database.url, async client => {
    await client.query('BEGIN');
    await client.query('SELECT 1 FROM run FOR UPDATE');
    keeper.start({ cancelRequested: false });
    await once(keeper.lost, 'abort', { signal: AbortSignal.timeout(leaseMs + 1_000) });
  });
  expect(performance.now() - claimedAtMs).toBeGreaterThanOrEqual(leaseMs - TIMER_EARLY_MS);
  expect(keeper.lost.reason).toMatchObject({ code: 'run-superseded' });
  await keeper.close();
  await catalog.close();
  await database.drop();
});

test('a cancel request that came before the claim is told at once', async () => {
  const catalog = Catalog.connect('postgres://nobody@127.0.0.1:9/nothing');
  const lease = { runId: randomUUID(), owner: 'w', epoch: 1 };
  const keeper = new LeaseKeeper(catalog, lease, WORKER_LIMITS, performance.now());
  keeper.start({ cancelRequested: true });
  expect(keeper.cancelled.reason).toMatchObject({ code: 'run-cancelled' });
  await keeper.close();
  await catalog.close();
});
