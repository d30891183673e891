// Goal: what a storage node says of itself neither undoes what an operator does at the same moment nor brings back one
// that was given up. Method: a real database in which a second client holds the row halfway.
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { beforeEach, expect, test } from 'vitest';
import type { Catalog } from './catalog.ts';
import { openTestCatalog, type TestDatabase } from './testing/index.ts';

const REPORT = {
  ...{ instanceId: 'instance-alpha', nbdAddress: '127.0.0.1:10809', version: '1.0.0' },
  ...{ capacityBytes: 2_000, availableBytes: 1_000, labels: { rack: 'r1' } },
};

let database: TestDatabase;
let catalog: Catalog;
let id: string;

beforeEach(async () => {
  ({ catalog, database } = await openTestCatalog());
  id = randomUUID();
  await catalog.storageNodes.create({ id, name: 'alpha', controlAddress: '127.0.0.1:7400' });
  await catalog.storageNodes.markOnline(id, REPORT);
});

/** Changes the row, and commits once somebody waits for it. */
async function whileSomebodyWaits(sql: string, others: () => Promise<unknown>): Promise<void> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    await client.query('BEGIN');
    await client.query(sql, [id]);
    const done = others();
    done.catch(() => {});
    const waiting = `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
    await expect.poll(async () => (await client.query(waiting)).rowCount, { timeout: 10_000 }).toBe(1);
    await client.query('COMMIT');
    await done;
  } finally {
    await client.end();
  }
}

test('labels that an operator sets while it answers stay beside its own', async () => {
  const change = `UPDATE storage_node SET labels = '{"rack": "r9", "tier": "gold"}' WHERE id = $1`;
  await whileSomebodyWaits(change, () => catalog.storageNodes.markOnline(id, REPORT));
  expect((await catalog.storageNodes.get(id)).labels).toEqual({ rack: 'r1', tier: 'gold' });
});

test('one that is given up while it answers stays lost', async () => {
  await catalog.storageNodes.markUnreachable(id, 'gone');
  const change = `UPDATE storage_node SET state = 'lost', cordoned_at = now() WHERE id = $1`;
  await whileSomebodyWaits(change, async () => {
    await expect(catalog.storageNodes.markOnline(id, REPORT)).rejects.toMatchObject({
      code: 'storage-node-lost',
    });
  });
  expect(await catalog.storageNodes.get(id)).toMatchObject({ state: 'lost' });
});

test('what answers as before is only seen, and what is news is not', async () => {
  const before = await catalog.storageNodes.get(id);
  const { newest } = await catalog.events.ends();
  const report = { ...REPORT, availableBytes: 500 };
  expect(await catalog.storageNodes.stillOnline(id, report)).toBe(true);
  const seen = await catalog.storageNodes.get(id);
  expect(seen).toEqual({ ...before, availableBytes: 500, lastSeenAt: seen.lastSeenAt });
  expect(seen.lastSeenAt!.getTime()).toBeGreaterThanOrEqual(before.lastSeenAt!.getTime());
  const news = [
    { instanceId: 'another' },
    { nbdAddress: '127.0.0.1:1' },
    { version: '1.0.1' },
    { labels: { rack: 'r2' } },
  ];
  for (const one of news)
    expect(await catalog.storageNodes.stillOnline(id, { ...report, ...one })).toBe(false);
  await catalog.storageNodes.markUnreachable(id, 'gone');
  expect(await catalog.storageNodes.stillOnline(id, report)).toBe(false);
  const state = { state: 'unreachable', version: '1.0.0', labels: { rack: 'r1' } };
  expect(await catalog.storageNodes.get(id)).toMatchObject(state);
  expect((await catalog.events.ends()).newest).toBe(newest + 1);
});

test('a look that failed late changes nothing where somebody has heard of it since', async () => {
  const { lastSeenAt: seenAt } = await catalog.storageNodes.get(id);
  const { newest } = await catalog.events.ends();
  const heard = `UPDATE storage_node SET last_seen_at = last_seen_at + interval '1 ms' WHERE id = $1`;
  await whileSomebodyWaits(heard, async () => {
    expect(await catalog.storageNodes.markUnreachable(id, 'gone', { seenAt })).toBe(false);
  });
  expect((await catalog.storageNodes.get(id)).state).toBe('online');
  expect((await catalog.events.ends()).newest).toBe(newest);
  const { lastSeenAt } = await catalog.storageNodes.get(id);
  expect(await catalog.storageNodes.markUnreachable(id, 'gone', { seenAt: lastSeenAt })).toBe(true);
  expect((await catalog.storageNodes.get(id)).state).toBe('unreachable');
});
