// Goal: who follows events gets each once, and learns why it ends where the API ends it. Method: a server of this test
// that writes streams; the real API's are tried by the command's tests.
import { expect, test } from 'vitest';
import { TidemarkClient } from './client.ts';
import { followEvents } from './event-stream.ts';
import { serve } from './testing/serve.ts';

const type = 'text/event-stream';
const BEGIN = 'retry: 1\n: heartbeat\nid: 6\n\n';
const EVENT = 'id: 7\nevent: volume-ready\ndata: {"id":7,"kind":"volume-ready"}\n\n';

class Hurried extends TidemarkClient {
  override async pause(): Promise<void> {}
}

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

test('once begun, a stream is asked for again while nobody is there, or the catalog is away', async () => {
  const away = {
    code: 'catalog-unavailable',
    title: 'The catalog is away',
    detail: 'Start it.',
    status: 503,
  };
  const gone = { code: 'events-pruned', title: 'They are gone', detail: 'It is so.', status: 410 };
  const problem = (body: typeof away) => ({ status: body.status, body: JSON.stringify(body) });
  const { url, asked } = await serve([
    { type, body: `${BEGIN}${EVENT}`, cut: true },
    { drop: true },
    problem(away),
    problem(gone),
  ]);
  const notes: string[] = [];
  const client = new Hurried({ url });
  const told: unknown[] = [];
  const following = (async () => {
    for await (const one of followEvents(client, {}, { note: text => notes.push(text) })) told.push(one);
  })();
  await expect(following).rejects.toMatchObject({ code: 'events-pruned' });
  expect(told).toEqual([{ event: { id: 7, kind: 'volume-ready' } }]);
  expect(notes).toHaveLength(3);
  expect(notes.at(-1)).toContain('Start it.');
  expect(asked.slice(1).map(({ url }) => new URL(url, 'http://x').searchParams.get('after'))).toEqual([
    '7',
    '7',
    '7',
  ]);
});
