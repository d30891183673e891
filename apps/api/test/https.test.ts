// Goal: the API is served over HTTPS with its own certificate, and with the renewed one without a restart. Method: the
// real service without a catalog, whose health needs none; certificates made by openssl.
import dns from 'node:dns';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { type AddressInfo, isIP } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { TlsFiles } from '@tidemark/proto';
import { type CertificateFiles, CertificateMaker } from '@tidemark/proto/testing';
import { expect, onTestFinished, test, vi } from 'vitest';
import { buildApp } from '../src/app.ts';

const NOWHERE = 'postgres://tidemark@127.0.0.1:1/tidemark';

function filesOf({ cert, key }: CertificateFiles): TlsFiles {
  const named = (path: string) => ({ setting: 'TIDEMARK_API_TLS', path });
  const paths = { cert: named(cert), key: named(key), ca: undefined };
  return new TlsFiles({ paths, purpose: 'server', now: () => Date.now() });
}

/** Answered with which status, under which certificate. */
async function ask(
  port: number,
  ca: string,
  host = '127.0.0.1',
): Promise<{ status: number; serial: string }> {
  const sent = request({ host, port, path: '/healthz', ca, agent: false });
  sent.end();
  const [answer] = await once(sent, 'response');
  answer.resume();
  const { serialNumber } = (answer.socket as TLSSocket).getPeerCertificate();
  return { status: answer.statusCode, serial: serialNumber };
}

test('it is served with the certificate that is there, and plain requests are not', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-https-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const maker = new CertificateMaker(folder);
  const https = filesOf(maker.make('api', { usage: 'serverAuth' }));
  const app = await buildApp({ databaseUrl: NOWHERE, queueUrl: NOWHERE, https });
  onTestFinished(() => app.close());
  expect(await app.listen({ host: '127.0.0.1', port: 0 })).toMatch(/^https:\/\/127\.0\.0\.1:/);
  const { port } = app.server.address() as AddressInfo;
  const ca = maker.caPem;
  const first = await ask(port, ca);
  expect(first.status).toBe(200);
  await expect(fetch(`http://127.0.0.1:${port}/healthz`)).rejects.toThrow();
  await expect(ask(port, new CertificateMaker(folder, 'other').caPem)).rejects.toThrow(/certificate/);

  maker.make('api', { usage: 'serverAuth' });
  expect((await ask(port, ca)).serial).toBe(first.serial);
  expect(https.reload()).toBe(true);
  const second = await ask(port, ca);
  expect(second.status).toBe(200);
  expect(second.serial).not.toBe(first.serial);
});

test('at a name with two addresses both are served with the renewed certificate', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-https-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const maker = new CertificateMaker(folder);
  const hosts = ['127.0.0.1', '127.0.0.2'];
  const make = () =>
    maker.make('api', { usage: 'serverAuth', names: hosts.map(host => `IP:${host}`).join() });
  const https = filesOf(make());
  // As where `localhost` is ::1 as well. An address as such is nothing to look up.
  const answer = (host: string, { all = false }: { all?: boolean }, done: (...told: unknown[]) => void) => {
    const addresses = (isIP(host) === 0 ? hosts : [host]).map(address => ({ address, family: 4 }));
    if (all) done(null, addresses);
    else done(null, addresses[0]!.address, 4);
  };
  const lookup = vi.spyOn(dns, 'lookup').mockImplementation(answer as unknown as typeof dns.lookup);
  onTestFinished(() => lookup.mockRestore());
  const app = await buildApp({ databaseUrl: NOWHERE, queueUrl: NOWHERE, https });
  onTestFinished(() => app.close());
  await app.listen({ host: 'localhost', port: 0 });
  lookup.mockRestore();
  expect(app.addresses().map(bound => (bound as AddressInfo).address)).toEqual(expect.arrayContaining(hosts));
  const { port } = app.server.address() as AddressInfo;
  const serials = async () => {
    const asked = await Promise.all(hosts.map(host => ask(port, maker.caPem, host)));
    return new Set(asked.map(({ serial }) => serial));
  };
  const before = await serials();
  expect(before.size).toBe(1);
  make();
  expect(https.reload()).toBe(true);
  const after = await serials();
  expect(after.size).toBe(1);
  expect(after).not.toEqual(before);
});
