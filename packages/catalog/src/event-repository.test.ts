// Goal: who follows events gets each one once, in the order of commits, whatever goes on at the same time, and is
// told when some are gone. Method: transactions that overlap, writers at once, and a reader that asks all the time.
import { randomUUID } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import { Catalog } from './catalog.ts';
import { EventListener } from './event-listener.ts';
import type { EventFilter } from './event-repository.ts';
import { inDatabase, openTestCatalog, type TestDatabase } from './testing/index.ts';
import { addBackup, seed } from './testing/nouns.ts';

let database: TestDatabase;
let catalog: Catalog;

beforeEach(async () => {
  ({ catalog, database } = await openTestCatalog());
});

async function readAll(after: number, filter: EventFilter = {}, limit = 3) {
  const events = [];
  for (let from = after; ; ) {
    const page = await catalog.events.readOn(from, filter, limit);
    events.push(...page.events);
    if (page.upTo === from) return events;
    from = page.upTo;
  }
}

const register = (id: string) =>
  catalog.runs.create({ id: randomUUID(), kind: 'register-storage-node', storageNodeId: id, request: {} });

test('of two transactions that overlap a reader misses neither, whichever commits first', async () => {
  const { node } = await seed(catalog);
  const start = await catalog.events.newestId();
  const read: number[] = [];
  let release = () => {};
  const held = new Promise<void>(resolve => {
    release = resolve;
  });
  // Its rows are written, and it holds its transaction open; its events get ids when it commits.
  const early = catalog.transaction(async tx => {
    const run = await tx.runs.create({ id: randomUUID(), kind: 'reconcile', request: {} });
    await held;
    return run;
  });
  const late = await register(node.id);
  let { events, upTo } = await catalog.events.readOn(start, {}, 10);
  expect(events.map(event => event.runId)).toEqual([late.id]);
  read.push(...events.map(event => event.id));
  release();
  const run = await early;
  ({ events, upTo } = await catalog.events.readOn(upTo, {}, 10));
  expect(events.map(event => event.runId)).toEqual([run.id]);
  read.push(...events.map(event => event.id));
  expect(read).toEqual([...read].sort((a, b) => a - b));
  expect((await catalog.events.readOn(upTo, {}, 10)).events).toEqual([]);
});

test('a writer that holds its turn keeps later ids back until it has committed', async () => {
  const { node } = await seed(catalog);
  const start = await catalog.events.newestId();
  // The turn is taken by hand, so that an event stands uncommitted while another writer wants to go on.
  await inDatabase(database.url, async client => {
    await client.query('BEGIN');
    await client.query('SELECT pg_advisory_xact_lock(7411001)');
    await client.query(
      `INSERT INTO event (kind, subject_type, subject_id, data) VALUES ('by-hand', 'run', $1, '{}')`,
      [randomUUID()],
    );
    let committed = false;
    const other = register(node.id).then(() => {
      committed = true;
    });
    await expect
      .poll(
        async () =>
          inDatabase(database.url, async watcher => {
            const waiting = `SELECT count(*)::int AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`;
            return (await watcher.query(waiting)).rows[0].n;
          }),
        { timeout: 30_000 },
      )
      .toBe(1);
    expect(committed).toBe(false);
    expect((await catalog.events.readOn(start, {}, 10)).events).toEqual([]);
    await client.query('COMMIT');
    await other;
  });
  expect((await readAll(start)).map(event => event.kind)).toEqual(['by-hand', 'run-queued']);
});

test('a reader beside many writers gets every event once and in order', async () => {
  const { node } = await seed(catalog);
  const other = Catalog.connect(database.url);
  const start = await catalog.events.newestId();
  let ended = false;
  const writers = Promise.all(
    Array.from({ length: 40 }, async (_, n) => {
      const on = n % 2 === 0 ? catalog : other;
      await on.transaction(async tx => {
        await tx.runs.create({ id: randomUUID(), kind: 'reconcile', storageNodeId: node.id, request: {} });
        await tx.runs.create({ id: randomUUID(), kind: 'reconcile', storageNodeId: node.id, request: {} });
      });
    }),
  ).finally(() => {
    ended = true;
  });
  const ids: number[] = [];
  for (let after = start; ; ) {
    const wasLast = ended;
    const page = await catalog.events.readOn(after, {}, 7);
    ids.push(...page.events.map(event => event.id));
    if (wasLast && page.upTo === after) break;
    after = page.upTo;
  }
  await writers;
  await other.close();
  expect(ids).toEqual((await catalog.events.listAfter(start, 1000)).map(event => event.id));
  expect(ids).toHaveLength(80);
});

test('filters by kind, subject, run and volume, and by the volume of what an event is about', async () => {
  const { volume, repository, node } = await seed(catalog);
  const backup = await addBackup(catalog, {
    volumeId: volume.id,
    repositoryId: repository.id,
    checkpoint: 'c1',
    at: new Date(),
  });
  const run = await register(node.id);
  const kinds = async (filter: EventFilter) => (await readAll(0, filter)).map(event => event.kind);
  expect(await kinds({ kinds: ['backup-available', 'run-queued'] })).toEqual([
    'backup-available',
    'run-queued',
  ]);
  expect(await kinds({ subjectId: backup.id })).toEqual(['backup-creating', 'backup-available']);
  expect(await kinds({ runId: run.id })).toEqual(['run-queued']);
  expect(await kinds({ volumeId: volume.id })).toEqual([
    'volume-creating',
    'volume-ready',
    'checkpoint-creating',
    'backup-creating',
    'checkpoint-ready',
    'backup-available',
  ]);
  expect(await kinds({ volumeId: volume.id, kinds: ['run-queued'] })).toEqual([]);
});

test('read back from the newest, each event comes once, and what comes meanwhile does not shift them', async () => {
  const { node } = await seed(catalog);
  for (let count = 0; count < 5; count += 1) await register(node.id);
  const all = await readAll(0);
  const read: number[] = [];
  for (let before: number | null = Number.MAX_SAFE_INTEGER; before !== null; ) {
    const page = await catalog.events.readBack({ before, after: 0 }, {}, 2);
    expect(page.events.length).toBeLessThanOrEqual(2);
    read.push(...page.events.map(({ id }) => id));
    before = page.next;
    await register(node.id);
  }
  expect(read).toEqual(all.map(({ id }) => id).reverse());
  const some = await catalog.events.readBack({ before: read[1]!, after: read[4]! }, {}, 10);
  expect(some).toMatchObject({ events: read.slice(2, 4).map(id => ({ id })), next: null });
});

test('a filter that fits nothing still moves on', async () => {
  await seed(catalog);
  const page = await catalog.events.readOn(0, { kinds: ['no-such-kind'] }, 10);
  expect(page).toEqual({ events: [], upTo: await catalog.events.newestId(), isAll: true });
});

test('pruned events are gone in bounded steps, and who asks for what came after one is told', async () => {
  const { node } = await seed(catalog);
  const first = (await catalog.events.listAfter(0))[0]!.id;
  const old = await catalog.events.newestId();
  await inDatabase(database.url, client =>
    client.query(`UPDATE event SET created_at = now() - interval '40 days'`),
  );
  await register(node.id);
  const before = new Date(Date.now() - 30 * 86_400_000);
  const steps = [await catalog.events.prune(before, 2)];
  while (steps.at(-1) !== 0) steps.push(await catalog.events.prune(before, 2));
  expect(Math.max(...steps)).toBe(2);
  expect(steps.reduce((sum, step) => sum + step)).toBe(old);
  expect((await catalog.events.listAfter(0)).map(event => event.kind)).toEqual(['run-queued']);
  await expect(catalog.events.readOn(first, {}, 10)).rejects.toMatchObject({ code: 'events-pruned' });
  await expect(catalog.events.readOn(old - 1, {}, 10)).rejects.toMatchObject({ code: 'events-pruned' });
  expect((await catalog.events.readOn(old, {}, 10)).events).toHaveLength(1);
  expect((await catalog.events.readOn(0, {}, 10)).events).toHaveLength(1);
});

test('pruning keeps the events of a run that goes on', async () => {
  const { node } = await seed(catalog);
  const run = await register(node.id);
  await inDatabase(database.url, client =>
    client.query(`UPDATE event SET created_at = now() - interval '40 days'`),
  );
  while ((await catalog.events.prune(new Date(), 100)) > 0);
  const left = await inDatabase(database.url, client => client.query('SELECT run_id FROM event'));
  expect(left.rows).toEqual([{ run_id: run.id }]);
  // A list shows nothing from before the horizon.
  expect(await catalog.events.listAfter(0)).toEqual([]);
});

test('a moment leads to the events since then', async () => {
  const { node } = await seed(catalog);
  await inDatabase(database.url, client =>
    client.query(`UPDATE event SET created_at = now() - interval '1 hour'`),
  );
  const run = await register(node.id);
  const since = async (at: number) => readAll(await catalog.events.idBefore(new Date(at)));
  expect((await since(Date.now() - 60_000)).map(event => event.runId)).toEqual([run.id]);
  expect(await since(Date.now() + 3_600_000)).toEqual([]);
  expect((await since(0)).length).toBeGreaterThan(3);
});

test('a listener hears commits of events, also after its connection was cut', async () => {
  const { node } = await seed(catalog);
  let heard = 0;
  const listener = new EventListener(database.url, () => {
    heard += 1;
  });
  listener.start();
  const patience = { timeout: 60_000 };
  await expect.poll(() => heard, patience).toBe(1);
  await register(node.id);
  await expect.poll(() => heard, patience).toBe(2);
  await inDatabase(database.url, client =>
    client.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND query LIKE 'LISTEN%'`),
  );
  // It tells once when it is connected again, since it may have missed some.
  await expect.poll(() => heard, patience).toBe(3);
  await register(node.id);
  await expect.poll(() => heard, patience).toBe(4);
  await listener.close();
  await register(node.id);
  expect(heard).toBe(4);
});
