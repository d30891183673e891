// Goal: a database is brought to this version exactly once, and never silently to something else. Method:
// real databases, migrations from temporary folders.
import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { applyMigrations } from './migrate.ts';
import { createTestDatabase, inDatabase, type TestDatabase } from './testing/index.ts';

const OWN = fileURLToPath(new URL('../prisma/migrations/', import.meta.url));
let database: TestDatabase;
let folder: string;

beforeEach(async () => {
  database = await createTestDatabase({ empty: true });
  folder = await mkdtemp(join(tmpdir(), 'tidemark-migrations-'));
});

afterEach(async () => {
  await database.drop();
  await rm(folder, { recursive: true });
});

async function addMigration(name: string, sql: string): Promise<void> {
  await mkdir(join(folder, name), { recursive: true });
  await writeFile(join(folder, name, 'migration.sql'), sql);
}

const rows = async (sql: string) =>
  inDatabase(database.url, async client => (await client.query<Record<string, unknown>>(sql)).rows);

test('applies what is missing, in order, once', async () => {
  await cp(OWN, folder, { recursive: true });
  const first = await applyMigrations(database.url, folder);
  expect(first.length).toBeGreaterThan(0);
  await addMigration('29990101000000_more', 'CREATE TABLE more (id INT);');
  expect(await applyMigrations(database.url, folder)).toEqual(['29990101000000_more']);
  expect(await applyMigrations(database.url, folder)).toEqual([]);
  const recorded = await rows(
    'SELECT migration_name, applied_steps_count FROM _prisma_migrations ORDER BY 1',
  );
  expect(recorded).toEqual(
    [...first, '29990101000000_more'].map(name => ({ migration_name: name, applied_steps_count: 1 })),
  );
});

test('several processes at once apply each migration once', async () => {
  const applied = await Promise.all([1, 2, 3].map(() => applyMigrations(database.url)));
  expect(applied.filter(names => names.length > 0)).toHaveLength(1);
});

test('refuses an edited migration by name and changes nothing', async () => {
  await addMigration('1_a', 'CREATE TABLE a (id INT);');
  await applyMigrations(database.url, folder);
  await addMigration('1_a', 'CREATE TABLE a (id BIGINT);');
  await addMigration('2_b', 'CREATE TABLE b (id INT);');
  await expect(applyMigrations(database.url, folder)).rejects.toMatchObject({
    code: 'catalog-invalid-migration',
    message: expect.stringContaining('1_a was edited'),
  });
  expect(await rows(`SELECT 1 FROM pg_tables WHERE tablename = 'b'`)).toEqual([]);
});

test('a failed migration leaves nothing of itself, is recorded, and stops the next start', async () => {
  await addMigration('1_bad', 'CREATE TABLE half (id INT); SELECT 1 / 0;');
  await expect(applyMigrations(database.url, folder)).rejects.toThrow('division by zero');
  expect(await rows(`SELECT 1 FROM pg_tables WHERE tablename = 'half'`)).toEqual([]);
  await expect(applyMigrations(database.url, folder)).rejects.toThrow('1_bad failed earlier');
});

test('refuses a database of a later version', async () => {
  await addMigration('1_a', 'CREATE TABLE a (id INT);');
  await addMigration('2_b', 'CREATE TABLE b (id INT);');
  await applyMigrations(database.url, folder);
  await rm(join(folder, '2_b'), { recursive: true });
  await expect(applyMigrations(database.url, folder)).rejects.toThrow('does not know');
});

test('policies that made groups go on as they did once completion and hooks are said of them', async () => {
  const [at] = (await readdir(OWN)).filter(one => one.endsWith('_policy_groups'));
  for (const one of await readdir(OWN))
    if (one < at!) await cp(join(OWN, one), join(folder, one), { recursive: true });
  await applyMigrations(database.url, folder);
  await rows(
    `INSERT INTO policy (id, name, definition, enabled, handled_until) VALUES
      (gen_random_uuid(), 'each', '{"kind": "full", "grouped": null}', false, now()),
      (gen_random_uuid(), 'together', '{"kind": "full", "grouped": {"fenceLimitMs": 250}}', false, now())`,
  );
  await rows(
    `INSERT INTO policy_firing (id, policy_id, cause, due_at, start_at, state, definition, follow_ups)
      SELECT gen_random_uuid(), id, 'asked', now(), now(), 'running', definition, '[]' FROM policy`,
  );
  await cp(join(OWN, at!), join(folder, at!), { recursive: true });
  expect(await applyMigrations(database.url, folder)).toEqual([at]);
  const grouped = { fenceLimitMs: 250, completion: 'individual', hooks: [] };
  const wanted = [{ definition: { kind: 'full', grouped: null } }, { definition: { kind: 'full', grouped } }];
  expect(await rows('SELECT definition FROM policy ORDER BY name')).toEqual(wanted);
  const firings =
    'SELECT f.definition FROM policy_firing AS f JOIN policy ON policy.id = policy_id ORDER BY name';
  expect(await rows(firings)).toEqual(wanted);
});
