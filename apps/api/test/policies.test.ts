// Goal: policies are made, looked at, changed and switched over REST, refused where they could not work, and tell what
// they would do before anything is switched on. Method: a real api; the worker's part is played by the catalog.

import { inDatabase } from '@tidemark/catalog/testing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { SimulatedFiringJson } from '../src/schemas/firing.ts';
import { TestApi } from './support/test-api.ts';

const NIGHTLY = {
  name: 'nightly',
  selector: 'app=web',
  schedule: { cron: '30 2 * * *', timeZone: 'Europe/Berlin' },
  repository: 'vault',
  fullEvery: 7,
  keep: { daily: 3 },
};
const UNKNOWN = '7a0d0f9e-6f3e-4f0a-9a55-0a6f4f1d2c3b';
let api: TestApi;

beforeEach(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
  await api.storageNode('beta');
  await api.repository('vault', 'beta');
  for (const name of ['web-1', 'web-2', 'db-1']) await api.volume(name, 'alpha');
  for (const name of ['web-1', 'web-2'])
    await api.call('PATCH', `/v1/volumes/${name}`, { labels: { app: 'web' } });
});
afterEach(() => api.close());

const create = (more: object = {}) => api.call('POST', '/v1/policies', { ...NIGHTLY, ...more });

test('a policy is made switched off, with defaults, and looked at by name and id', async () => {
  const { status, headers, body } = await create();
  expect([status, headers.location]).toEqual([201, `/v1/policies/${body.id}`]);
  expect(body).toMatchObject({
    ...{ name: 'nightly', enabled: false, nextDueAt: null, revision: 1, kind: 'incremental', replicaIds: [] },
    schedule: { ...NIGHTLY.schedule, missed: 'once', missedMax: 1, jitterMs: 0 },
    keep: { last: 0, hourly: 0, daily: 3, weekly: 0, monthly: 0, yearly: 0 },
    ...{ concurrency: 4, priority: 100, retry: { times: 2, delayMs: 300_000 }, verifyPercent: 0 },
  });
  expect((await api.call('GET', '/v1/policies/nightly')).body).toEqual(body);
  expect((await api.call('GET', `/v1/policies/${body.id}`)).body).toEqual(body);
  expect((await api.call('GET', '/v1/policies')).body).toEqual({ items: [body], nextCursor: null });
});

test('it is switched on and off, changed and deleted', async () => {
  await create();
  const on = await api.call('POST', '/v1/policies/nightly/enable');
  expect(on.body.enabled).toBe(true);
  expect(new Date(on.body.nextDueAt).getTime()).toBeGreaterThan(Date.now());
  const changed = await api.call('PATCH', '/v1/policies/nightly', {
    schedule: { cron: '@hourly' },
    bandwidth: [{ from: '08:00', to: '18:00', bytesPerSecond: 1000 }],
    keep: null,
  });
  expect(changed.body).toMatchObject({
    ...{ keep: null, selector: 'app=web', schedule: { cron: '@hourly', timeZone: 'Europe/Berlin' } },
    bandwidth: [{ from: '08:00', to: '18:00', days: [], bytesPerSecond: 1000 }],
  });
  expect(changed.body.revision).toBeGreaterThan(on.body.revision);
  expect(new Date(changed.body.nextDueAt).getTime() - Date.now()).toBeLessThan(3_700_000);
  const off = await api.call('POST', '/v1/policies/nightly/disable');
  expect(off.body).toMatchObject({ enabled: false, nextDueAt: null });
  expect((await api.call('DELETE', '/v1/policies/nightly')).status).toBe(200);
  await api.refused('policy-not-found', 'GET', '/v1/policies/nightly');
});

test('of rules and retries only what is named changes', async () => {
  await create({ keep: { daily: 3, monthly: 12 }, retry: { times: 5, delayMs: 10_000 } });
  const change = async (body: object) => (await api.call('PATCH', '/v1/policies/nightly', body)).body;
  expect(await change({ keep: { weekly: 4 }, retry: { times: 1 } })).toMatchObject({
    keep: { last: 0, hourly: 0, daily: 3, weekly: 4, monthly: 12, yearly: 0 },
    retry: { times: 1, delayMs: 10_000 },
  });
  expect(await change({ keep: { daily: 0 }, retry: { delayMs: 0 } })).toMatchObject({
    keep: { daily: 0, weekly: 4, monthly: 12 },
    retry: { times: 1, delayMs: 0 },
  });
  const none = { keep: { weekly: 0, monthly: 0 } };
  const problem = await api.refused('invalid-request', 'PATCH', '/v1/policies/nightly', none);
  expect(problem.detail).toContain('every backup would go');
  await api.refused('invalid-request', 'PATCH', '/v1/policies/nightly', { keep: {} });
  expect((await change({ keep: null })).keep).toBeNull();
  expect((await change({ keep: { last: 2 } })).keep).toMatchObject({ last: 2, weekly: 0 });
});

test('its groups are what groups that are asked for are, and of that only what is named changes', async () => {
  const { id: alpha } = (await api.call('GET', '/v1/storage-nodes/alpha')).body;
  const webhook = { webhook: 'https://db.example/freeze?key=1', timeoutMs: 5_000 };
  const hooks = [{ command: 'quiesce', storageNode: 'alpha' }, webhook];
  const { body: made } = await create({ grouped: { completion: 'grouped', hooks } });
  const command = { command: 'quiesce', storageNode: alpha, timeoutMs: 10_000 };
  expect(made.grouped).toEqual({ fenceLimitMs: 500, completion: 'grouped', hooks: [command, webhook] });
  const shown = await api.call('GET', '/v1/policies/nightly');
  expect(shown.body).toEqual(made);
  const change = async (body: object) => (await api.call('PATCH', '/v1/policies/nightly', body)).body.grouped;
  expect(await change({ fullEvery: 3 })).toEqual(made.grouped);
  expect(await change({ grouped: { fenceLimitMs: 250 } })).toEqual({ ...made.grouped, fenceLimitMs: 250 });
  expect(await change({ grouped: { completion: 'individual' } })).toMatchObject({
    ...{ fenceLimitMs: 250, completion: 'individual', hooks: [command, webhook] },
  });
  // As it was shown it can be sent again.
  expect(await change({ grouped: made.grouped })).toEqual(made.grouped);
  const present = await api.call('GET', '/v1/policies/nightly');
  expect(present.headers.etag).not.toBe(shown.headers.etag);
  const stale = { 'if-match': String(shown.headers.etag) };
  const late = await api.call('PATCH', '/v1/policies/nightly', { grouped: { hooks: [] } }, stale);
  expect(late.status).toBe(412);
  expect(await change({ grouped: { hooks: [webhook] } })).toEqual({ ...made.grouped, hooks: [webhook] });
  expect(await change({ grouped: { hooks: [] } })).toEqual({ ...made.grouped, hooks: [] });
  expect(await change({ grouped: null })).toBeNull();
  const none = { fenceLimitMs: 500, completion: 'individual', hooks: [] };
  expect(await change({ grouped: {} })).toEqual(none);
  expect((await create({ name: 'plain', grouped: {} })).body.grouped).toEqual(none);
});

test('hooks of its groups are refused where those of a group are, and outside of groups', async () => {
  await create();
  const command = { command: 'quiesce', storageNode: 'alpha' };
  for (const [code, grouped, words] of [
    ['invalid-request', { hooks: [{ webhook: 'http://169.254.169.254/' }] }, 'leads to 169.254.169.254'],
    ['invalid-request', { hooks: [{ ...command, timeoutMs: 60_001 }] }, 'grouped.hooks'],
    ['invalid-request', { hooks: Array(17).fill(command) }, 'grouped.hooks'],
    ['invalid-request', { completion: 'some' }, 'grouped.completion'],
    ['invalid-request', { fenceLimitMs: 10_001 }, 'grouped.fenceLimitMs'],
    ['storage-node-not-found', { hooks: [{ ...command, storageNode: 'nowhere' }] }, "hook 'quiesce'"],
  ] as const) {
    const asks = [
      ['POST', '/v1/policies', { ...NIGHTLY, name: 'other', grouped }],
      ['POST', '/v1/policies/simulate?days=2', { ...NIGHTLY, grouped }],
      ['PATCH', '/v1/policies/nightly', { grouped }],
    ] as const;
    for (const [method, url, body] of asks) {
      expect((await api.refused(code, method, url, body)).detail, `${method} ${words}`).toContain(words);
    }
  }
  for (const alone of [{ hooks: [command] }, { completion: 'grouped' }, { fenceLimitMs: 250 }]) {
    const problem = await api.refused('invalid-request', 'PATCH', '/v1/policies/nightly', alone);
    expect(problem.detail).toContain(`'${Object.keys(alone)[0]}', which is said of groups alone`);
  }
  expect((await api.call('GET', '/v1/policies/nightly')).body.grouped).toBeNull();
});

test('what could not work is refused by name', async () => {
  await create();
  await api.refused('policy-name-taken', 'POST', '/v1/policies', NIGHTLY);
  const other = { ...NIGHTLY, name: 'other' };
  const { repository: _, keep: __, ...bare } = other;
  await api.refused('policy-invalid', 'POST', '/v1/policies', bare);
  await api.refused('policy-invalid', 'POST', '/v1/policies', { ...other, kind: 'checkpoint' });
  await api.refused('policy-invalid', 'POST', '/v1/policies', { ...other, replicas: ['vault'] });
  await api.refused('repository-not-found', 'POST', '/v1/policies', { ...other, repository: 'nowhere' });
  await api.refused('invalid-request', 'POST', '/v1/policies', { ...other, selector: 'app in (' });
  await api.refused('invalid-request', 'POST', '/v1/policies', { ...other, keep: {} });
  await api.refused('invalid-request', 'POST', '/v1/policies', {
    ...{ ...other, schedule: { cron: '@daily', timeZone: 'Mars/Olympus' } },
  });
  await api.refused('invalid-request', 'POST', '/v1/policies', { ...other, grouped: { fenceLimitMs: 10 } });
  const badCron = await api.refused('policy-invalid', 'POST', '/v1/policies', {
    ...{ ...other, schedule: { cron: '61 * * * *' } },
  });
  expect(badCron.detail).toContain('61 * * * *');
  await api.refused('policy-invalid', 'PATCH', '/v1/policies/nightly', { repository: null });
  await api.refused('invalid-request', 'PATCH', '/v1/policies/nightly', {});
  await api.refused('policy-not-found', 'POST', '/v1/policies/nobody/fire');
  await api.refused('firing-not-found', 'GET', `/v1/policies/nightly/firings/${UNKNOWN}`);
});

test('it is fired at once, and what did not come about is retried', async () => {
  const { body: policy } = await create();
  const fired = await api.call('POST', '/v1/policies/nightly/fire');
  expect(fired).toMatchObject({ status: 202, body: { cause: 'asked', state: 'planned', number: 0 } });
  const path = `/v1/policies/nightly/firings/${fired.body.id}`;
  expect(fired.headers.location).toBe(`/v1/policies/${policy.id}/firings/${fired.body.id}`);
  await api.refused('firing-complete', 'POST', `${path}/retry`);
  const { firings, admissions } = api.app.catalog;
  await firings.begin(fired.body.id);
  const { body: running } = await api.call('GET', path);
  expect(running).toMatchObject({ state: 'running', members: { waiting: 2 } });
  const { body: members } = await api.call('GET', `${path}/members`);
  expect(members.items.map(({ volume, kind }: { volume: string; kind: string }) => [volume, kind])).toEqual(
    expect.arrayContaining([
      ['web-1', 'full'],
      ['web-2', 'full'],
    ]),
  );
  const candidates = await admissions.candidates(
    { policyIds: [], storageNodeIds: [], repositoryIds: [] },
    10,
  );
  await admissions.end(candidates[0]!.id, { from: 'waiting', state: 'failed', reason: 'no luck' });
  const failed = await api.call('GET', `${path}/members?state=failed`);
  expect(failed.body.items).toMatchObject([{ reason: 'no luck', runId: null, attempts: 0 }]);
  expect((await api.call('POST', `${path}/retry`)).body.members).toMatchObject({ waiting: 2, failed: 0 });
  expect((await api.call('GET', '/v1/policies/nightly/firings')).body.items).toHaveLength(1);
});

test('a simulation tells each firing of the next days and what its prune takes away', async () => {
  await create();
  const first = await api.call('POST', '/v1/policies/nightly/simulate?days=10&limit=6');
  expect(first.body.items).toHaveLength(6);
  const rest = await api.call(
    'POST',
    `/v1/policies/nightly/simulate?days=10&cursor=${first.body.nextCursor}`,
  );
  expect(rest.body.nextCursor).toBeNull();
  const all = [...first.body.items, ...rest.body.items];
  expect(all).toHaveLength(10);
  expect(all.map(item => item.number)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(all.map(item => item.volumes[0].kind)).toEqual(
    all.map((_, number) => (number % 7 === 0 ? 'full' : 'incremental')),
  );
  expect(all.map(item => [item.volumes.length, item.volumes[1].kept, item.volumes[1].pruned.length])).toEqual(
    [
      ...[
        [2, 1, 0],
        [2, 2, 0],
        [2, 3, 0],
      ],
      ...Array(7).fill([2, 3, 1]),
    ],
  );
  const one = await api.call('POST', '/v1/policies/nightly/simulate?days=4&volume=web-2');
  expect(one.body.items[3].volumes).toMatchObject([{ volume: 'web-2', kept: 3 }]);
  expect(one.body.items[3].volumes[0].keeps[2].reasons[0]).toMatch(/^daily \d{4}-\d\d-\d\d$/);
  await create({ name: 'longer', selector: 'app', keep: { daily: 5 } });
  await create({ name: 'others', selector: 'app=db', keep: { daily: 9 } });
  const both = await api.call('POST', '/v1/policies/nightly/simulate?days=6&volume=web-2');
  expect(both.body.items[5].volumes).toMatchObject([{ volume: 'web-2', kept: 5 }]);
  expect(both.body.items[5].volumes[0].keeps[0].reasons).toEqual([
    expect.stringMatching(/^policy 'longer': daily /),
  ]);
  await api.refused('policy-invalid', 'POST', '/v1/policies/nightly/simulate?volume=db-1');
  await api.refused('invalid-request', 'POST', '/v1/policies/nightly/simulate?cursor=x');
});

test('a simulation tells what has yet to be copied elsewhere', async () => {
  await api.repository('offsite', 'alpha');
  const wanted = { volume: 'web-1', repository: 'vault', checkpoint: 'one', kind: 'full' };
  const { id: backup } = await api.backup(wanted);
  await inDatabase(api.database.url, client => client.query('UPDATE backup SET point_in_time = now()'));
  await create({ keep: { last: 1 } });
  const pruned = async () => {
    const query = 'days=3&volume=web-1';
    const { items } = (await api.call('POST', `/v1/policies/nightly/simulate?${query}`)).body;
    return items.flatMap((item: SimulatedFiringJson) => item.volumes[0]!.pruned).slice(0, 2);
  };
  expect(await pruned()).toMatchObject([
    { backup, awaitedBy: [] },
    { backup: null, awaitedBy: [] },
  ]);
  const rule = { name: 'away', source: 'vault', target: 'offsite', enabled: true };
  await api.call('POST', '/v1/replication-rules', rule);
  expect(await pruned()).toMatchObject([
    { backup, awaitedBy: ["replication rule 'away', for repository 'offsite'"] },
    { backup: null, awaitedBy: [] },
  ]);
});

test('a policy that is not saved is simulated, and nothing is written', async () => {
  const before = await api.written();
  const { body } = await api.call('POST', '/v1/policies/simulate?days=2', { ...NIGHTLY, selector: '' });
  expect(body.items.map((item: { volumes: object[] }) => item.volumes.length)).toEqual([3, 3]);
  await api.refused('policy-invalid', 'POST', '/v1/policies/simulate?days=366&cursor=400000', {
    ...{ ...NIGHTLY, schedule: { cron: '* * * * *' } },
  });
  expect(await api.written()).toEqual(before);
});

test('limits of storage nodes and repositories are settings', async () => {
  const node = await api.call('PATCH', '/v1/storage-nodes/alpha', { maxConcurrentBackups: 2 });
  expect(node.body).toMatchObject({ maxConcurrentBackups: 2 });
  const repository = await api.call('PATCH', '/v1/repositories/vault', { maxConcurrentBackups: 3 });
  expect(repository.body).toMatchObject({ maxConcurrentBackups: 3 });
  await api.refused('invalid-request', 'PATCH', '/v1/storage-nodes/alpha', { maxConcurrentBackups: 0 });
});

test('a simulation is no change for the audit log, and ends when nobody waits for it', async () => {
  const entries = async () => (await api.call('GET', '/v1/audit?action=simulate')).body.items;
  await api.call('POST', '/v1/policies/simulate?days=2', { ...NIGHTLY, selector: '' });
  await create({ name: 'watched', selector: 'app' });
  await api.call('POST', '/v1/policies/watched/simulate?days=2');
  expect(await entries()).toEqual([]);
  const query = { days: 366, limit: 500 };
  const played = (signal: AbortSignal) => api.app.policies.simulate('watched', query, signal);
  expect((await played(new AbortController().signal)).items.length).toBeGreaterThan(100);
  expect(await played(AbortSignal.abort())).toEqual({ items: [], nextCursor: '0' });
});

test('more volumes than fit in one instant are refused where a policy is made, changed or simulated', async () => {
  const grouped = { grouped: { fenceLimitMs: 250 } };
  expect((await create({ ...grouped, selector: 'app=many' })).status).toBe(201);
  await create({ name: 'each', selector: 'app=many' });
  const { id } = (await api.call('GET', '/v1/storage-nodes/alpha')).body;
  await inDatabase(api.database.url, client =>
    client.query(
      `INSERT INTO volume (id, name, storage_node_id, size_bytes, format, state, labels)
      SELECT gen_random_uuid(), 'many-' || n, $1::uuid, 1048576, 'raw', 'ready', '{"app": "many"}'
      FROM generate_series(1, 257) AS n`,
      [id],
    ),
  );
  const text = "'grouped' takes at most 256 volumes at one instant, and its selector 'app=many' chooses 257";
  const asks = [
    ['POST', '/v1/policies', { ...NIGHTLY, ...grouped, name: 'another', selector: 'app=many' }],
    ['POST', '/v1/policies/simulate?days=2', { ...NIGHTLY, ...grouped, selector: 'app=many' }],
    ['POST', '/v1/policies/nightly/simulate?days=2'],
    ['POST', '/v1/policies/nightly/enable'],
    ['PATCH', '/v1/policies/each', grouped],
  ] as const;
  for (const [method, url, body] of asks) {
    expect((await api.refused('policy-invalid', method, url, body)).detail, url).toContain(text);
  }
  expect((await api.call('POST', '/v1/policies/each/enable')).status).toBe(200);
});
