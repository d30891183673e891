// Goal: labels are given, replaced and chosen by alike for volumes, storage nodes and repositories, and faulty ones
// are refused with their place.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

let api: TestApi;

beforeAll(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
  await api.volume('web', 'alpha');
  await api.volume('db', 'alpha');
  await api.repository('nightly', 'alpha');
});

afterAll(() => api.close());

const names = async (path: string, selector: string): Promise<string[]> => {
  const { body } = await api.call('GET', `${path}?selector=${encodeURIComponent(selector)}`);
  return body.items.map(({ name }: { name: string }) => name);
};

test.each([
  ['/v1/volumes', 'web'],
  ['/v1/storage-nodes', 'alpha'],
  ['/v1/repositories', 'nightly'],
])('%s', async (path, name) => {
  expect((await api.call('GET', `${path}/${name}`)).body.labels).toEqual({});
  const labels = { tier: 'gold', 'example.org/zone': 'a' };
  const { status, body } = await api.call('PATCH', `${path}/${name}`, { labels });
  expect(status).toBe(200);
  expect(body.labels).toEqual(labels);
  expect(await names(path, 'tier in (gold,silver),example.org/zone')).toEqual([name]);
  expect(await names(path, 'tier=silver')).toEqual([]);
  await api.call('PATCH', `${path}/${name}`, { labels: { tier: 'silver' } });
  expect(await names(path, 'tier=silver,!example.org/zone')).toEqual([name]);
  const problem = await api.refused('invalid-request', 'GET', `${path}?selector=tier=silver,,x`);
  expect(problem.detail).toContain('character 13');
  await api.refused('invalid-request', 'PATCH', `${path}/${name}`, {});
  await api.refused('invalid-request', 'PATCH', `${path}/${name}`, { labels: { UP: 'x' } });
  await api.refused('invalid-request', 'PATCH', `${path}/${name}`, { labels: { up: 1 } });
});

test('labels are given at creation', async () => {
  const wanted = { name: 'mail', storageNode: 'alpha', sizeBytes: 512, labels: { app: 'mail' } };
  expect((await api.call('POST', '/v1/volumes', wanted)).body.volume.labels).toEqual({ app: 'mail' });
  expect(await names('/v1/volumes', 'app=mail')).toEqual(['mail']);
  const node = { name: 'beta', controlAddress: 'beta:1', labels: { zone: 'b' } };
  expect((await api.call('POST', '/v1/storage-nodes', node)).body.storageNode.labels).toEqual({ zone: 'b' });
  const vault = { name: 'weekly', storageNode: 'alpha', labels: { use: 'weekly' } };
  expect((await api.call('POST', '/v1/repositories', vault)).body.repository.labels).toEqual({
    use: 'weekly',
  });
});
