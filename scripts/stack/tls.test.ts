// Goal: what docs/SECURITY.md says of TLS is true: with certificates made by its commands, everything that an
// installation does works over TLS, and nobody gets in without. Method: the document's commands in a folder, the real
// services with what they have made, one backup from request to restore, a webhook, an event stream, a joining storage
// node; then strangers.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { followEvents, TidemarkClient } from '@tidemark/client';
import { connectStorageNode, TlsFiles } from '@tidemark/proto';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { makeDocumentedCertificates } from './testing/documented-certificates.ts';
import { Operator } from './testing/operator.ts';
import { type Spawned, spawnStorageNode } from './testing/spawned-storage-node.ts';

const PATIENCE_MS = 300_000;
const CONTENTS = Buffer.alloc(64 * 1024, 'over TLS');

const folder = mkdtempSync(join(tmpdir(), 'tidemark-tls-stack-'));
const file = (name: string) => join(folder, name);
const trustedBefore = getCACertificates('default');
let operator: Operator;

const fleetTls = (name: string) => ({
  TIDEMARK_TLS_CERT_FILE: file(`${name}.pem`),
  TIDEMARK_TLS_KEY_FILE: file(`${name}-key.pem`),
  TIDEMARK_TLS_CA_FILE: file('ca.pem'),
});

beforeAll(async () => {
  makeDocumentedCertificates(folder);
  const ca = readFileSync(file('ca.pem'), 'utf8');
  // For `fetch` in this process; commands are told by their environment, as an operator would.
  setDefaultCACertificates([...trustedBefore, ca]);
  process.env.TIDEMARK_CA_FILE = file('ca.pem');
  const stack = {
    environment: {
      TIDEMARK_API_TLS_CERT_FILE: file('api-https.pem'),
      TIDEMARK_API_TLS_KEY_FILE: file('api-https-key.pem'),
    },
    environmentOf: (service: string) => (service === 'postgres' ? {} : fleetTls(service)),
  };
  operator = await Operator.open({ disk: '8MiB' }, { stack });
}, PATIENCE_MS);

afterAll(async () => {
  await operator?.close();
  setDefaultCACertificates(trustedBefore);
  delete process.env.TIDEMARK_CA_FILE;
  rmSync(folder, { recursive: true, force: true });
});

/** Kinds of the events that a webhook was sent. */
async function startReceiver(): Promise<{ url: string; kinds: string[] }> {
  const kinds: string[] = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    kinds.push(JSON.parse(body).kind);
    response.end();
  }).listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await new Promise(resolve => server.once('listening', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`, kinds };
}

test('a backup is made and restored, and its events are streamed and sent', {
  timeout: PATIENCE_MS,
}, async () => {
  expect(operator.stack.url).toMatch(/^https:/);
  const receiver = await startReceiver();
  await operator.tidemark('webhook', 'create', 'ops', '--to', receiver.url);
  const client = new TidemarkClient({ url: operator.stack.url, ca: readFileSync(file('ca.pem'), 'utf8') });
  const streamed = (async () => {
    for await (const told of followEvents(client, { after: 0 })) {
      if ('event' in told && told.event.kind === 'run-checkpoint-reached') return told.event.kind;
    }
    return 'none';
  })();
  await operator.write('disk', 4096, CONTENTS);
  const { backup } = await operator.backUp('disk', 'monday', 'full');
  await operator.restored(backup.id, 'restored');
  const restored = await operator.contents('restored');
  expect(restored.subarray(4096, 4096 + CONTENTS.length).equals(CONTENTS)).toBe(true);
  expect(await streamed).toBe('run-checkpoint-reached');
  await expect.poll(() => receiver.kinds, { timeout: 60_000 }).toContain('run-checkpoint-reached');
});

test('a storage node joins over HTTPS, and only where it trusts the API', {
  timeout: PATIENCE_MS,
}, async () => {
  const spawned: Spawned[] = [];
  onTestFinished(async () => {
    for (const one of spawned) await one.stop();
  });
  const start = async (name: string, settings: Record<string, string>) => {
    const { secret } = await operator.json('storage-node', 'join-token', 'create', '--name', name);
    const one = spawnStorageNode({
      name,
      stateDir: file(`state-${name}`),
      settings: {
        ...fleetTls('alpha'),
        TIDEMARK_FLEET_SECRET: operator.stack.fleetSecret,
        TIDEMARK_JOIN_URL: operator.stack.url,
        TIDEMARK_JOIN_TOKEN: secret,
        ...settings,
      },
    });
    spawned.push(one);
    return one;
  };
  await start('gamma', { TIDEMARK_JOIN_CA_FILE: file('ca.pem') });
  const stateOf = async (name: string) =>
    (await operator.get('storage-nodes')).items.find((node: { name: string }) => node.name === name)?.state;
  await expect.poll(() => stateOf('gamma'), { timeout: 120_000 }).toBe('online');
  const wary = await start('delta', {});
  await expect
    .poll(() => wary.output, { timeout: 120_000 })
    .toMatch(/is not trusted \(.*certificate.*TIDEMARK_JOIN_CA_FILE/);
  expect(await stateOf('delta')).toBeUndefined();
});

test('without the right certificates nobody gets in', { timeout: PATIENCE_MS }, async () => {
  const { fleetSecret, nodes, url } = operator.stack;
  const address = nodes.find(({ name }) => name === 'alpha')!.controlAddress;
  const status = async (tls?: TlsFiles) => {
    const clients = connectStorageNode({ name: 'alpha', address, fleetSecret, tls });
    onTestFinished(() => clients.close());
    return clients.storageNode.getStatus({});
  };
  const filesOf = (name: string) => {
    const named = (path: string) => ({ setting: 'a file', path: file(path) });
    const paths = { cert: named(`${name}.pem`), key: named(`${name}-key.pem`), ca: named('ca.pem') };
    const purpose = name === 'worker' ? 'client' : 'server';
    return new TlsFiles({ paths, purpose, now: () => Date.now() });
  };
  expect(await status(filesOf('worker'))).toMatchObject({ name: 'alpha' });
  await expect(status()).rejects.toThrow(/If it asks for TLS/);
  // The certificate of the API's address is of the same CA, and for another use.
  await expect(status(filesOf('api-https'))).rejects.toThrow(/refuses the certificate of who calls/);

  const asked = operator.refusal('volume', 'list', '--ca-file', '/etc/ssl/none.pem');
  expect(await asked).toMatchObject({ code: 2, stderr: expect.stringMatching(/CA file .* cannot be read/) });
  delete process.env.TIDEMARK_CA_FILE;
  const untrusting = await operator.refusal('volume', 'list');
  expect(untrusting.stderr).toMatch(/is not trusted: .*CA that is not trusted here.*--ca-file/);
  expect(await operator.tidemark('volume', 'list', '--ca-file', file('ca.pem'))).toContain('disk');
  await expect(fetch(url.replace('https:', 'http:'))).rejects.toThrow();
});
