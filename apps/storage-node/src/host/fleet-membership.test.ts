// Goal: who reads the log of a storage node knows how its joining goes: what is on its way is no error, and what is
// wrong says where to look. Method: a real HTTP server answers as the API does.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Clock } from '@tidemark/engine';
import { CertificateMaker } from '@tidemark/proto/testing';
import { expect, onTestFinished, test, vi } from 'vitest';
import { temporaryFolder } from '../testing/temporary-folder.ts';
import { FleetMembership } from './fleet-membership.ts';
import { StateStore } from './state-store.ts';

const member = { name: 'gamma', controlAddress: '10.0.0.3:7411', instanceId: 'i', labels: {} };
const TOKEN = 'tmj_secret';
/** For a busy machine. */
const PATIENCE = { timeout: 30_000 };

async function api(answer: (response: ServerResponse, count: number) => void): Promise<string> {
  let count = 0;
  const server = createServer((_request, response) => answer(response, ++count)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** What the log is told, as it comes; pauses do not last. */
async function joined(url: string, ca?: Buffer): Promise<{ isTrouble: boolean; message: string }[]> {
  const store = new StateStore({ folder: await temporaryFolder() });
  await store.open();
  onTestFinished(() => store.close());
  const told: { isTrouble: boolean; message: string }[] = [];
  const clock = { sleep: () => new Promise(resolve => setImmediate(resolve)) } as unknown as Clock;
  const report = (outcome: { isTrouble: boolean; message: string }) => void told.push({ ...outcome });
  const membership = new FleetMembership({ store, clock, join: { url, token: TOKEN, ca }, member, report });
  membership.start();
  onTestFinished(() => membership.close());
  return told;
}

const json = (response: ServerResponse, status: number, body: object) =>
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));

test('waiting to be asked is no trouble, and joining is told', async () => {
  const url = await api((response, count) =>
    json(response, 202, { storageNode: { state: count < 3 ? 'joining' : 'online' } }),
  );
  const told = await joined(url);
  const quiet = { isTrouble: false };
  await vi.waitFor(
    () =>
      expect(told).toMatchObject([
        { ...quiet, message: 'waits to be asked at its address' },
        { ...quiet, message: "joined as 'gamma'" },
      ]),
    PATIENCE,
  );
});

test('an API that is away is told with why, and where to look', async () => {
  const told = await joined('http://127.0.0.1:9');
  await vi.waitFor(() => expect(told).toHaveLength(1), PATIENCE);
  expect(told[0]).toMatchObject({ isTrouble: true });
  expect(told[0]!.message).toMatch(
    /^the API at http:\/\/127\.0\.0\.1:9 does not answer \((?!fetch failed).+\)\. .*TIDEMARK_JOIN_URL/,
  );
});

test('a refusal is told once, with its code; somebody else is not taken for the API', async () => {
  const problem = { code: 'join-token-invalid', detail: 'It was used.' };
  const refused = await joined(await api(response => json(response, 403, problem)));
  await vi.waitFor(() => expect(refused).toHaveLength(1), PATIENCE);
  expect(refused[0]).toMatchObject({ isTrouble: true, message: 'join-token-invalid: It was used.' });
  const url = await api(response => json(response, 404, { hello: 'world' }));
  const other = await joined(url);
  await vi.waitFor(() => expect(other).toHaveLength(1), PATIENCE);
  expect(other[0]!.message).toBe(`${url} answered 404, as no Tidemark API does. Look at TIDEMARK_JOIN_URL.`);
  expect(JSON.stringify([refused, other])).not.toContain(TOKEN);
});

test('a page is nobody that could refuse: it is told of, and asked again until the API is there', async () => {
  const url = await api((response, count) =>
    count < 3
      ? response.writeHead(count === 1 ? 404 : 502, { 'content-type': 'text/html' }).end('<html>')
      : json(response, 202, { storageNode: { state: 'online' } }),
  );
  const told = await joined(url.replace('//', '//tidemark:password@'));
  await vi.waitFor(() => expect(told).toHaveLength(3), PATIENCE);
  expect(told.map(({ message }) => message)).toEqual([
    `${url} answered 404, as no Tidemark API does. Look at TIDEMARK_JOIN_URL.`,
    `${url} answered 502, as no Tidemark API does. Look at TIDEMARK_JOIN_URL.`,
    "joined as 'gamma'",
  ]);
});

test('an API that breaks off in the middle of its answer is asked again', async () => {
  const url = await api((response, count) => {
    if (count > 1) return json(response, 202, { storageNode: { state: 'online' } });
    response.writeHead(202, { 'content-length': 100 }).write('{"storageNode"', () => {
      (response.socket as Socket).resetAndDestroy();
    });
  });
  const told = await joined(url);
  await vi.waitFor(() => expect(told).toHaveLength(2), PATIENCE);
  expect(told[0]!.message).toMatch(/does not answer \(.+\)\. Start it/);
  expect(told[1]).toEqual(expect.objectContaining({ isTrouble: false, message: "joined as 'gamma'" }));
});

test('an API whose certificate is not trusted is told what is, and is not given the token', async () => {
  const folder = await temporaryFolder();
  const [fleet, other] = [new CertificateMaker(folder), new CertificateMaker(folder, 'other')];
  const { cert, key } = fleet.make('api', { usage: 'serverAuth' });
  let asked = 0;
  const server = createHttpsServer(
    { cert: readFileSync(cert), key: readFileSync(key) },
    (_request, response) => {
      asked += 1;
      json(response, 202, { storageNode: { state: 'online' } });
    },
  ).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const told = await joined(url, Buffer.from(other.caPem));
  await vi.waitFor(() => expect(told).toHaveLength(1), PATIENCE);
  expect(told[0]!.message).toMatch(
    /^the API at https:.* is not trusted \(.*certificate.*\)\. Name the CA .* TIDEMARK_JOIN_CA_FILE/,
  );
  expect(asked).toBe(0);
  const trusting = await joined(url, Buffer.from(fleet.caPem));
  await vi.waitFor(() => expect(trusting).toHaveLength(1), PATIENCE);
  expect(trusting[0]!.message).toBe("joined as 'gamma'");
});
