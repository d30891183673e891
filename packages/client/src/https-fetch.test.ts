// Goal: the client talks over HTTPS to an API whose certificate is of the CA it was given, and says what is wrong with
// every other. Method: real HTTPS servers with certificates made by openssl.
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CertificateFiles, CertificateMaker } from '@tidemark/proto/testing';
import { afterAll, expect, onTestFinished, test } from 'vitest';
import { TidemarkClient } from './client.ts';
import { fetchTrusting } from './https-fetch.ts';

const folder = mkdtempSync(join(tmpdir(), 'tidemark-https-client-'));
const maker = new CertificateMaker(folder);
const others = new CertificateMaker(folder, 'other-ca');
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const good = maker.make('good', { usage: 'serverAuth' });
const advice = { nobody: 'Start it.', stranger: 'Look at --url.', untrusted: 'Name its CA.' };

async function serve(own: CertificateFiles | undefined, listener: RequestListener): Promise<number> {
  const server =
    own === undefined
      ? createHttpServer(listener)
      : createServer({ cert: readFileSync(own.cert), key: readFileSync(own.key) }, listener);
  server.listen(0, '127.0.0.1');
  await new Promise(resolve => server.once('listening', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

const volumes: RequestListener = (_request, response) => {
  response.writeHead(200, { 'content-type': 'application/json' }).end('{"items":[],"nextCursor":null}');
};

const ask = (port: number, ca?: string, scheme = 'https') =>
  new TidemarkClient({ url: `${scheme}://127.0.0.1:${port}`, ca, advice }).get('/v1/volumes');

test('requests and answers pass as over HTTP: bodies, tokens, refusals', async () => {
  const asked: string[] = [];
  const port = await serve(good, async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    asked.push(`${request.method} ${request.url} ${request.headers.authorization} ${body}`);
    const isKnown = request.url === '/v1/webhooks';
    const answer = isKnown
      ? { id: '1' }
      : { code: 'volume-not-found', title: 'No', detail: 'No such volume.' };
    response.writeHead(isKnown ? 201 : 404, { 'content-type': 'application/json' });
    response.end(JSON.stringify(answer));
  });
  const client = new TidemarkClient({ url: `https://127.0.0.1:${port}`, ca: maker.caPem, token: 'secret' });
  const body = { name: 'ops', url: 'http://x' };
  expect(await client.post('/v1/webhooks', { body })).toEqual({ id: '1' });
  expect(asked).toEqual([`POST /v1/webhooks Bearer secret ${JSON.stringify(body)}`]);
  const params = { path: { volume: 'x' } };
  await expect(client.get('/v1/volumes/{volume}', { params })).rejects.toMatchObject({ status: 404 });
});

test('a body has an end with every method, and the next request on the connection is read as one', async () => {
  const asked: string[] = [];
  const port = await serve(good, async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    asked.push(`${request.method} ${body}`);
    response.writeHead(204).end();
  });
  const send = fetchTrusting(maker.caPem);
  for (const method of ['DELETE', 'OPTIONS', 'PATCH', 'POST']) {
    const request = new Request(`https://127.0.0.1:${port}/`, { method, body: '{"why":"no"}' });
    expect((await send(request)).status).toBe(204);
  }
  expect((await send(new Request(`https://127.0.0.1:${port}/`, { method: 'POST' }))).status).toBe(204);
  expect(asked).toEqual([
    ...['DELETE', 'OPTIONS', 'PATCH', 'POST'].map(method => `${method} {"why":"no"}`),
    'POST ',
  ]);
});

test('a stream that nobody reads any more, or whose call is ended, is no connection either', async () => {
  let isOver: Promise<unknown> = Promise.resolve();
  const port = await serve(good, (_request, response) => {
    isOver = once(response, 'close');
    response.writeHead(200).write('id: 1\n');
  });
  const url = `https://127.0.0.1:${port}`;
  for await (const line of new TidemarkClient({ url, ca: maker.caPem }).lines(
    '/v1/events',
    'text/event-stream',
  )) {
    expect(line).toBe('id: 1');
    break;
  }
  await isOver;
  const stop = new AbortController();
  const client = new TidemarkClient({ url, ca: maker.caPem, signal: stop.signal });
  const reading = (async () => {
    for await (const _ of client.lines('/v1/events', 'text/event-stream')) stop.abort(new Error('enough'));
  })();
  await expect(reading).rejects.toThrow('enough');
  await isOver;
});

test('a stream comes line by line, and one that breaks off says so', async () => {
  let hasRead: () => void = () => {};
  const read = new Promise<void>(resolve => {
    hasRead = resolve;
  });
  const port = await serve(good, async (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('id: 1\n');
    // The rest only when the first has arrived: nothing is held back until the end.
    await read;
    response.write('id: 2\n', () => response.destroy());
  });
  const client = new TidemarkClient({ url: `https://127.0.0.1:${port}`, ca: maker.caPem });
  const lines: string[] = [];
  const reading = (async () => {
    for await (const line of client.lines('/v1/events', 'text/event-stream')) {
      lines.push(line);
      hasRead();
    }
  })();
  await expect(reading).rejects.toThrow(/broke off/);
  expect(lines).toEqual(['id: 1', 'id: 2']);
});

test('calls end with their signal', async () => {
  const port = await serve(good, () => {});
  const stop = new AbortController();
  const client = new TidemarkClient({
    url: `https://127.0.0.1:${port}`,
    ca: maker.caPem,
    signal: stop.signal,
  });
  const call = client.get('/v1/volumes');
  stop.abort(new Error('enough'));
  await expect(call).rejects.toThrow('enough');
});

test.each([
  ['of another CA', good, others.caPem, /is not trusted: .*CA that is not trusted here.* Name its CA\.$/],
  ['of no CA that the system knows', good, undefined, /is not trusted: .*CA that is not trusted here/],
  [
    'that has expired',
    maker.make('old', { isExpired: true }),
    maker.caPem,
    /has expired \(CERT_HAS_EXPIRED\)/,
  ],
  ['for another host', maker.make('far', { names: 'DNS:far.example' }), maker.caPem, /is for another host/],
  ['for callers', maker.make('caller', { usage: 'clientAuth' }), maker.caPem, /is not for a server/],
])('a certificate %s is refused before anything is sent', async (_what, own, ca, words) => {
  let requests = 0;
  const port = await serve(own, (request, response) => {
    requests += 1;
    volumes(request, response);
  });
  await expect(ask(port, ca)).rejects.toMatchObject({
    name: 'UnreachableFailure',
    message: expect.stringMatching(words),
  });
  expect(requests).toBe(0);
});

test('TLS here and none there, and the other way round, are told', async () => {
  const plain = await serve(undefined, volumes);
  await expect(ask(plain, maker.caPem)).rejects.toThrow(/speaks no TLS.* http:\/\/\. Look at --url\.$/);
  await expect(ask(plain)).rejects.toThrow(/speaks no TLS/);
  const secure = await serve(good, volumes);
  await expect(ask(secure, undefined, 'http')).rejects.toThrow(/An API with TLS has an address with https:/);
  await expect(ask(1, maker.caPem)).rejects.toThrow(/No Tidemark API answers .*ECONNREFUSED.* Start it\.$/);
});
