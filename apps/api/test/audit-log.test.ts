// Goal: for every change there is who asked for it, and nobody can take that away. Method: the real api; the same table
// past the api.
import { inDatabase } from '@tidemark/catalog/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

let api: TestApi;

beforeAll(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
});

afterAll(() => api.close());

const entries = async (query = '') => (await api.call('GET', `/v1/audit?limit=500${query}`)).body.items;
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

test('a change is there with who, what, on what and its run', async () => {
  const made = await api.call('POST', '/v1/tokens', { name: 'ops', role: 'operator' });
  const body = { name: 'web', storageNode: 'alpha', sizeBytes: 512 };
  const started = await api.call('POST', '/v1/volumes', body, bearer(made.body.secret));
  const [entry] = await entries();
  expect(entry).toMatchObject({
    actor: 'ops',
    tokenId: made.body.token.id,
    action: 'POST /v1/volumes',
    subject: '/v1/volumes',
    runId: started.body.run.id,
    request: body,
    result: 'done',
    code: null,
    remoteAddress: '127.0.0.1',
    requestId: expect.any(String),
  });
  expect(await entries(`&runId=${started.body.run.id}`)).toEqual([entry]);
  expect(JSON.stringify(await entries())).not.toContain(made.body.secret);
});

test('what was refused is there, too, with its code; what only reads is not', async () => {
  const made = await api.call('POST', '/v1/tokens', { name: 'viewer', role: 'viewer' });
  await api.call('PATCH', '/v1/volumes/web', { checkpointLimit: 9 }, bearer(made.body.secret));
  await api.call('DELETE', '/v1/volumes/none?wait=done');
  await api.call('POST', '/v1/volumes', { name: 'web' });
  const before = (await entries()).length;
  await api.call('GET', '/v1/volumes');
  await api.call('GET', '/v1/volumes/none');
  await api.call('DELETE', '/v1/nothing-here');
  const [invalid, missing, forbidden] = await entries();
  expect((await entries()).length).toBe(before);
  expect(forbidden).toMatchObject({ actor: 'viewer', result: 'refused', code: 'forbidden', runId: null });
  expect(missing).toMatchObject({ subject: '/v1/volumes/none', code: 'volume-not-found', request: null });
  expect(invalid).toMatchObject({ actor: 'local', code: 'invalid-request', request: { name: 'web' } });
});

test('who is not let in fills no log', async () => {
  const before = (await entries()).length;
  await api.call('POST', '/v1/volumes', { name: 'x' }, bearer('nonsense'));
  expect(await entries()).toHaveLength(before);
});

test('there is no change without its entry: both are written, or none is', async () => {
  const own = await TestApi.on(api.database, {});
  await inDatabase(api.database.url, client =>
    client.query('ALTER TABLE audit_entry ADD CONSTRAINT full_disk CHECK (id < 0) NOT VALID'),
  );
  const before = await api.written();
  const answer = await own.call('PATCH', '/v1/volumes/web', { checkpointLimit: 77 });
  const written = await api.written();
  await inDatabase(api.database.url, client =>
    client.query('ALTER TABLE audit_entry DROP CONSTRAINT full_disk'),
  );
  expect(answer.status).toBe(500);
  expect(written).toEqual(before);
  expect((await api.call('GET', '/v1/volumes/web')).body.checkpointLimit).not.toBe(77);
  await own.app.close();
});

test.each(['UPDATE audit_entry SET actor = $$nobody$$', 'DELETE FROM audit_entry', 'TRUNCATE audit_entry'])(
  '%s is refused by the database itself',
  async statement => {
    const before = await entries();
    await expect(inDatabase(api.database.url, client => client.query(statement))).rejects.toThrow(
      /never changed, and deleted for their age alone/,
    );
    expect(await entries()).toEqual(before);
  },
);

test('the list is filtered and paged', async () => {
  const all = await entries();
  expect(await entries('&actor=ops')).toEqual(all.filter((one: { actor: string }) => one.actor === 'ops'));
  expect(await entries('&result=refused')).toEqual(
    all.filter((one: { result: string }) => one.result === 'refused'),
  );
  expect((await entries('&action=DELETE')).length).toBe(1);
  expect((await entries('&subject=/v1/volumes/no')).length).toBe(1);
  expect(await entries(`&since=${all[0].at}`)).toContainEqual(all[0]);
  expect(await entries('&until=2020-01-01T00:00:00Z')).toEqual([]);
  const paged = [];
  for (let cursor = ''; ; ) {
    const { items, nextCursor } = (await api.call('GET', `/v1/audit?limit=3${cursor}`)).body;
    paged.push(...items);
    if (nextCursor === null) break;
    cursor = `&cursor=${nextCursor}`;
  }
  expect(paged).toEqual(all);
  await api.refused('invalid-request', 'GET', '/v1/audit?cursor=x');
});

test('it is for admins alone', async () => {
  const made = await api.call('POST', '/v1/tokens', { name: 'nosy', role: 'operator' });
  const refused = await api.call('GET', '/v1/audit', undefined, bearer(made.body.secret));
  expect(refused.body.code).toBe('forbidden');
});
