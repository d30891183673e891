// Goal: who sees some volumes alone reads their events, all of them and no others, at a cost that does not grow with
// the number of volumes or of events. Method: 5,000 volumes with events in the catalog, a client that counts its
// statements, and an expectation that is reckoned from the rows by hand.
import { randomUUID } from 'node:crypto';
import { PrismaPg } from '@prisma/adapter-pg';
import { parseSelector } from '@tidemark/proto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Catalog } from './catalog.ts';
import { EventRepository } from './event-repository.ts';
import { PrismaClient } from './generated/client.ts';
import { ClientScope } from './scope.ts';
import { createTestDatabase, inDatabase, type TestDatabase } from './testing/index.ts';

const VOLUMES = 5_000;
const EVENTS = 60_000;
let database: TestDatabase;
let client: PrismaClient;
let statements = 0;

beforeAll(async () => {
  database = await createTestDatabase();
  const catalog = Catalog.connect(database.url);
  const node = await catalog.storageNodes.create({ id: randomUUID(), name: 'a', controlAddress: 'a:1' });
  await catalog.close();
  await inDatabase(database.url, async db => {
    await db.query(
      `INSERT INTO volume (id, name, storage_node_id, size_bytes, format, state, labels)
      SELECT gen_random_uuid(), 'v' || n, $1, 512, 'raw', 'ready',
        jsonb_build_object('env', CASE WHEN n % 100 = 0 THEN 'prod' ELSE 'test' END)
      FROM generate_series(1, ${VOLUMES}) AS n`,
      [node.id],
    );
    await db.query(
      `INSERT INTO event (kind, subject_type, subject_id, volume_id, data)
      SELECT 'volume-changed', 'volume', v.id, v.id, '{}'
      FROM generate_series(1, ${EVENTS}) AS n
      JOIN (SELECT id, row_number() OVER (ORDER BY name) AS place FROM volume) AS v ON v.place = 1 + n % ${VOLUMES}
      ORDER BY n`,
    );
    await db.query('ANALYZE');
  });
  client = new PrismaClient({
    adapter: new PrismaPg({ connectionString: database.url }),
    log: [{ emit: 'event', level: 'query' }],
  });
  (client as PrismaClient<'query'>).$on('query', () => {
    statements += 1;
  });
});
afterAll(async () => {
  await client.$disconnect();
  await database.drop();
});

/** As somebody with that scope reads; empty: without one. */
function eventsOf(scope: string, name = 'ops'): EventRepository {
  const acting = { name, visible: parseSelector(scope) };
  const frame = { begin: async () => {}, commit: async () => {} };
  return new EventRepository(new ClientScope(client, { now: () => new Date(), acting: () => acting, frame }));
}

async function readAll(events: EventRepository, limit: number) {
  const ids: number[] = [];
  let pages = 0;
  for (let after = 0; ; pages++) {
    const page = await events.readOn(after, {}, limit);
    ids.push(...page.events.map(({ id }) => id));
    if (page.isAll) return { ids, pages };
    expect(page.upTo).toBeGreaterThan(after);
    after = page.upTo;
  }
}

const wantedIds = (where: string) =>
  inDatabase(database.url, async db => {
    const { rows } = await db.query(
      `SELECT e.id::int FROM event AS e JOIN volume AS v ON v.id = e.volume_id WHERE ${where} ORDER BY e.id`,
    );
    return rows.map(({ id }: { id: number }) => id);
  });

test('all events of one in a hundred volumes, in a few statements a page', async () => {
  const wanted = await wantedIds(`v.labels ->> 'env' = 'prod'`);
  expect(wanted).toHaveLength(EVENTS / 100);
  statements = 0;
  const { ids, pages } = await readAll(eventsOf('env=prod'), 100);
  expect(ids).toEqual(wanted);
  // Ends, one look for each 20,000 ids and what is found; and no more, whatever the number of events.
  expect(statements).toBeLessThanOrEqual(3 * (pages + 1) + EVENTS / 20_000);
});

test('the same from the newest back, in as few statements', async () => {
  const wanted = await wantedIds(`v.labels ->> 'env' = 'prod'`);
  const events = eventsOf('env=prod');
  statements = 0;
  const ids: number[] = [];
  let pages = 0;
  for (let before: number | null = Number.MAX_SAFE_INTEGER; before !== null; pages++) {
    const page = await events.readBack({ before, after: 0 }, {}, 100);
    expect(page.events.length).toBeLessThanOrEqual(100);
    ids.push(...page.events.map(({ id }) => id));
    before = page.next;
  }
  expect(ids.reverse()).toEqual(wanted);
  expect(statements).toBeLessThanOrEqual(3 * (pages + 1) + EVENTS / 20_000);
});

test('at the head, what is new costs one look, and a stream with nothing to see moves on', async () => {
  const none = eventsOf('env=nowhere');
  statements = 0;
  const page = await none.readOn(0, {}, 100);
  expect(page).toMatchObject({ events: [], isAll: true });
  expect(statements).toBeLessThanOrEqual(2 + EVENTS / 20_000);
  statements = 0;
  expect(await none.readOn(page.upTo, {}, 100)).toEqual({ events: [], upTo: page.upTo, isAll: true });
  expect(statements).toBe(1);
});

test('filters narrow what is visible, and never widen it', async () => {
  const [volume] = await inDatabase(
    database.url,
    async db => (await db.query(`SELECT id FROM volume WHERE labels ->> 'env' = 'test' LIMIT 1`)).rows,
  );
  for (const filter of [{ volumeId: volume.id }, { subjectId: volume.id }]) {
    expect((await eventsOf('').readOn(0, filter, 100)).events.length).toBeGreaterThan(0);
    expect((await eventsOf('env=prod').readOn(0, filter, 100)).events).toEqual([]);
  }
  const kinds = ['volume-changed'];
  expect((await eventsOf('env=prod').readOn(0, { kinds }, 7)).events).toHaveLength(7);
  expect((await eventsOf('env=prod').readOn(0, { kinds: ['other'] }, 7)).events).toEqual([]);
});

test('a volume that ended, was found again and ended once more is known by its last labels', async () => {
  const id = randomUUID();
  const ended = (env: string) =>
    inDatabase(database.url, db =>
      db.query(
        `INSERT INTO event (kind, subject_type, subject_id, volume_id, data)
        VALUES ('volume-deleted', 'volume', $1, $1, jsonb_build_object('labels', jsonb_build_object('env', $2::text)))`,
        [id, env],
      ),
    );
  const seen = async (env: string) =>
    (await eventsOf(`env=${env}`).readOn(0, { volumeId: id }, 100)).events.length;
  await ended('first');
  expect([await seen('first'), await seen('last')]).toEqual([1, 0]);
  await ended('last');
  expect([await seen('first'), await seen('last')]).toEqual([0, 2]);
});
