// Goal: who changes what they have read is told when somebody else was faster, and who asks again for what they have
// need not be sent it. Method: the real api; concurrent changes that all name the same version.
import { inDatabase } from '@tidemark/catalog/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

let api: TestApi;

beforeAll(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
  await api.repository('vault', 'alpha');
  await api.volume('disk', 'alpha');
});

afterAll(() => api.close());

const tagOf = async (url: string) => String((await api.call('GET', url)).headers.etag);

test('every single resource has a strong tag, the same as long as it stays the same', async () => {
  const { id } = await api.backup({ volume: 'disk', repository: 'vault', checkpoint: 'c1', kind: 'full' });
  const run = (await api.call('GET', '/v1/runs?limit=1')).body.items[0].id;
  for (const url of [
    '/v1/storage-nodes/alpha',
    '/v1/volumes/disk',
    '/v1/volumes/disk/checkpoints/c1',
    '/v1/repositories/vault',
    `/v1/backups/${id}`,
    `/v1/runs/${run}`,
  ]) {
    const tag = await tagOf(url);
    expect(tag, url).toMatch(/^"[\w-]{20,}"$/);
    expect(await tagOf(url), url).toBe(tag);
    for (const known of [tag, `W/${tag}`, `"x", ${tag}`, '*']) {
      const answer = await api.call('GET', url, undefined, { 'if-none-match': known });
      expect([answer.status, answer.body, answer.headers.etag], known).toEqual([304, null, tag]);
    }
    const other = await api.call('GET', url, undefined, { 'if-none-match': '"other"' });
    expect(other.status).toBe(200);
  }
  expect((await api.call('GET', '/v1/volumes')).headers.etag).toBeUndefined();
});

test('a change tells the new tag, which is that of what is read then', async () => {
  const before = await tagOf('/v1/volumes/disk');
  const changed = await api.call(
    'PATCH',
    '/v1/volumes/disk',
    { checkpointLimit: 40 },
    { 'if-match': before },
  );
  expect(changed.status).toBe(200);
  expect(changed.headers.etag).toBe(await tagOf('/v1/volumes/disk'));
  expect(changed.headers.etag).not.toBe(before);
});

test('what has changed since it was read is not changed again', async () => {
  const old = await tagOf('/v1/volumes/disk');
  await api.call('PATCH', '/v1/volumes/disk', { checkpointLimit: 41 });
  for (const tag of [old, `W/${await tagOf('/v1/volumes/disk')}`, '"nonsense"']) {
    const headers = { 'if-match': tag };
    const refused = await api.call('PATCH', '/v1/volumes/disk', { checkpointLimit: 42 }, headers);
    expect([refused.status, refused.body.code]).toEqual([412, 'precondition-failed']);
    const kept = await api.call('DELETE', '/v1/volumes/disk', undefined, headers);
    expect([kept.status, kept.body.code]).toEqual([412, 'precondition-failed']);
  }
  expect((await api.call('GET', '/v1/volumes/disk')).body).toMatchObject({
    checkpointLimit: 41,
    state: 'ready',
  });
  const any = await api.call('PATCH', '/v1/volumes/disk', { checkpointLimit: 43 }, { 'if-match': '*' });
  expect(any.status).toBe(200);
});

test('of many that change what they have all read, one does', async () => {
  const headers = { 'if-match': await tagOf('/v1/volumes/disk') };
  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, n) =>
      api.call('PATCH', '/v1/volumes/disk', { checkpointLimit: 50 + n }, headers),
    ),
  );
  const statuses = answers.map(answer => answer.status).sort();
  expect(statuses).toEqual([200, ...Array(7).fill(412)]);
  const [winner] = answers.filter(answer => answer.status === 200);
  const { checkpointLimit } = (await api.call('GET', '/v1/volumes/disk')).body;
  expect(checkpointLimit).toBe(winner!.body.checkpointLimit);
});

test('what is not there is not there, whatever the tag', async () => {
  const answer = await api.call('PATCH', '/v1/volumes/none', { checkpointLimit: 9 }, { 'if-match': '"x"' });
  expect([answer.status, answer.body.code]).toEqual([404, 'volume-not-found']);
});

test('that a storage node was heard of is no change of it', async () => {
  const tag = await tagOf('/v1/storage-nodes/alpha');
  const { id } = (await api.call('GET', '/v1/storage-nodes/alpha')).body;
  const report = { instanceId: id, nbdAddress: 'alpha.example:10809', version: '0.1.0' };
  const room = { capacityBytes: 1_000_000, availableBytes: 400_000 };
  await api.app.catalog.storageNodes.markOnline(id, { ...report, ...room });
  expect(await tagOf('/v1/storage-nodes/alpha')).toBe(tag);
});

/** Of each resource that can be changed: where it is, and a change that counts. */
const CHANGES: Readonly<Record<string, (n: number) => object>> = {
  '/v1/storage-nodes/alpha': n => ({ labels: { n: String(n) } }),
  '/v1/volumes/disk': n => ({ checkpointLimit: 100 + n }),
  '/v1/volumes/disk/checkpoints/c1': n => ({ pinnedUntil: `203${n}-01-01T00:00:00Z` }),
  '/v1/repositories/vault': n => ({ labels: { n: String(n) } }),
  '/v1/policies/nightly': n => ({ description: `p${n}` }),
  '/v1/replication-rules/away': n => ({ concurrency: 10 + n }),
  '/v1/webhooks/ops': n => ({ url: `https://ops.example/${n}` }),
};

async function changeables(): Promise<void> {
  const schedule = { cron: '0 3 * * *' };
  await api.repository('offsite', 'alpha');
  await api.call('POST', '/v1/policies', { name: 'nightly', schedule, repository: 'vault', enabled: true });
  await api.call('POST', '/v1/replication-rules', { name: 'away', source: 'vault', target: 'offsite' });
  await api.call('POST', '/v1/webhooks', { name: 'ops', url: 'https://ops.example/' });
}

test('of two that change the same version of whatever there is, one does', async () => {
  await changeables();
  const document = (await api.call('GET', '/openapi.json')).body as { paths: Record<string, object> };
  const changeable = Object.entries(document.paths).filter(([, calls]) => 'patch' in calls);
  // A backup has its own name, and a test of its own above.
  expect(Object.keys(CHANGES)).toHaveLength(changeable.length - 1);
  for (const [url, change] of Object.entries(CHANGES)) {
    for (let round = 0; round < 3; round++) {
      const headers = { 'if-match': await tagOf(url) };
      const answers = await Promise.all(
        [1, 2].map(n => api.call('PATCH', url, change(2 * round + n), headers)),
      );
      expect(answers.map(({ status }) => status).sort(), url).toEqual([200, 412]);
      const done = answers.find(({ status }) => status === 200)!;
      // The answer about a checkpoint has a place for a run beside it.
      const isItself = !url.includes('/checkpoints/');
      expect(done.headers.etag, url).toBe(isItself ? await tagOf(url) : undefined);
    }
  }
});

test('what only time and the system change is no change of it', async () => {
  const urls = ['/v1/replication-rules/away', '/v1/policies/nightly', '/v1/webhooks/ops'];
  const before = await Promise.all(urls.map(tagOf));
  // The rule has something to copy from now on, and is later with it by each moment.
  const late = { volume: 'disk', repository: 'vault', checkpoint: 'late', kind: 'full' };
  const { id } = await api.backup(late);
  await api.app.catalog.backups.markStarted(id, { pointInTime: new Date(), dirtyBytes: 1 });
  await inDatabase(api.database.url, async client => {
    await client.query("UPDATE policy SET next_due_at = next_due_at + interval '1 day'");
    await client.query("UPDATE webhook SET next_at = now() + interval '1 hour', deaths_in_a_row = 2");
  });
  expect((await api.call('GET', urls[0]!)).body.status.missing.backups).toBeGreaterThan(0);
  expect(await Promise.all(urls.map(tagOf))).toEqual(before);
});
