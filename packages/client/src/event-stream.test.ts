// Goal: who follows events gets each once, and learns why it ends where the API ends it. Method: a server of this test
// that writes streams; the real API's are tried by the command's tests.
import { expect, test } from 'vitest';
import { TidemarkClient } from './client.ts';
import { followEvents } from './event-stream.ts';
import { serve } from './testing/serve.ts';

const type = 'text/event-stream';
const BEGIN = 'retry: 1\n: heartbeat\nid: 6\n\n';
const EVENT = 'id: 7\nevent: volume-ready\ndata: {"id":7,"kind":"volume-ready"}\n\n';

async function follow(url: string) {
  const told: unknown[] = [];
  const failure = await (async () => {
    for await (const one of followEvents(new TidemarkClient({ url }), {})) told.push(one);
  })().catch((error: unknown) => error);
  return { told, failure };
}

test.each([
  ['unauthenticated', 401],
  ['events-pruned', 410],
  ['events-ahead', 409],
])('a stream that ends with %s is refused like any other call', async (code, status) => {
  const { url, asked } = await serve([
    { type, body: `${BEGIN}${EVENT}event: ${code}\ndata: {"code":"${code}","detail":"It is so."}\n\n` },
  ]);
  const { told, failure } = await follow(url);
  expect(told).toEqual([{ event: { id: 7, kind: 'volume-ready' } }]);
  expect(failure).toMatchObject({ name: 'ProblemFailure', code, status, message: 'It is so.' });
  expect(asked).toHaveLength(1);
});
