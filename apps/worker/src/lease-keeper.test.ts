// Goal: a worker lets go of a run by itself when it can no longer be sure to hold it. Method: a catalog that
// cannot be reached.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { Catalog } from '@tidemark/catalog';
import { expect, test } from 'vitest';
import { LeaseKeeper } from './lease-keeper.ts';
import { WORKER_LIMITS } from './limits.ts';

test('a lease that cannot be renewed is let go when it runs out, not before', async () => {
  const catalog = Catalog.connect('postgres://nobody@127.0.0.1:9/nothing');
  const limits = { ...WORKER_LIMITS, leaseMs: 400, renewMs: 40 };
  const lease = { runId: randomUUID(), owner: 'w', epoch: 1 };
  const claimedAtMs = performance.now();
  const keeper = new LeaseKeeper(catalog, lease, limits, claimedAtMs);
  keeper.start({ cancelRequested: false });
  await once(keeper.lost, 'abort');
  expect(performance.now() - claimedAtMs).toBeGreaterThanOrEqual(limits.leaseMs);
  expect(keeper.lost.reason).toMatchObject({ code: 'run-superseded' });
  await keeper.close();
  await catalog.close();
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
