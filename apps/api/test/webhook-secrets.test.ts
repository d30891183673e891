// Goal: who reads the catalog, or a copy of it, learns no secret of a webhook; who adds one without a key is told what
// is missing, and nothing is left of it. Method: a real api, and a look at every column of the row that it writes.

import { inDatabase } from '@tidemark/catalog/testing';
import { WebhookSecrets } from '@tidemark/proto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TEST_WEBHOOK_KEY, TestApi } from './support/test-api.ts';

let api: TestApi;
const hook = (name: string) => ({ name, url: 'https://ops.example/hook' });
const rows = () =>
  inDatabase(
    api.database.url,
    async client => (await client.query('SELECT * FROM webhook ORDER BY name')).rows,
  );

beforeAll(async () => {
  api = await TestApi.start();
});
afterAll(() => api.close());

test('what is answered once stands in the catalog only sealed, and so does what replaces it', async () => {
  const made = await api.call('POST', '/v1/webhooks', hook('ops'));
  const renewed = await api.call('POST', '/v1/webhooks/ops/secret');
  expect([made.status, renewed.status]).toEqual([201, 200]);
  expect(made.body.secret).not.toBe(renewed.body.secret);
  const [row] = await rows();
  for (const { body } of [made, renewed]) {
    expect(body.secret).toMatch(/^whsec_[\w-]{43}$/);
    expect(JSON.stringify(row)).not.toContain(body.secret.slice(6, 30));
  }
  expect(new WebhookSecrets([TEST_WEBHOOK_KEY]).open(row, row.secret)).toBe(renewed.body.secret);
});

test('an api without a key keeps no secret, and says what to set', async () => {
  const keyless = await TestApi.on(api.database, { webhookKeys: [] });
  const before = await rows();
  for (const [url, body] of [
    ['/v1/webhooks', hook('second')],
    ['/v1/webhooks/ops/secret', undefined],
  ] as const) {
    const refused = await keyless.call('POST', url, body);
    expect([refused.status, refused.body.code], url).toEqual([503, 'webhook-key-missing']);
    expect(refused.body.detail).toMatch(/webhook '(second|ops)'.*TIDEMARK_WEBHOOK_KEY/);
  }
  expect(await rows()).toEqual(before);
  await keyless.app.close();
});
