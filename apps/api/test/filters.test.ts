// Goal: lists are narrowed to what somebody looks for, page by page, without missing any. Method: more items than a
// page holds, of which every third matches.
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
