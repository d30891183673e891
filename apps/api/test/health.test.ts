// Goal: the probes tell the truth about the process, the catalog and the queue, and a queue that is away
// costs no request anything.

import { createTestDatabase, inDatabase } from '@tidemark/catalog/testing';
import { createQueue } from '@tidemark/proto/queue-connection';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { buildApp } from '../src/app.ts';
import { QUEUE_ANSWER_MAX_MS } from '../src/limits.ts';
import { TestApi } from './support/test-api.ts';

const nowhere = 'postgres://nobody@127.0.0.1:1/none';
const noRedis = 'redis://127.0.0.1:1';
let api: TestApi;

beforeEach(async () => {
  api = await TestApi.start();
});

afterEach(() => api.close());

/** A first connection takes its time on a busy machine; the probe tells so, as it would tell a caller. */
async function becomes(status: number): Promise<void> {
  const ready = () => api.call('GET', '/readyz').then(answer => answer.status);
  await expect.poll(ready, { timeout: 20_000 }).toBe(status);
}

test('healthz asks nobody', async () => {
  const app = await buildApp({ databaseUrl: nowhere, queueUrl: nowhere });
  const answer = await app.inject('/healthz');
  expect(answer.statusCode).toBe(200);
  expect(answer.json()).toMatchObject({ status: 'up', version: expect.stringMatching(/^\d+\.\d+\.\d+/) });
  await app.close();
});

test('readyz is 200 while both answer', async () => {
  await becomes(200);
  expect((await api.call('GET', '/readyz')).body).toEqual({ status: 'ready', catalog: 'up', queue: 'up' });
});

test('readyz names both when the database stops, and recovers with it', async () => {
  await becomes(200);
  const name = new URL(api.database.url).pathname.slice(1);
  const server = new URL(api.database.url);
  server.pathname = '/postgres';
  const inServer = (sql: string) => inDatabase(server.href, client => client.query(sql));
  await inServer(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`);
  await inServer(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${name}'`);
  const { status, body } = await api.call('GET', '/readyz');
  expect(status).toBe(503);
  expect(body).toMatchObject({ code: 'not-ready', missing: ['catalog', 'queue'] });
  expect(body.detail).toContain('TIDEMARK_DATABASE_URL');
  await inServer(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`);
  await becomes(200);
});

test.each([nowhere, noRedis])(
  'with the queue away at %s, readyz names it and requests are still taken',
  async queueUrl => {
    const database = await createTestDatabase();
    const app = await buildApp({ databaseUrl: database.url, queueUrl });
    // On a busy machine the first connection to the catalog may come too late for the first answer.
    const ready = async () => (await app.inject('/readyz')).json();
    await expect.poll(ready, { timeout: 30_000 }).toMatchObject({
      status: 503,
      missing: ['queue'],
      detail: expect.stringContaining('TIDEMARK_QUEUE_URL'),
    });
    const began = performance.now();
    const payload = { name: 'alpha', controlAddress: 'alpha.example:7411' };
    const answer = await app.inject({ method: 'POST', url: '/v1/storage-nodes', payload });
    expect(answer.statusCode).toBe(202);
    expect(performance.now() - began).toBeLessThan(QUEUE_ANSWER_MAX_MS);
    const waiting = await app.catalog.runs.listDispatchable(10);
    expect(waiting).toMatchObject([{ id: answer.json().run.id, attempt: 1 }]);
    await app.close();
    await database.drop();
  },
);

test('a run is handed to the queue under the id of its attempt', async () => {
  const { body } = await api.call('POST', '/v1/storage-nodes', {
    name: 'alpha',
    controlAddress: 'a.example:7411',
  });
  const queue = createQueue('runs', { url: api.database.url });
  const jobId = `${body.run.id}-1`;
  await expect
    .poll(async () => (await queue.getJob(jobId))?.data, { timeout: 5_000 })
    .toEqual({
      runId: body.run.id,
      attempt: 1,
    });
  await queue.close();
});
