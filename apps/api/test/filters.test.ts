// Goal: lists are narrowed to what somebody looks for, page by page, without missing any. Method: more items than a
// page holds, of which every third matches.
import { inDatabase } from '@tidemark/catalog/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

let api: TestApi;

beforeAll(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
  await api.storageNode('beta');
  await api.repository('vault', 'beta');
  for (let n = 0; n < 9; n += 1) {
    const node = n % 3 === 0 ? 'beta' : 'alpha';
    await api.volume(`disk-${n}`, node);
    await api.call('PATCH', `/v1/volumes/disk-${n}`, { labels: { third: String(n % 3 === 0) } });
  }
});

afterAll(() => api.close());

async function names(list: string, query: string, limit = 2): Promise<string[]> {
  const found: string[] = [];
  for (let cursor = ''; ; ) {
    const answer = await api.call('GET', `/v1/${list}?limit=${limit}&${query}${cursor}`);
    expect(answer.status, JSON.stringify(answer.body)).toBe(200);
    found.push(...answer.body.items.map((item: { name: string }) => item.name));
    if (answer.body.nextCursor === null) return found;
    cursor = `&cursor=${answer.body.nextCursor}`;
  }
}

const thirds = ['disk-0', 'disk-3', 'disk-6'];

test('volumes by storage node, state, name and labels, alone and together', async () => {
  expect(await names('volumes', 'storageNode=beta')).toEqual(thirds);
  expect(await names('volumes', 'selector=third%3Dtrue')).toEqual(thirds);
  expect(await names('volumes', 'selector=third%3Dtrue&storageNode=alpha')).toEqual([]);
  expect(await names('volumes', 'name=sk-4')).toEqual(['disk-4']);
  expect(await names('volumes', 'name=%25')).toEqual([]);
  await api.call('DELETE', '/v1/volumes/disk-3');
  expect(await names('volumes', 'state=ready&storageNode=beta', 1)).toEqual(['disk-0', 'disk-6']);
  expect(await names('volumes', 'state=deleting')).toEqual(['disk-3']);
  await api.refused('invalid-request', 'GET', '/v1/volumes?state=odd');
  await api.refused('storage-node-not-found', 'GET', '/v1/volumes?storageNode=none');
});

test('repositories and storage nodes', async () => {
  expect(await names('repositories', 'storageNode=beta&state=ready')).toEqual(['vault']);
  expect(await names('repositories', 'storageNode=alpha')).toEqual([]);
  expect(await names('storage-nodes', 'state=online&name=et')).toEqual(['beta']);
  expect(await names('storage-nodes', 'state=unreachable')).toEqual([]);
});

test('backups by kind, state and time; runs by what they are about and by time', async () => {
  const place = { volume: 'disk-1', repository: 'vault' };
  await api.backup({ ...place, checkpoint: 'c1', kind: 'full' });
  const body = { ...place, checkpoint: 'c2', kind: 'incremental' };
  const { run } = (await api.call('POST', '/v1/backups', body)).body;
  const count = async (url: string) => (await api.call('GET', `/v1/${url}`)).body.items.length;
  expect(await count('backups?kind=full')).toBe(1);
  expect(await count('backups?kind=incremental')).toBe(1);
  expect(await count('backups?state=available')).toBe(1);
  expect(await count('backups?state=creating&kind=full')).toBe(0);
  const [{ id }] = (await api.call('GET', '/v1/backups?kind=full')).body.items;
  await api.app.catalog.backups.markStarted(id, {
    pointInTime: new Date('2026-11-21T08:00:00.000Z'),
    dirtyBytes: 1,
  });
  expect(await count('backups?since=2026-11-21T08:00:00Z&until=2026-11-21T08:00:01Z')).toBe(1);
  expect(await count('backups?until=2026-11-21T08:00:00Z')).toBe(0);
  expect(await count('runs?volume=disk-1&kind=backup')).toBe(2);
  expect(await count('runs?repository=vault&state=queued')).toBe(1);
  expect(await count(`runs?since=${run.createdAt}&kind=backup`)).toBe(1);
  expect(await count(`runs?until=${run.createdAt}&kind=backup`)).toBe(1);
  expect(await count('runs?storageNode=beta&kind=create-volume')).toBe(3);
});

test('policies by state, name, volume and repository', async () => {
  const add = async (name: string, more: object) => {
    const body = { name, schedule: { cron: '0 2 * * *' }, kind: 'full', repository: 'vault', ...more };
    const made = await api.call('POST', '/v1/policies', body);
    expect(made.status, JSON.stringify(made.body)).toBe(201);
  };
  await api.repository('offsite', 'alpha');
  await add('p_thirds', { selector: 'third=true', enabled: true });
  await add('pxothers', { selector: 'third=false', replicas: ['offsite'] });
  await add('p_all', { selector: '', repository: 'offsite' });
  expect(await names('policies', 'name=p_', 1)).toEqual(['p_thirds', 'p_all']);
  expect(await names('policies', 'enabled=true')).toEqual(['p_thirds']);
  expect(await names('policies', 'enabled=false', 1)).toEqual(['pxothers', 'p_all']);
  expect(await names('policies', 'volume=disk-0', 1)).toEqual(['p_thirds', 'p_all']);
  expect(await names('policies', 'volume=disk-1&repository=vault')).toEqual(['pxothers']);
  expect(await names('policies', 'repository=offsite', 1)).toEqual(['pxothers', 'p_all']);
  await api.refused('volume-not-found', 'GET', '/v1/policies?volume=none');
  await api.refused('invalid-request', 'GET', '/v1/policies?enabled=odd');
});

test('rules of replication by state, name and repositories', async () => {
  const add = (name: string, more: object) => api.call('POST', '/v1/replication-rules', { name, ...more });
  await add('there', { source: 'vault', target: 'offsite' });
  await add('there-too', { source: 'vault', target: 'offsite', enabled: false });
  expect(await names('replication-rules', 'source=vault&target=offsite', 1)).toEqual(['there', 'there-too']);
  expect(await names('replication-rules', 'source=offsite')).toEqual([]);
  expect(await names('replication-rules', 'enabled=false')).toEqual(['there-too']);
  expect(await names('replication-rules', 'name=-too')).toEqual(['there-too']);
  await api.refused('repository-not-found', 'GET', '/v1/replication-rules?target=none');
});

test('webhooks by state, name and who answers for them', async () => {
  for (const name of ['ops', 'ops-2', 'audit']) {
    await api.call('POST', '/v1/webhooks', { name, url: 'http://127.0.0.1:9/' });
  }
  await api.call('PATCH', '/v1/webhooks/ops-2', { enabled: false });
  expect(await names('webhooks', 'name=ops', 1)).toEqual(['ops', 'ops-2']);
  expect(await names('webhooks', 'state=disabled')).toEqual(['ops-2']);
  expect(await names('webhooks', 'onBehalfOf=local&state=enabled', 1)).toEqual(['ops', 'audit']);
  expect(await names('webhooks', 'onBehalfOf=nobody')).toEqual([]);
});

test('groups by what they are, what is in them, who made them and when', async () => {
  const make = async (name: string, more: object) => {
    const { status, body } = await api.call('POST', '/v1/groups', { name, ...more });
    expect(status, JSON.stringify(body)).toBe(202);
    return body.group as { id: string; runId: string; createdAt: string };
  };
  await make('alphas', { volumes: ['disk-1', 'disk-2'] });
  const both = await make('both', { volumes: ['disk-4', 'disk-6'], backup: { repository: 'vault' } });
  expect(await names('groups', 'volume=disk-4')).toEqual(['both']);
  expect(await names('groups', 'storageNode=beta')).toEqual(['both']);
  expect(await names('groups', 'storageNode=alpha', 1)).toEqual(['both', 'alphas']);
  expect(await names('groups', 'repository=vault&kind=backup')).toEqual(['both']);
  expect(await names('groups', 'kind=checkpoint&name=lph')).toEqual(['alphas']);
  expect(await names('groups', 'state=ready')).toEqual([]);
  expect(await names('groups', `since=${both.createdAt}&volume=disk-6`)).toEqual(['both']);
  expect(await names('groups', `until=2020-01-01T00:00:00Z`)).toEqual([]);
  expect(await names('groups', 'policy=p_all')).toEqual([]);
  await inDatabase(api.database.url, async client => {
    await client.query('SET session_replication_role = replica');
    await client.query(
      `INSERT INTO policy_firing_member
        (id, firing_id, policy_id, volume_id, volume_name, storage_node_id, kind, state, run_id)
      SELECT gen_random_uuid(), gen_random_uuid(), policy.id, gen_random_uuid(), 'v', gen_random_uuid(), 'full',
        'admitted', $1 FROM policy WHERE name = 'p_all'`,
      [both.runId],
    );
  });
  expect(await names('groups', 'policy=p_all')).toEqual(['both']);
  await api.refused('policy-not-found', 'GET', '/v1/groups?policy=none');
});
