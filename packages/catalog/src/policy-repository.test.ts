// Goal: of several that plan at once each due moment becomes one firing; old firings go, with their members. Method:
// a database of its own and a clock that is set by hand.
import { randomUUID } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import type { Catalog, PolicyDefinition } from './index.ts';
import { openTestCatalog } from './testing/index.ts';

const HOUR_MS = 3_600_000;
const GRACE = { graceMs: 300_000 };
const DEFINITION: PolicyDefinition = {
  ...{
    description: '',
    selector: 'app=none',
    kind: 'checkpoint',
    fullEvery: 0,
    repositoryId: null,
    replicaIds: [],
  },
  schedule: { cron: '@hourly', timeZone: 'UTC', missed: 'all', missedMax: 3, jitterMs: 0 },
  ...{
    keep: null,
    verifyPercent: 0,
    concurrency: 1,
    bandwidth: [],
    priority: 1,
    dropOldest: true,
    grouped: null,
  },
  retry: { times: 0, delayMs: 0 },
};
let catalog: Catalog;
let nowMs: number;
let id: string;

beforeEach(async () => {
  nowMs = Date.parse('2026-05-01T08:30Z');
  ({ catalog } = await openTestCatalog({ clock: () => new Date(nowMs) }));
  id = randomUUID();
  await catalog.policies.create({ id, name: 'nightly', enabled: true, definition: DEFINITION });
});

const firings = async () => (await catalog.firings.list({ policyId: id })).items;

test('however many plan at once, each due moment is planned once', async () => {
  nowMs += HOUR_MS;
  const planned = await Promise.all(Array.from({ length: 8 }, () => catalog.policies.planDue(id, GRACE)));
  expect(planned.toSorted()).toEqual([0, 0, 0, 0, 0, 0, 0, 1]);
  expect(await firings()).toMatchObject([{ number: 0, cause: 'missed', state: 'planned' }]);
  expect(await catalog.policies.listDue(new Date(nowMs))).toEqual([]);
});

test('a firing begins once, and one of no volumes ends', async () => {
  const firingId = await catalog.policies.fire(id);
  const begun = await Promise.all([1, 2, 3].map(() => catalog.firings.begin(firingId)));
  expect(begun.filter(firing => firing !== null)).toHaveLength(1);
  expect(await catalog.firings.listToFinish()).toEqual([firingId]);
  expect((await firings())[0]!.reason).toContain('no volume has the labels');
});

test('a clock that is set back begins anew, and plans what is due then', async () => {
  nowMs += 24 * HOUR_MS;
  await catalog.policies.planDue(id, GRACE);
  const before = (await firings()).length;
  nowMs -= 24 * HOUR_MS;
  expect(await catalog.policies.listDue(new Date(nowMs))).toEqual([id]);
  await catalog.policies.planDue(id, GRACE);
  nowMs += HOUR_MS;
  await catalog.policies.planDue(id, GRACE);
  expect((await firings()).length).toBe(before + 1);
});

test('firings that ended long ago are forgotten', async () => {
  const [old, young] = [await catalog.policies.fire(id), await catalog.policies.fire(id)];
  const end = (firingId: string) =>
    catalog.transaction(async nouns => {
      const { firing } = (await nouns.firings.lockToFinish(firingId))!;
      await nouns.firings.finish(firing, { failed: false, reason: null });
    });
  await catalog.firings.begin(old);
  await end(old);
  nowMs += 10 * HOUR_MS;
  await catalog.firings.begin(young);
  await end(young);
  expect(await catalog.firings.forget(id, { olderThanMs: 5 * HOUR_MS })).toBe(1);
  expect((await firings()).map(firing => firing.id)).toEqual([young]);
});
