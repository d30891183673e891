// Goal: with TLS, calls pass only between holders of certificates of the fleet's CA that are valid and of the right
// name, and whoever is refused is told why and what to do. Method: a real gRPC server on loopback, certificates made
// by openssl, and one thing wrong at a time.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentials, Server, ServerCredentials } from '@grpc/grpc-js';
import { afterAll, afterEach, expect, test } from 'vitest';
import { connectStorageNode } from '../client.ts';
import {
  JobServiceClient,
  type JobServiceServer,
  JobServiceService,
  JobStatus,
} from '../generated/tidemark/v1/job.ts';
import { type CertificateFiles, CertificateMaker } from '../testing/certificates.ts';
import { grpcServerCredentials } from './grpc-credentials.ts';
import { TlsFiles } from './tls-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'tidemark-tls-'));
const fleet = new CertificateMaker(folder);
const others = new CertificateMaker(folder, 'other-ca');
const alpha = fleet.make('alpha', { usage: 'serverAuth' });
const worker = fleet.make('worker', { usage: 'clientAuth', names: 'DNS:worker' });
const open: (() => void)[] = [];

const HTTP2_PREFACE_BYTES = 24;

afterEach(() => {
  for (const close of open.splice(0)) close();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** As they are when they were good at the start: what is checked then is left out. */
function files(own: CertificateFiles, ca = fleet.ca): TlsFiles {
  const named = (setting: string, path: string) => ({ setting, path });
  const paths = { cert: named('CERT', own.cert), key: named('KEY', own.key), ca: named('CA', ca) };
  const { cert, key } = fleet.make('stand-in');
  const good = { ...paths, cert: named('CERT', cert), key: named('KEY', key) };
  const made = new TlsFiles({ paths: good, purpose: 'client', now: () => Date.now() });
  const material = { cert: readFileSync(own.cert), key: readFileSync(own.key), ca: readFileSync(ca) };
  Object.defineProperty(made, 'material', { get: () => material });
  return made;
}

async function serve(tls: TlsFiles | undefined): Promise<string> {
  const server = new Server();
  server.addService(JobServiceService, {
    getJob: (_call, reply) => reply(null, JobStatus.fromPartial({ jobId: 'answered' })),
    watchJob: call => {
      call.write(JobStatus.fromPartial({ jobId: 'watched' }));
      call.end();
    },
  } satisfies Partial<JobServiceServer> as unknown as JobServiceServer);
  open.push(() => server.forceShutdown());
  const credentials = tls === undefined ? ServerCredentials.createInsecure() : grpcServerCredentials(tls);
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', credentials, (error, bound) => (error ? reject(error) : resolve(bound))),
  );
  return `127.0.0.1:${port}`;
}

function connect(address: string, tls?: TlsFiles) {
  const clients = connectStorageNode({ name: 'alpha', address, tls });
  open.push(() => clients.close());
  return clients;
}

const ask = async (address: string, tls?: TlsFiles) => (await connect(address, tls).jobs.getJob({})).jobId;

test('with certificates of the CA on both sides calls and streams pass, by address and by name', async () => {
  const address = await serve(files(alpha));
  expect(await ask(address, files(worker))).toBe('answered');
  expect(await ask(address.replace('127.0.0.1', 'localhost'), files(worker))).toBe('answered');
  const seen: string[] = [];
  for await (const { jobId } of connect(address, files(worker)).watchJob({ jobId: 'j' })) seen.push(jobId);
  expect(seen).toEqual(['watched']);
});

const strange = others.make('strange');
const expired = fleet.make('expired', { isExpired: true });
const elsewhere = fleet.make('elsewhere', { names: 'DNS:beta.example' });

test.each([
  ['none, over a plain connection', undefined, /does not answer .* If it asks for TLS, set TIDEMARK_TLS_/],
  ['one of another CA', files(strange), /refuses the certificate of who calls/],
  ['an expired one', files(expired), /refuses the certificate of who calls/],
  ['one that is for servers alone', files(alpha), /refuses the certificate of who calls/],
])('a caller with %s is refused', async (_what, tls, words) => {
  const address = await serve(files(alpha));
  const refused = { code: 'storage-node-unreachable', message: expect.stringMatching(words) };
  const clients = connect(address, tls);
  await expect(clients.jobs.getJob({})).rejects.toMatchObject(refused);
  const watched = clients.watchJob({ jobId: 'j' })[Symbol.asyncIterator]();
  await expect(watched.next()).rejects.toMatchObject(refused);
});

test('a caller over TLS without any certificate is refused', async () => {
  const address = await serve(files(alpha));
  const bare = new JobServiceClient(address, credentials.createSsl(readFileSync(fleet.ca)));
  open.push(() => bare.close());
  const answered = new Promise((resolve, reject) =>
    bare.getJob({ jobId: 'j' }, (error, status) => (error ? reject(error) : resolve(status))),
  );
  await expect(answered).rejects.toThrow(/certificate required|Failed to connect|ECONNRESET|Socket closed/);
});

test.each([
  ['speaks no TLS', undefined, /it speaks no TLS: set TIDEMARK_TLS_CERT_FILE/],
  ['has a certificate of another CA', files(strange), /not of the CA in TIDEMARK_TLS_CA_FILE/],
  ['has an expired one', files(expired), /has expired: renew it/],
  ['has one for another host', files(elsewhere), /not for the host of 127\.0\.0\.1:\d+: make one with/],
  ['has one that is for callers alone', files(worker), /not for a server: make one with serverAuth/],
])('a storage node that %s is not talked to', async (_what, tls, words) => {
  const address = await serve(tls);
  const refused = { code: 'storage-node-unreachable', message: expect.stringMatching(words) };
  const caller = files(fleet.make('caller', { usage: 'clientAuth' }));
  await expect(ask(address, caller)).rejects.toMatchObject(refused);
});

test('one that is away is told as away', async () => {
  await expect(ask('127.0.0.1:1', files(worker))).rejects.toThrow(
    /does not answer .*ECONNREFUSED.* Start it/,
  );
});

/** Whether it holds a frame of headers (RFC 9113, 6.2): the caller had a connection, and has begun a call over it. */
function hasCall(sent: Buffer): boolean {
  for (let at = HTTP2_PREFACE_BYTES; at + 9 <= sent.length; at += 9 + sent.readUIntBE(at, 3)) {
    if (sent[at + 3] === 1) return true;
  }
  return false;
}

test('one that goes away in the middle of a call is told as away, and of TLS nothing is said', async () => {
  const server = createServer(socket => {
    let sent = Buffer.alloc(0);
    // The settings of HTTP/2, without any: it answers, and then no more.
    socket.once('data', () => socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])));
    socket.on('data', bytes => {
      sent = Buffer.concat([sent, bytes]);
      if (hasCall(sent)) socket.resetAndDestroy();
    });
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  open.push(() => server.close());
  await expect(ask(`127.0.0.1:${(server.address() as AddressInfo).port}`)).rejects.toThrow(
    /does not answer at .*Start it, or check its address, then try again\.$/,
  );
});

test('renewed files are used from the next connection on, on both sides, and unusable ones are not', async () => {
  const [serverSide, clientSide] = ['renewed-server', 'renewed-client'].map(name => {
    const { cert, key } = others.make(name);
    const named = (setting: string, path: string) => ({ setting, path });
    const paths = { cert: named('CERT', cert), key: named('KEY', key), ca: named('CA', others.ca) };
    return new TlsFiles({ paths, purpose: 'server', now: () => Date.now() });
  }) as [TlsFiles, TlsFiles];
  const address = await serve(serverSide);
  const clients = connect(address, clientSide);
  await clients.jobs.getJob({});
  expect(serverSide.reload()).toBe(false);

  const old = readFileSync(join(folder, 'renewed-server-key.pem'));
  others.make('renewed-server', { names: 'DNS:renewed.example' });
  expect(serverSide.reload()).toBe(true);
  await expect(ask(address, clientSide)).rejects.toThrow(/not for the host/);
  // What is connected stays so.
  await clients.jobs.getJob({});

  others.make('renewed-server');
  others.make('renewed-client', { usage: 'serverAuth' });
  expect([serverSide.reload(), clientSide.reload()]).toEqual([true, true]);
  await expect(ask(address, clientSide)).rejects.toThrow(/refuses the certificate of who calls/);

  others.make('renewed-client', { isExpired: true });
  expect(() => clientSide.reload()).toThrow(/CERT names .*renewed-client\.pem, whose certificate expired at/);
  others.make('renewed-client');
  expect(clientSide.reload()).toBe(true);
  expect(await ask(address, clientSide)).toBe('answered');
  expect(readFileSync(join(folder, 'renewed-server-key.pem')).equals(old)).toBe(false);
});
