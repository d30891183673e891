// Goal: a long audit log is searched without reading it, and its entries go for their age alone. Method: a real catalog
// with 60,000 entries, and PostgreSQL's own count of the rows that a search has fetched.
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { AuditFilter } from './audit-repository.ts';
import { Catalog } from './catalog.ts';
import { createTestDatabase, inDatabase, type TestDatabase } from './testing/index.ts';

const ENTRIES = 60_000;
const RUN = 'd2c3b4a5-6f7e-4d8c-9b0a-1f2e3d4c5b09';
/** On a machine that others use as well. */
const PATIENCE = { timeout: 150_000 };
const TIMEOUT = { timeout: 300_000 };
let database: TestDatabase;

const sql = (...statements: string[]) =>
  inDatabase(database.url, async client => {
    let rows: Record<string, string>[] = [];
    for (const statement of statements) ({ rows } = await client.query(statement));
    return rows;
  });

/** One a minute, the last just now; the rare ones among the oldest. */
beforeAll(async () => {
  database = await createTestDatabase();
  await sql(
    `INSERT INTO audit_entry (at, actor, action, subject, run_id, result, remote_address, request_id)
    SELECT now() - (${ENTRIES} - n) * interval '1 minute', 'ci-' || n % 20,
      'POST /v1/routes-' || n % 90, '/v1/volumes/v-' || n % 5000, NULL, 'done', '127.0.0.1', 'r'
    FROM generate_series(1, ${ENTRIES}) AS n`,
    `INSERT INTO audit_entry (at, actor, action, subject, run_id, result, remote_address, request_id)
    SELECT now() - interval '1 year', 'rare', 'DELETE /v1/tokens/:token', '/v1/tokens/t-' || n, '${RUN}', 'failed',
      '127.0.0.1', 'r' FROM generate_series(1, 20) AS n`,
    // As if they had been first.
    'SET session_replication_role = replica',
    `UPDATE audit_entry SET id = id - ${2 * ENTRIES} WHERE actor = 'rare'`,
    'VACUUM ANALYZE audit_entry',
  );
}, TIMEOUT.timeout);
afterAll(() => database.drop());

async function fetched(): Promise<{ scans: number; rows: number }> {
  const [row] = await sql(
    `SELECT seq_scan + idx_scan AS scans, seq_tup_read + idx_tup_fetch AS rows
    FROM pg_stat_user_tables WHERE relname = 'audit_entry'`,
  );
  return { scans: Number(row!.scans), rows: Number(row!.rows) };
}

/** How many entries a search found, and how many it read for that. */
async function search(filter: AuditFilter & { limit?: number }): Promise<{ found: number; read: number }> {
  const before = await fetched();
  const catalog = Catalog.connect(database.url);
  const { items } = await catalog.auditLog.list({ limit: 50, ...filter });
  // PostgreSQL counts what a connection did when that ends.
  await catalog.close();
  await expect.poll(async () => (await fetched()).scans, PATIENCE).toBeGreaterThan(before.scans);
  return { found: items.length, read: (await fetched()).rows - before.rows };
}

test.each<[string, AuditFilter, number]>([
  ['action', { action: 'DELETE' }, 20],
  ['action and actor', { action: '/tokens', actor: 'rare' }, 20],
  ['an action that there is not', { action: 'PUT' }, 0],
  ['a frequent action', { action: '/v1/routes-7' }, 50],
  ['result', { result: 'failed' }, 20],
  ['subject', { subject: '/v1/tokens' }, 20],
  ['actor', { actor: 'rare' }, 20],
  ['run', { runId: RUN }, 20],
  ['time', { until: new Date(Date.now() - 300 * 86_400_000) }, 20],
])('searched by %s the log is not read entry by entry', TIMEOUT, async (_what, filter, wanted) => {
  const { found, read } = await search(filter);
  expect(found).toBe(wanted);
  expect(read).toBeLessThan(2_000);
});

test(
  'entries go for their age, at least a month after they were written, and in no other way',
  TIMEOUT,
  async () => {
    const catalog = Catalog.connect(database.url);
    const old = new Date(Date.now() - 360 * 86_400_000);
    expect(await catalog.auditLog.prune(old, 5)).toBe(5);
    expect(await catalog.auditLog.prune(old, 100)).toBe(15);
    expect(await catalog.auditLog.prune(old, 100)).toBe(0);
    // A clock that was set forward makes nothing old enough.
    const far = new Date(Date.now() + 360 * 86_400_000);
    expect(await catalog.auditLog.prune(far, ENTRIES)).toBeGreaterThan(0);
    // There was one of each minute: the oldest that is left is of the minute in which they are too young.
    const [left] = await sql(
      `SELECT max(id) - min(id) + 1 = count(*) AS whole,
        min(at) < now() - interval '30 days' + interval '1 minute' AS due
    FROM audit_entry`,
    );
    expect(left).toEqual({ whole: true, due: true });
    await catalog.close();
    const declared = `SELECT set_config('tidemark.prunes_audit_log', 'on', false)`;
    for (const statements of [
      [`DELETE FROM audit_entry WHERE id = (SELECT min(id) FROM audit_entry)`],
      [declared, 'DELETE FROM audit_entry'],
      [declared, `UPDATE audit_entry SET actor = 'nobody'`],
      [declared, 'TRUNCATE audit_entry'],
    ]) {
      await expect(sql(...statements), statements.join('; ')).rejects.toThrow(/never changed/);
    }
  },
);
