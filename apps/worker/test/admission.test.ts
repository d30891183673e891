// Goal: members of a firing that cannot begin hold up nobody else. Method: a real worker and catalog, and storage nodes
// that do not answer what admission asks them.
import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Fleet, poll } from './fleet.ts';

/** On a machine that others use as well. */
const PATIENCE_MS = 150_000;
const LONG_MS = 600_000;

let fleet: Fleet;

beforeEach(async () => {
  fleet = await Fleet.open();
  const worker = await fleet.startWorker();
  await fleet.furnish();
  const made = [await fleet.createVolume('second'), await fleet.createVolume('third', 'beta')];
  for (const run of made) await fleet.succeed(run);
  await fleet.stopWorker(worker);
});
afterEach(() => fleet.close());

test('a storage node that does not answer is asked once, and not for each of its volumes', async () => {
  const { alpha, beta, catalog } = fleet;
  const { id: repositoryId } = await catalog.repositories.get('vault');
  const schedule = { cron: '0 0 1 1 *', timeZone: 'UTC', missed: 'skip', missedMax: 1, jitterMs: 0 } as const;
  const policy = await catalog.policies.create({
    ...{ id: randomUUID(), name: 'nightly', enabled: false },
    definition: {
      ...{ description: '', selector: '', schedule, kind: 'full', fullEvery: 0, repositoryId },
      ...{ replicaIds: [], keep: null, verifyPercent: 0, concurrency: 8, bandwidth: [], priority: 10 },
      ...{ retry: { times: 0, delayMs: 0 }, dropOldest: true, grouped: null },
    },
  });
  const firingId = await catalog.policies.fire(policy.id);
  const asked = () => alpha.callsOf('getVolume').length;
  const before = asked();
  let askedByThen: number | undefined;
  beta.afterNext.set('getVolume', () => {
    askedByThen = asked() - before;
  });
  alpha.fail('getVolume', 'storage-node-unreachable');
  await fleet.startWorker({ policyWaitMs: LONG_MS });
  const members = await poll(
    'the volume of the other storage node',
    async () => {
      const { items } = await catalog.firings.members({ firingId });
      return items.some(({ state }) => state === 'succeeded') ? items : undefined;
    },
    PATIENCE_MS,
  );
  expect(askedByThen).toBe(1);
  const waiting = members.filter(({ state }) => state === 'waiting');
  expect(waiting.map(({ volumeName }) => volumeName).sort()).toEqual(['disk', 'second']);
  for (const { reason, notBefore } of waiting) {
    expect(reason).toContain('alpha');
    expect(notBefore!.getTime()).toBeGreaterThan(Date.now());
  }
}, 300_000);
