// Goal: whatever goes wrong, the answer is a problem document with a stable code, and what is our own fault
// tells nothing of the inside.
import { Writable } from 'node:stream';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { buildApp } from '../src/app.ts';
import { TestApi } from './support/test-api.ts';

const nowhere = 'postgres://nobody@127.0.0.1:1/none';
const json = { 'content-type': 'application/json' };
let api: TestApi;

beforeAll(async () => {
  api = await TestApi.start();
});

afterAll(() => api.close());

test('an unknown route names what was asked for and where to look', async () => {
  const problem = await api.refused('route-not-found', 'GET', '/v1/snapshots?x=1');
  expect(problem).toMatchObject({ status: 404, instance: '/v1/snapshots' });
  expect(problem.detail).toMatch(/nothing at GET \/v1\/snapshots\. .*\/docs/);
  await api.refused('route-not-found', 'DELETE', '/v1/runs/x');
});

test.each([
  ['{"name":', json, 400, 'invalid-request', /not valid JSON/],
  ['', json, 400, 'invalid-request', /body is empty/],
  ['[]', json, 400, 'invalid-request', /The body is an array; send a JSON object/],
  ['null', json, 400, 'invalid-request', /The body is missing; send a JSON object/],
  ['"text"', json, 400, 'invalid-request', /send a JSON object/],
  [
    'name=web',
    { 'content-type': 'application/x-www-form-urlencoded' },
    415,
    'unsupported-media-type',
    /content-type/,
  ],
  [`{"name":"${'x'.repeat(70_000)}"}`, json, 413, 'request-too-large', /65536 bytes/],
  ['{"__proto__":{"a":1}}', json, 400, 'invalid-request', /not valid JSON/],
] as const)('body %.20j is refused', async (payload, headers, status, code, words) => {
  const answer = await api.app.inject({ method: 'POST', url: '/v1/volumes', payload, headers });
  expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/);
  expect(answer.json()).toMatchObject({ status, code, detail: expect.stringMatching(words) });
  expect(answer.statusCode).toBe(status);
});

test('a request without a body is told what to send', async () => {
  const problem = await api.refused('invalid-request', 'POST', '/v1/volumes');
  expect(problem.detail).toBe('The body is missing; send a JSON object');
});

test('what is no moment is told, with one that is', async () => {
  const words = 'send a moment of UTC, such as 2026-11-21T08:00:00.000Z';
  const asked = await api.refused('invalid-request', 'GET', '/v1/runs?since=yesterday');
  expect(asked.detail).toBe(`'since' in the query is the string "yesterday"; ${words}`);
  const token = { name: 'dashboard', role: 'viewer', expiresAt: '2026-02-30T00:00:00Z' };
  const made = await api.refused('invalid-request', 'POST', '/v1/tokens', token);
  expect(made.detail).toBe(`'expiresAt' in the body is the string "2026-02-30T00:00:00Z"; ${words}`);
});

test('a path that is no URL is refused', async () => {
  const answer = await api.app.inject('/v1/volumes/%E0%A4%A');
  expect(answer.json()).toMatchObject({ status: 400, code: 'invalid-request' });
});

test('a reference of any length is looked up or refused', async () => {
  await api.refused('volume-not-found', 'GET', `/v1/volumes/${'x'.repeat(64)}`);
  for (const length of [65, 500]) {
    const answer = await api.app.inject(`/v1/volumes/${'x'.repeat(length)}`);
    expect(answer.json()).toMatchObject({ status: 400, code: 'invalid-request' });
  }
});

test('text that the catalog cannot hold is refused, wherever it stands', async () => {
  await api.storageNode('alpha');
  const volume = { name: 'web', storageNode: 'al\0pha', sizeBytes: 512 };
  for (const problem of [
    await api.refused('invalid-request', 'GET', '/v1/volumes/%00'),
    await api.refused('invalid-request', 'GET', '/v1/backups?volume=a%00b'),
    await api.refused('invalid-request', 'POST', '/v1/volumes', volume),
  ]) {
    expect(problem.detail).toContain('send an id or a name');
  }
  const far = Buffer.from(`999999999999999/7a0d0f9e-6f3e-4f0a-9a55-0a6f4f1d2c3b`).toString('base64url');
  await api.refused('invalid-request', 'GET', `/v1/volumes?cursor=${far}`);
});

test('a catalog that is away is 503, in words, for reading and for writing', async () => {
  const app = await buildApp({ databaseUrl: nowhere, queueUrl: nowhere });
  const body = { name: 'web', storageNode: 'alpha', sizeBytes: 512 };
  for (const call of [
    { url: '/v1/volumes' },
    { url: '/v1/runs/7a0d0f9e-6f3e-4f0a-9a55-0a6f4f1d2c3b' },
    { url: '/v1/volumes', method: 'POST', payload: body } as const,
  ]) {
    const answer = await app.inject(call);
    expect(answer.json()).toMatchObject({
      status: 503,
      code: 'catalog-unavailable',
      detail: expect.stringContaining('TIDEMARK_DATABASE_URL'),
    });
    expect(answer.body).not.toMatch(/ECONNREFUSED|prisma/i);
  }
  await app.close();
});

test('a mistake of our own says nothing but where to look, and is logged with its request', async () => {
  const lines: string[] = [];
  const stream = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk));
      done();
    },
  });
  const app = await buildApp({ databaseUrl: nowhere, queueUrl: nowhere, logger: { level: 'info', stream } });
  app.volumes.list = async () => {
    throw new TypeError('secret: /var/lib/tidemark');
  };
  const answer = await app.inject('/v1/volumes');
  const problem = answer.json();
  expect(problem).toMatchObject({ status: 500, code: 'internal-error' });
  expect(answer.body).not.toContain('secret');
  expect(lines.find(line => line.includes(problem.requestId))).toContain('secret');
  await app.close();
});

test('an answer that breaks its own schema is an internal error', async () => {
  const app = await buildApp({ databaseUrl: nowhere, queueUrl: nowhere });
  app.volumes.get = async () => ({ id: 'no uuid' }) as never;
  const answer = await app.inject('/v1/volumes/web');
  expect(answer.json()).toMatchObject({ status: 500, code: 'internal-error' });
  await app.close();
});
