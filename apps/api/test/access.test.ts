// Goal: who may do what is decided by the token alone: its role, its scope, its end. Method: a real api that needs
// tokens, on a database of its own; the same calls with one token after the other.
import { randomUUID } from 'node:crypto';
import { inDatabase } from '@tidemark/catalog/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Method, TestApi } from './support/test-api.ts';

const BOOTSTRAP = 'bootstrap-secret-of-this-test-0123456789';
const SOON_MS = 3_600_000;
let open: TestApi;
let api: TestApi;
let prod: { id: string };
let test1: { id: string };

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const asAdmin = bearer(BOOTSTRAP);

/** The same database once without tokens, to prepare what tokens are then tried on. */
beforeAll(async () => {
  open = await TestApi.start();
  api = await TestApi.on(open.database, { needsToken: true, bootstrapToken: BOOTSTRAP });
  await open.storageNode('alpha');
  await open.repository('vault', 'alpha');
  prod = await labelled('prod-1', { env: 'prod' });
  test1 = await labelled('test-1', { env: 'test' });
});

afterAll(async () => {
  await api.app.close();
  await open.close();
});

async function labelled(name: string, labels: object): Promise<{ id: string }> {
  const volume = await open.volume(name, 'alpha');
  await open.call('PATCH', `/v1/volumes/${name}`, { labels });
  return volume;
}

async function token(wanted: object, by = asAdmin) {
  const body = { name: `t-${randomUUID()}`, role: 'viewer', ...wanted };
  const answer = await api.call('POST', '/v1/tokens', body, by);
  expect(answer.status, JSON.stringify(answer.body)).toBe(201);
  return { ...answer.body.token, headers: bearer(answer.body.secret), secret: answer.body.secret };
}

test('without a token nothing but probes and the contract answers', async () => {
  for (const url of ['/v1/volumes', `/v1/volumes/${prod.id}`, '/v1/tokens', '/v1/runs']) {
    const { status, body, headers } = await api.call('GET', url);
    expect([status, body.code]).toEqual([401, 'unauthenticated']);
    expect(headers['www-authenticate']).toBe('Bearer realm="tidemark"');
  }
  for (const url of ['/healthz', '/readyz', '/openapi.json']) {
    expect((await api.call('GET', url)).status, url).toBe(200);
  }
  expect((await api.call('GET', '/v1/none')).body.code).toBe('route-not-found');
});

test.each([
  ['Basic dXNlcjpwYXNz', /not a bearer token/],
  ['Bearer', /not a bearer token/],
  ['Bearer tidemark_0123456789abcdef_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', /not known/],
  [`Bearer ${BOOTSTRAP}x`, /not known/],
])('%s lets nobody in, and is not repeated', async (authorization, words) => {
  const { body } = await api.call('GET', '/v1/volumes', undefined, { authorization });
  expect(body).toMatchObject({ code: 'unauthenticated', detail: expect.stringMatching(words) });
  expect(JSON.stringify(body)).not.toContain(authorization.split(' ')[1] ?? 'Bearer TOKEN2');
});

test('a token is shown once, and the catalog keeps nothing that lets anybody in', async () => {
  const made = await token({ name: 'shown-once', role: 'operator' });
  expect(made.secret).toMatch(/^tidemark_[0-9a-f]{16}_[\w-]{43}$/);
  const listed = await api.call('GET', '/v1/tokens?limit=500', undefined, asAdmin);
  expect(listed.body.items.map((one: { name: string }) => one.name)).toContain('shown-once');
  expect(JSON.stringify(listed.body)).not.toContain(made.secret);
  const rows = await inDatabase(open.database.url, async client =>
    JSON.stringify((await client.query('SELECT * FROM api_token')).rows),
  );
  expect(rows).toContain(made.prefix);
  expect(rows).not.toContain(made.secret.slice(-24));
  expect(rows).not.toContain(BOOTSTRAP);
  const taken = await api.call('POST', '/v1/tokens', { name: 'shown-once', role: 'viewer' }, asAdmin);
  expect([taken.status, taken.body.code]).toEqual([409, 'token-name-taken']);
});

test.each([
  ['viewer', [200, 403, 403, 403, 403]],
  ['operator', [200, 200, 403, 403, 403]],
  ['admin', [200, 200, 200, 201, 202]],
] as const)('%s may do what the role says', async (role, expected) => {
  const { headers } = await token({ role });
  const calls: [Method, string, object?][] = [
    ['GET', '/v1/volumes/prod-1'],
    ['PATCH', '/v1/volumes/prod-1', { checkpointLimit: 32 }],
    ['GET', '/v1/tokens'],
    ['POST', '/v1/tokens', { name: `by-${role}`, role: 'viewer' }],
    ['POST', '/v1/storage-nodes', { name: `by-${role}`, controlAddress: 'by.example:1' }],
  ];
  const statuses = [];
  for (const [method, url, body] of calls) statuses.push((await api.call(method, url, body, headers)).status);
  expect(statuses).toEqual(expected);
});

test('runs carry who asked for them', async () => {
  const { headers, name } = await token({ role: 'operator' });
  const body = { name: 'asked', storageNode: 'alpha', sizeBytes: 512 };
  const made = await api.call('POST', '/v1/volumes', body, headers);
  expect(made.body.run.requestedBy).toBe(name);
  const listed = await api.call('GET', `/v1/runs?requestedBy=${name}`, undefined, headers);
  expect(listed.body.items.map((run: { id: string }) => run.id)).toEqual([made.body.run.id]);
});

test('a token ends when it is revoked, and when its time is over', async () => {
  const revoked = await token({ role: 'admin' });
  const end = await api.call('DELETE', `/v1/tokens/${revoked.name}`, undefined, asAdmin);
  expect(end.body).toMatchObject({ state: 'revoked', revokedAt: expect.any(String) });
  const after = await api.call('GET', '/v1/volumes', undefined, revoked.headers);
  expect(after.body).toMatchObject({ status: 401, detail: expect.stringMatching(/was revoked at/) });
  const again = await api.call('DELETE', `/v1/tokens/${revoked.id}`, undefined, asAdmin);
  expect(again.body.revokedAt).toBe(end.body.revokedAt);

  const short = await token({ expiresAt: new Date(Date.now() + SOON_MS).toISOString() });
  expect((await api.call('GET', '/v1/volumes', undefined, short.headers)).status).toBe(200);
  await inDatabase(open.database.url, client =>
    client.query("UPDATE api_token SET expires_at = now() - interval '1 second' WHERE id = $1", [short.id]),
  );
  const late = await api.call('GET', '/v1/volumes', undefined, short.headers);
  expect(late.body).toMatchObject({ status: 401, detail: expect.stringMatching(/expired at/) });
  const unusable = await api.call('GET', '/v1/tokens?state=unusable&limit=500', undefined, asAdmin);
  const names = unusable.body.items.map((one: { name: string }) => one.name);
  expect(names).toEqual(expect.arrayContaining([revoked.name, short.name]));

  const past = { name: 'past', role: 'viewer', expiresAt: '2020-01-01T00:00:00Z' };
  const refused = await api.call('POST', '/v1/tokens', past, asAdmin);
  expect(refused.body).toMatchObject({
    code: 'invalid-request',
    detail: expect.stringContaining('has passed'),
  });
});

test('a webhook ends with the token of whoever changed it last, and says so', async () => {
  const [first, second] = [await token({ role: 'admin' }), await token({ role: 'admin' })];
  const add = async (name: string, by: TestApi, headers: Record<string, string>) => {
    const made = await by.call('POST', '/v1/webhooks', { name, url: 'http://127.0.0.1:9/' }, headers);
    expect(made.status, JSON.stringify(made.body)).toBe(201);
  };
  await add('theirs', api, first.headers);
  await add('changed-by-another', api, first.headers);
  await add('of-nobody', open, {});
  const look = async (name: string) =>
    (await api.call('GET', `/v1/webhooks/${name}`, undefined, asAdmin)).body;
  const address = { url: 'http://127.0.0.1:9/other' };
  await api.call('PATCH', '/v1/webhooks/changed-by-another', address, second.headers);
  expect(await look('changed-by-another')).toMatchObject({ createdBy: first.name, onBehalfOf: second.name });

  const theirs = await look('theirs');
  expect(theirs).toMatchObject({ onBehalfOf: first.name, state: 'enabled', suspendedFor: null });
  const before = await open.app.catalog.events.newestId();
  await api.call('DELETE', `/v1/tokens/${first.id}`, undefined, asAdmin);
  expect(await look('theirs')).toMatchObject({ state: 'suspended', suspendedFor: 'token-revoked' });
  for (const name of ['changed-by-another', 'of-nobody']) {
    expect(await look(name), name).toMatchObject({ state: 'enabled', suspendedFor: null });
  }
  const [told, ...more] = await open.app.catalog.events.listAfter(before);
  expect(told).toMatchObject({ kind: 'webhook-suspended', subjectId: theirs.id });
  expect(told!.data).toEqual({ reason: 'token-revoked', token: first.name });
  expect(more).toEqual([]);

  const enabled = await api.call('PATCH', '/v1/webhooks/theirs', { enabled: true }, second.headers);
  expect(enabled.body).toMatchObject({ state: 'enabled', suspendedFor: null, onBehalfOf: second.name });
  await api.call('DELETE', `/v1/tokens/${second.id}`, undefined, asAdmin);
  expect(await look('theirs')).toMatchObject({ state: 'suspended', createdBy: first.name });
});

test('when it was last used is told', async () => {
  const made = await token({});
  expect(made.lastUsedAt).toBeNull();
  await api.call('GET', '/v1/volumes', undefined, made.headers);
  const used = async () =>
    (await api.call('GET', `/v1/tokens/${made.id}`, undefined, asAdmin)).body.lastUsedAt;
  await expect.poll(used, { timeout: 20_000 }).not.toBeNull();
});

test('what is outside of a scope is not there', async () => {
  const { headers } = await token({ role: 'operator', scope: 'env=prod' });
  const backup = await open.backup({ volume: 'test-1', repository: 'vault', checkpoint: 'c1', kind: 'full' });
  const mine = await open.backup({ volume: 'prod-1', repository: 'vault', checkpoint: 'c1', kind: 'full' });
  const runs = await open.call('GET', '/v1/runs?limit=500');
  const foreign = runs.body.items.find((run: { volumeId: string }) => run.volumeId === test1.id);
  const calls: [Method, string, object | undefined, string][] = [
    ['GET', '/v1/volumes/test-1', undefined, 'volume'],
    ['GET', `/v1/volumes/${test1.id}`, undefined, 'volume'],
    ['PATCH', '/v1/volumes/test-1', { checkpointLimit: 3 }, 'volume'],
    ['DELETE', '/v1/volumes/test-1', undefined, 'volume'],
    ['GET', '/v1/volumes/test-1/checkpoints', undefined, 'volume'],
    ['GET', '/v1/volumes/test-1/checkpoints/c1', undefined, 'volume'],
    ['POST', '/v1/volumes/test-1/checkpoints', { name: 'c2' }, 'volume'],
    ['DELETE', '/v1/volumes/test-1/checkpoints/c1', undefined, 'volume'],
    ['GET', '/v1/volumes/test-1/snapshots', undefined, 'volume'],
    ['POST', '/v1/volumes/test-1/snapshots', { name: 's' }, 'volume'],
    ['POST', '/v1/volumes/test-1/audit', {}, 'volume'],
    [
      'POST',
      '/v1/backups',
      { volume: 'test-1', repository: 'vault', checkpoint: 'x', kind: 'full' },
      'volume',
    ],
    ['POST', '/v1/exports', { volume: 'test-1' }, 'volume'],
    ['GET', `/v1/backups/${backup.id}`, undefined, 'backup'],
    ['PATCH', `/v1/backups/${backup.id}`, { description: 'x' }, 'backup'],
    ['DELETE', `/v1/backups/${backup.id}`, undefined, 'backup'],
    ['POST', `/v1/backups/${backup.id}/verify`, {}, 'backup'],
    ['POST', '/v1/restores', { backup: backup.id, target: { inPlace: { volume: 'prod-1' } } }, 'backup'],
    ['POST', '/v1/restores', { backup: mine.id, target: { inPlace: { volume: 'test-1' } } }, 'volume'],
    ['GET', `/v1/runs/${foreign.id}`, undefined, 'run'],
    ['POST', `/v1/runs/${foreign.id}/cancel`, undefined, 'run'],
  ];
  for (const [method, url, body, noun] of calls) {
    const before = await open.written();
    const answer = await api.call(method, url, body, headers);
    expect([answer.status, answer.body.code], `${method} ${url}`).toEqual([404, `${noun}-not-found`]);
    expect({ ...(await open.written()) }, `${method} ${url}`).toEqual(before);
  }
  const ids = async (url: string) =>
    (await api.call('GET', url, undefined, headers)).body.items.map((item: { id: string }) => item.id);
  expect(await ids('/v1/volumes')).toEqual([prod.id]);
  expect(await ids('/v1/volumes?selector=env%3Dtest')).toEqual([]);
  expect(await ids('/v1/backups')).toEqual([mine.id]);
  expect(await ids('/v1/backups?volume=prod-1')).toEqual([mine.id]);
  expect(await ids(`/v1/backups?volume=${test1.id}`)).toEqual([]);
  const seen = (await api.call('GET', '/v1/runs?limit=500', undefined, headers)).body.items;
  expect(new Set(seen.map((run: { volumeId: string }) => run.volumeId))).toEqual(new Set([prod.id]));
  expect((await api.call('GET', `/v1/backups/${mine.id}`, undefined, headers)).status).toBe(200);
});

test('a scope keeps what it makes inside, and has no say about the rest', async () => {
  const { headers } = await token({ role: 'admin', scope: 'env in (prod)' });
  const volume = { name: 'scoped', storageNode: 'alpha', sizeBytes: 512 };
  for (const labels of [undefined, {}, { env: 'test' }]) {
    const body = { ...volume, ...(labels && { labels }) };
    const refused = await api.call('POST', '/v1/volumes', body, headers);
    expect([refused.status, refused.body.code]).toEqual([403, 'forbidden']);
  }
  const made = await api.call('POST', '/v1/volumes', { ...volume, labels: { env: 'prod' } }, headers);
  expect(made.status).toBe(202);
  const { id } = await open.backup({ volume: 'prod-1', repository: 'vault', checkpoint: 'r1', kind: 'full' });
  const restored = (labels?: object) => {
    const target = { volume: { name: 'back', storageNode: 'alpha', ...(labels && { labels }) } };
    return api.call('POST', '/v1/restores', { backup: id, target }, headers);
  };
  expect((await restored()).body.code).toBe('forbidden');
  expect((await restored({ env: 'prod' })).body.volume).toMatchObject({ labels: { env: 'prod' } });
  const out = await api.call('PATCH', '/v1/volumes/prod-1', { labels: { env: 'test' } }, headers);
  expect([out.status, out.body.code]).toEqual([403, 'forbidden']);
  for (const [method, url, body] of [
    ['POST', '/v1/prune', { repository: 'vault', keep: { last: 1 } }],
    ['POST', '/v1/storage-nodes', { name: 'gamma', controlAddress: 'h:1' }],
    ['POST', '/v1/tokens', { name: 'wider', role: 'admin' }],
    ['GET', '/v1/policies', undefined],
    // Otherwise it would tell which policies there are.
    ['GET', '/v1/groups?policy=nightly', undefined],
    ['GET', '/v1/audit', undefined],
    ['GET', '/v1/differences', undefined],
    ['POST', '/v1/reconcile', {}],
  ] as const) {
    const refused = await api.call(method, url, body, headers);
    expect([refused.status, refused.body.code], url).toEqual([403, 'forbidden']);
  }
  for (const url of ['/v1/repositories', '/v1/groups']) {
    expect((await api.call('GET', url, undefined, headers)).status, url).toBe(200);
  }
});

test('a scope that cannot be read is refused when it is given', async () => {
  const wanted = { name: 'odd', role: 'viewer', scope: 'env==' };
  const { body } = await api.call('POST', '/v1/tokens', wanted, asAdmin);
  expect(body).toMatchObject({ code: 'invalid-request', detail: expect.stringContaining('selector') });
});

test('a bootstrap token that is revoked lets nobody in any more', async () => {
  const other = 'another-bootstrap-secret-0123456789abcdef';
  const own = await TestApi.on(open.database, { needsToken: true, bootstrapToken: other });
  const first = await own.call('GET', '/v1/tokens?limit=500', undefined, bearer(other));
  expect(first.status).toBe(200);
  const mine = first.body.items.find((one: { name: string }) => one.name.startsWith('bootstrap-'));
  expect((await own.call('DELETE', `/v1/tokens/${mine.id}`, undefined, asAdmin)).status).toBe(200);
  expect((await own.call('GET', '/v1/volumes', undefined, bearer(other))).status).toBe(401);
  await own.app.close();
});

test('the last token that lets an admin in is revoked only where that is meant', async () => {
  const first = 'a-bootstrap-secret-of-its-own-0123456789';
  const fleet = await TestApi.start();
  const own = await TestApi.on(fleet.database, { needsToken: true, bootstrapToken: first });
  const make = async (name: string, more: object) => {
    const { body } = await own.call('POST', '/v1/tokens', { name, ...more }, bearer(first));
    return bearer(body.secret);
  };
  const revoke = (name: string, by: Record<string, string>) =>
    own.call('DELETE', `/v1/tokens/${name}`, undefined, by);
  await make('scoped', { role: 'admin', scope: 'env=prod' });
  await make('reader', { role: 'viewer' });
  const refused = await revoke('bootstrap', bearer(first));
  expect(refused.body).toMatchObject({ status: 409, code: 'token-last' });
  expect(refused.body.detail).toMatch(
    /^Token 'bootstrap' is the last .*`tidemark token create NAME --role admin`/,
  );
  expect((await revoke('reader', bearer(first))).status).toBe(200);
  const second = await make('second', { role: 'admin' });
  // Each the other's, at the same time.
  const both = await Promise.all([revoke('second', bearer(first)), revoke('bootstrap', second)]);
  expect(both.map(({ status }) => status).sort()).not.toEqual([200, 200]);
  const [left, name] = both[0]!.status === 200 ? [bearer(first), 'bootstrap'] : [second, 'second'];
  expect((await revoke(name, left)).body.code).toBe('token-last');
  expect((await revoke(`${name}?allowLastAdmin=true`, left)).status).toBe(200);
  expect((await own.call('GET', '/v1/tokens', undefined, left)).status).toBe(401);
  // Where none is needed, whoever has none is an admin.
  expect((await fleet.call('GET', '/v1/tokens')).status).toBe(200);
  await own.app.close();
  await fleet.close();
});

test('an unused bootstrap token lets an admin in as well', async () => {
  const fleet = await TestApi.start();
  const made = await fleet.call('POST', '/v1/tokens', { name: 'only', role: 'admin' });
  const only = bearer(made.body.secret);
  const without = await TestApi.on(fleet.database, { needsToken: true });
  expect((await without.call('DELETE', '/v1/tokens/only', undefined, only)).body.code).toBe('token-last');
  const own = await TestApi.on(fleet.database, { needsToken: true, bootstrapToken: BOOTSTRAP });
  expect((await own.call('DELETE', '/v1/tokens/only', undefined, only)).status).toBe(200);
  expect((await own.call('GET', '/v1/tokens', undefined, asAdmin)).status).toBe(200);
  await without.app.close();
  await own.app.close();
  await fleet.close();
});

test('where none is needed a token that is sent counts all the same', async () => {
  const { headers, name } = await token({ role: 'viewer' });
  const refused = await open.call('POST', '/v1/volumes', { name: 'v' }, headers);
  expect(refused.body).toMatchObject({ code: 'forbidden', detail: expect.stringContaining(name) });
  expect((await open.call('GET', '/v1/volumes', undefined, bearer('nonsense'))).status).toBe(401);
});
