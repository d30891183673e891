// Goal: a storage node gets in with a join token and without any other, and who has none changes nothing and fills
// nothing. Method: the real api where callers need tokens; what it writes is looked at as an admin.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

const BOOTSTRAP = 'bootstrap-secret-of-this-test-0123456789';
const asAdmin = { authorization: `Bearer ${BOOTSTRAP}` };
let api: TestApi;

beforeAll(async () => {
  api = await TestApi.start({ needsToken: true, bootstrapToken: BOOTSTRAP });
});

afterAll(() => api.close());

const entries = async () => (await api.call('GET', '/v1/audit', undefined, asAdmin)).body.items;
const joining = (token: string) => ({
  token,
  name: 'gamma',
  instanceId: '6f0f4d55-40f5-4a0a-8f39-3f1d5c4f8e01',
  controlAddress: 'gamma.example:7411',
});
const join = (body: object, headers = {}) => api.call('POST', '/v1/storage-nodes/join', body, headers);

test('who has no join token is refused, and leaves no entry in the audit log', async () => {
  await api.call('POST', '/v1/join-tokens', {}, asAdmin);
  const before = await entries();
  const written = await api.written();
  const unknown = await join(joining(`tmj_${'0'.repeat(64)}`), { 'idempotency-key': 'one' });
  expect([unknown.status, unknown.body.code]).toEqual([403, 'join-token-invalid']);
  expect((await join({})).body.code).toBe('invalid-request');
  expect(await entries()).toEqual(before);
  expect(await api.written()).toEqual(written);
});

test('who has one joins, and the audit log tells, without the token', async () => {
  const { secret } = (await api.call('POST', '/v1/join-tokens', { name: 'gamma' }, asAdmin)).body;
  const joined = await join(joining(secret));
  expect(joined.body).toMatchObject({ storageNode: { name: 'gamma', state: 'joining' } });
  const [entry] = await entries();
  expect(entry).toMatchObject({
    action: 'POST /v1/storage-nodes/join',
    actor: 'anybody',
    result: 'done',
    runId: joined.body.run.id,
    request: { name: 'gamma', token: '(not kept)' },
  });
  expect(JSON.stringify(await entries())).not.toContain(secret);
});
