// Goal: events go when they are too old, several workers at it, and never when they are kept for ever. Method: real
// catalogs, and a clock that is far ahead.
import { randomUUID } from 'node:crypto';
import { Catalog } from '@tidemark/catalog';
import { createTestDatabase, type TestDatabase } from '@tidemark/catalog/testing';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { eventPruner } from './event-pruner.ts';
import { WORKER_LIMITS } from './limits.ts';

const DAY_MS = 86_400_000;
const log = pino({ level: 'silent' });
let database: TestDatabase;
let catalog: Catalog;

beforeEach(async () => {
  database = await createTestDatabase();
  catalog = Catalog.connect(database.url);
  for (let n = 0; n < 5; n++) {
    await catalog.storageNodes.create({ id: randomUUID(), name: `n${n}`, controlAddress: `n${n}.example:1` });
  }
});
afterEach(async () => {
  await catalog.close();
  await database.drop();
});

function pruner(daysAhead: number, eventRetentionMs = 30 * DAY_MS) {
  const limits = { ...WORKER_LIMITS, eventRetentionMs, eventPruneMax: 2, eventPruneMs: 1 };
  return eventPruner({ catalog, limits, log, now: () => Date.now() + daysAhead * DAY_MS });
}

test('two workers remove what is older than it is kept', async () => {
  const both = [pruner(31), pruner(31)];
  for (const one of both) one.start();
  await expect.poll(async () => (await catalog.events.listAfter(0)).length, { timeout: 60_000 }).toBe(0);
  for (const one of both) await one.close();
  const { newest, prunedUpTo } = await catalog.events.ends();
  expect(prunedUpTo).toBe(newest);
  await expect(catalog.events.requireKept(1)).rejects.toMatchObject({ code: 'events-pruned' });
});

test('what is younger stays, and all of it where events are kept for ever', async () => {
  for (const one of [pruner(29), pruner(40_000, 0)]) {
    one.start();
    // A beat that is under way is waited for.
    await one.close();
  }
  expect(await catalog.events.listAfter(0)).toHaveLength(5);
});
