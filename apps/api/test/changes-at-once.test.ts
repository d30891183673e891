// Goal: two who change different parts of one thing at the same time both have what they asked for. Method: a change
// over REST that begins while another transaction has changed the row, and goes on when that is over.
import { inDatabase } from '@tidemark/catalog/testing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

let api: TestApi;

beforeEach(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
  await api.repository('vault', 'alpha');
  await api.repository('offsite', 'alpha');
});
afterEach(() => api.close());

/** How many wait for a row that this connection of the database has changed. */
async function waitersFor(pid: number): Promise<number> {
  const sql = 'SELECT count(*)::int AS count FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))';
  const { rows } = await inDatabase(api.database.url, client => client.query(sql, [pid]));
  return rows[0].count;
}

async function patchDuring(statement: string, path: string, body: object) {
  return inDatabase(api.database.url, async client => {
    const { rows } = await client.query('SELECT pg_backend_pid() AS pid');
    await client.query('BEGIN');
    await client.query(statement);
    const answered = api.call('PATCH', path, body);
    await expect.poll(() => waitersFor(rows[0].pid), { timeout: 30_000 }).toBe(1);
    await client.query('COMMIT');
    const { status, body: changed } = await answered;
    expect(status, JSON.stringify(changed)).toBe(200);
    return changed;
  });
}

test.each([{ enabled: false }, { keep: { daily: 2 } }])(
  'a rule of replication keeps what another change gave it: %j',
  async change => {
    const rule = { name: 'away', source: 'vault', target: 'offsite', keep: { last: 1 } };
    await api.call('POST', '/v1/replication-rules', rule);
    const other = `UPDATE replication_rule SET keep = jsonb_set(keep, '{weekly}', '8')`;
    const { keep, enabled } = await patchDuring(other, '/v1/replication-rules/away', change);
    const daily = change.keep?.daily ?? 0;
    expect({ keep, enabled }).toMatchObject({
      ...{ keep: { last: 1, daily, weekly: 8 }, enabled: change.enabled ?? true },
    });
  },
);

test('a policy keeps what another change gave it', async () => {
  const policy = { name: 'nightly', selector: '', schedule: { cron: '@daily' }, repository: 'vault' };
  await api.call('POST', '/v1/policies', { ...policy, keep: { daily: 3 } });
  const other = `UPDATE policy SET definition = jsonb_set(definition, '{keep,weekly}', '8')`;
  const changed = await patchDuring(other, '/v1/policies/nightly', { concurrency: 2 });
  expect(changed).toMatchObject({ concurrency: 2, keep: { daily: 3, weekly: 8 } });
});
