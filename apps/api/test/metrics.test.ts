// Goal: what the api service answers is counted by route, however many paths there are, and shown where it is wanted.
import { METRICS } from '@tidemark/proto/metrics';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { buildApp } from '../src/app.ts';
import { TestApi } from './support/test-api.ts';

let api: TestApi;

beforeAll(async () => {
  api = await TestApi.start();
});
afterAll(() => api.close());

test('requests are counted by the pattern of their route', async () => {
  await api.storageNode('alpha');
  for (const name of ['a', 'b', 'c']) await api.call('GET', `/v1/volumes/${name}`);
  await api.call('GET', '/v1/volumes');
  await api.app.inject('/nowhere');
  const { body, headers } = await api.app.inject('/metrics');
  expect(headers['content-type']).toMatch(/^text\/plain/);
  const missing = 'method="GET",route="/v1/volumes/:volume",status="404"';
  expect(body).toContain(`tidemark_http_requests_total{${missing}} 3`);
  expect(body).toContain('route="/v1/volumes",status="200"} 1');
  expect(body).toContain('route="none",status="404"} 1');
  expect(body).toMatch(/request_duration_seconds_bucket\{le="30",method="GET",route="\/v1\/volumes"\} 1/);
  expect(body).not.toContain('/v1/volumes/a');
  expect(body).toContain('tidemark_event_streams 0');
});

test('every metric of this service in the catalogue is shown', async () => {
  const { body } = await api.app.inject('/metrics');
  const own = Object.entries(METRICS).filter(([, { service }]) => service === 'api');
  for (const [name, { type }] of own) expect(body).toContain(`# TYPE ${name} ${type}`);
});

test('a listener of their own shows them there alone, with those of the runtime', async () => {
  const listen = { host: '127.0.0.1', port: 0 };
  const addresses: string[] = [];
  const stream = {
    write: (line: string) => {
      const { msg, address } = JSON.parse(line);
      if (msg === 'metrics') addresses.push(address);
    },
  };
  const app = await buildApp({
    ...{ databaseUrl: api.database.url, queueUrl: api.database.url },
    metrics: { listen, runtime: true },
    logger: { level: 'info', stream },
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  await expect.poll(() => addresses.length, { timeout: 30_000 }).toBe(1);
  expect((await app.inject('/metrics')).statusCode).toBe(404);
  const text = await (await fetch(`http://${addresses[0]}/metrics`)).text();
  expect(text).toContain('tidemark_http_requests_total');
  expect(text).toContain('process_cpu_seconds_total');
  await app.close();
  await expect(fetch(`http://${addresses[0]}/metrics`)).rejects.toThrow();
});
