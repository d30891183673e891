// Goal: calls reach the API as it describes itself, and each way to fail is told apart. Method: a server of this test
// that notes what it is asked, and answers as told; the real API is tried by the command's tests.
import { expect, test } from 'vitest';
import { TidemarkClient } from './client.ts';
import { LostAnswerFailure, ProblemFailure, UnreachableFailure } from './failures.ts';
import { looksAt, requireSuccess } from './run-looks.ts';
import { serve } from './testing/serve.ts';
import type { Schema } from './types.ts';

test('a path is filled in, with query and token', async () => {
  const { url, asked } = await serve([{ body: '{"name":"disk 1"}' }]);
  const client = new TidemarkClient({ url: `${url}/`, token: 'secret' });
  const volume = await client.get('/v1/volumes/{volume}', { params: { path: { volume: 'disk 1/é' } } });
  expect(volume.name).toBe('disk 1');
  expect(asked).toMatchObject([
    { method: 'GET', url: '/v1/volumes/disk%201%2F%C3%A9', headers: { authorization: 'Bearer secret' } },
  ]);
});

test('each POST carries a key of its own, or the one that is given', async () => {
  const { url, asked } = await serve([{}, {}, {}]);
  const client = new TidemarkClient({ url });
  const body = { name: 'disk1', storageNode: 'alpha', sizeBytes: 4096 };
  await client.post('/v1/volumes', { body });
  await client.post('/v1/volumes', { body });
  await client.post('/v1/volumes', { body, headers: { 'idempotency-key': 'mine' } });
  const keys = asked.map(({ headers }) => headers['idempotency-key']);
  expect(keys[0]).toMatch(/^[0-9a-f-]{36}$/);
  expect(new Set(keys).size).toBe(3);
  expect(keys[2]).toBe('mine');
  expect(JSON.parse(asked[0]!.body)).toEqual(body);
});

test('a list is read to its end, page after page', async () => {
  const { url, asked } = await serve([
    { body: '{"items":[{"name":"a"},{"name":"b"}],"nextCursor":"n1"}' },
    { body: '{"items":[{"name":"c"}],"nextCursor":null}' },
  ]);
  const names: string[] = [];
  for await (const { name } of new TidemarkClient({ url }).all('/v1/volumes')) names.push(name);
  expect(names).toEqual(['a', 'b', 'c']);
  expect(asked.map(({ url }) => url)).toEqual(['/v1/volumes?limit=200', '/v1/volumes?limit=200&cursor=n1']);
});

test('a list is one page where a limit or a cursor says so, and otherwise whole', async () => {
  const { url, asked } = await serve([
    { body: '{"items":[{"name":"a"}],"nextCursor":"n1"}' },
    { body: '{"items":[{"name":"a"}],"nextCursor":"n1"}' },
    { body: '{"items":[{"name":"b"}],"nextCursor":null}' },
  ]);
  const client = new TidemarkClient({ url });
  const page = await client.list('/v1/volumes', { params: { query: { limit: 1, selector: 'a=b' } } });
  expect(page).toEqual({ items: [{ name: 'a' }], nextCursor: 'n1' });
  const whole = await client.list('/v1/volumes', { params: { query: { state: 'ready' } } });
  expect(whole).toEqual({ items: [{ name: 'a' }, { name: 'b' }], nextCursor: null });
  expect(asked.map(({ url }) => url)).toEqual([
    '/v1/volumes?limit=1&selector=a%3Db',
    '/v1/volumes?limit=200&state=ready',
    '/v1/volumes?limit=200&state=ready&cursor=n1',
  ]);
});

test('a POST whose answer is lost is sent again with its key, whether a beginning of it came or not', async () => {
  const { url, asked } = await serve([{ drop: true }, { body: '{"id":', cut: true }, { body: '{"id":"1"}' }]);
  const made = await new TidemarkClient({ url }).post('/v1/webhooks', {
    body: { name: 'ops', url: 'http://x' },
  });
  expect(made).toEqual({ id: '1' });
  expect(new Set(asked.map(({ headers }) => headers['idempotency-key'])).size).toBe(1);
  expect(asked.map(({ body }) => JSON.parse(body).name)).toEqual(['ops', 'ops', 'ops']);
});

test('whoever is still at it when a lost POST is sent again is waited for', async () => {
  const problem = { title: 'Busy', detail: 'It is still under way.', code: 'idempotency-key-busy' };
  const busy = { status: 409, body: JSON.stringify(problem) };
  const { url, asked } = await serve([{ drop: true }, busy, { body: '{"id":"1"}' }, busy]);
  const client = new TidemarkClient({ url });
  const cancel = () => client.post('/v1/runs/{run}/cancel', { params: { path: { run: '1' } } });
  expect(await cancel()).toEqual({ id: '1' });
  expect(asked).toHaveLength(3);
  // Of a key that somebody else has in use it is told.
  await expect(cancel()).rejects.toMatchObject({ code: 'idempotency-key-busy' });
  expect(asked).toHaveLength(4);
});

test('whoever ends a call that waits to be sent again gives the reason', async () => {
  const end = new AbortController();
  const { url } = await serve([
    { drop: true },
    { drop: true },
    { drop: true },
    { drop: true },
    { drop: true },
  ]);
  const client = new TidemarkClient({ url, signal: end.signal });
  const post = client.post('/v1/runs/{run}/cancel', { params: { path: { run: '1' } } });
  setTimeout(() => end.abort(new Error('enough')), 100);
  await expect(post).rejects.toThrow('enough');
});

test('an answer that is lost for good says that it may have been done, and no other call is sent again', async () => {
  const lost = { body: '{"id":', cut: true };
  const { url, asked } = await serve([lost, lost, lost, lost, lost, lost, lost]);
  const client = new TidemarkClient({ url });
  const post = client.post('/v1/runs/{run}/cancel', { params: { path: { run: '1' } } });
  await expect(post).rejects.toThrow(/broke off .*may have been done/);
  expect(asked).toHaveLength(5);
  await expect(client.get('/v1/volumes')).rejects.toBeInstanceOf(LostAnswerFailure);
  await expect(client.delete('/v1/tokens/{token}', { params: { path: { token: 'a' } } })).rejects.toThrow(
    /broke off/,
  );
  expect(asked).toHaveLength(7);
});

test('a refusal is an answer: it is not asked for again', async () => {
  const problem = { title: 'No', detail: 'No.', code: 'catalog-unavailable' };
  const { url, asked } = await serve([{ status: 503, body: JSON.stringify(problem) }]);
  const call = new TidemarkClient({ url }).post('/v1/runs/{run}/cancel', { params: { path: { run: '1' } } });
  await expect(call).rejects.toMatchObject({ status: 503, code: 'catalog-unavailable' });
  expect(asked).toHaveLength(1);
});

test('whoever uses the client can say what is to be done, and end its calls', async () => {
  const { url } = await serve([{ type: 'text/html', body: '<html>' }]);
  const advice = { nobody: 'Start it.', stranger: 'Look at --url.' };
  const ask = (at: string) => new TidemarkClient({ url: at, advice }).get('/healthz');
  await expect(ask(url)).rejects.toThrow(/answered 200, but not with JSON.* Look at --url\.$/);
  await expect(ask('http://127.0.0.1:1')).rejects.toThrow(/\. Start it\.$/);
  const ended = new TidemarkClient({ url, signal: AbortSignal.abort(new Error('enough')) }).get('/healthz');
  await expect(ended).rejects.toThrow('enough');
});

test('a run is looked at until its end, which is told', async () => {
  const run = { id: '1', kind: 'backup', state: 'queued' } as Schema<'Run'>;
  const error = { code: 'repository-full', message: 'It is full.' };
  const failed = { ...run, state: 'failed', error } as Schema<'Run'>;
  const { url, asked } = await serve([{ body: JSON.stringify(run) }, { body: JSON.stringify(failed) }]);
  const states: string[] = [];
  for await (const seen of looksAt(new TidemarkClient({ url }), run)) states.push(seen.state);
  expect(states).toEqual(['queued', 'queued', 'failed']);
  expect(asked.map(({ url }) => url)).toEqual(['/v1/runs/1', '/v1/runs/1']);
  expect(() => requireSuccess(run)).not.toThrow();
  expect(() => requireSuccess(failed)).toThrow(
    expect.objectContaining({ name: 'RunFailure', message: 'It is full.', code: 'repository-full' }),
  );
});

test('what the API refuses is thrown with code and status', async () => {
  const problem = {
    title: 'The volume is not known',
    detail: "There is no volume 'x'",
    code: 'volume-not-found',
  };
  const { url } = await serve([
    { status: 404, type: 'application/problem+json', body: JSON.stringify(problem) },
  ]);
  const call = new TidemarkClient({ url }).get('/v1/volumes/{volume}', { params: { path: { volume: 'x' } } });
  const failure = await call.catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(ProblemFailure);
  expect(failure).toMatchObject({ code: 'volume-not-found', status: 404, message: problem.detail });
});

test('somebody else, and nobody, are told apart from a refusal', async () => {
  const { url } = await serve([
    { status: 404, type: 'text/html', body: '<html>' },
    { type: 'text/html', body: '<html>' },
  ]);
  const client = new TidemarkClient({ url });
  const here = { name: 'UnreachableFailure', message: expect.stringContaining(url) };
  await expect(client.get('/v1/volumes')).rejects.toMatchObject(here);
  await expect(client.get('/v1/volumes')).rejects.toMatchObject(here);
  const nobody = new TidemarkClient({ url: 'http://127.0.0.1:1' }).get('/v1/volumes');
  await expect(nobody).rejects.toBeInstanceOf(UnreachableFailure);
});

test('lines come as they are sent, and an answer that breaks off says so', async () => {
  const type = 'application/x-ndjson';
  const { url, asked } = await serve([
    { type, body: '{"offset":0}\n{"offset":1}\n' },
    { type, body: '{"offset":0}\n', cut: true },
  ]);
  const client = new TidemarkClient({ url });
  const lines = async () => {
    const params = { path: { volume: 'disk1' }, query: { since: 'monday' } };
    const read: string[] = [];
    for await (const line of client.lines('/v1/volumes/{volume}/changed-blocks', type, { params })) {
      read.push(line);
    }
    return read;
  };
  expect(await lines()).toEqual(['{"offset":0}', '{"offset":1}']);
  expect(asked[0]!.headers.accept).toBe(type);
  await expect(lines()).rejects.toThrow(/broke off/);
});
