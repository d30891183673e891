// Goal: no secret of an installation ever stands in a log or in what is answered to somebody who asks wrongly. Method:
// a real stack whose secrets are known, put through its paces and its failures with everything logged; then all logs
// and all answers are searched for each secret, and for what could be made of it.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectStorageNode } from '@tidemark/proto';
import { expect, onTestFinished, test } from 'vitest';
import { Stack } from './stack.ts';

const ADMIN = 'admin-token-of-this-test-7c1d9e5f3b2a48d6';
const STRANGER = 'stranger-token-of-this-test-0f4e8d2c6a1b93';
const WRONG_FLEET_SECRET = 'wrong-fleet-secret-of-this-test-5a7b9c1d';
const PATIENCE_MS = 240_000;

interface Said {
  readonly status: number;
  readonly text: string;
}

/** Everything that the api has said, but for the few answers that are to hold a secret. */
const answers: Said[] = [];

async function ask(url: string, method: string, body?: object, more: Record<string, string> = {}) {
  const headers = { authorization: `Bearer ${ADMIN}`, ...more };
  const response = await fetch(url, {
    method,
    headers: { ...headers, ...(body && { 'content-type': 'application/json' }) },
    ...(body && { body: JSON.stringify(body) }),
  });
  return { status: response.status, text: await response.text() };
}

async function startStack(): Promise<Stack> {
  const home = mkdtempSync(join(tmpdir(), 'tidemark-secrets-'));
  const stack = new Stack({
    home,
    ports: 'free',
    nodes: ['alpha'],
    register: false,
    environment: {
      TIDEMARK_API_ACCESS: 'tokens',
      TIDEMARK_BOOTSTRAP_TOKEN: ADMIN,
      TIDEMARK_LOG_LEVEL: 'trace',
    },
  });
  onTestFinished(async () => {
    await stack.stop();
    rmSync(home, { recursive: true, force: true });
  });
  await stack.start();
  return stack;
}

/** A receiver of webhooks that refuses them all. */
async function startRefuser(): Promise<string> {
  const server = createServer((request, response) => {
    request.resume();
    response.writeHead(500).end('no');
  }).listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await new Promise(resolve => server.once('listening', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
}

/** Whoever reads a log can undo these. */
const formsOf = (secret: string) => [
  secret,
  encodeURIComponent(secret),
  Buffer.from(secret).toString('base64').replace(/=+$/, ''),
  Buffer.from(secret).toString('hex'),
];

function allLogs(stack: Stack): Map<string, string> {
  const folder = join(stack.home, 'logs');
  return new Map(readdirSync(folder).map(name => [name, readFileSync(join(folder, name), 'utf8')]));
}

type Call = (method: string, path: string, body?: object, more?: Record<string, string>) => Promise<Said>;

/** Who gets in, and who does not. */
async function knock(call: Call, token: string): Promise<void> {
  for (const authorization of [`Bearer ${STRANGER}`, `Basic ${btoa(`me:${STRANGER}`)}`, `Bearer ${token}x`]) {
    expect((await call('GET', 'volumes', undefined, { authorization })).status).toBe(401);
  }
  const viewer = { authorization: `Bearer ${token}` };
  expect((await call('POST', 'volumes', { name: 'v' }, viewer)).status).toBe(403);
  expect((await call('POST', 'tokens', { name: 'odd', role: token, secret: token })).status).toBe(400);
  const odd = { name: 'v', password: STRANGER, storageNode: 'alpha' };
  expect((await call('POST', 'volumes', odd)).status).toBe(400);
}

async function giveOrdersWithoutSecret(address: string): Promise<void> {
  const clients = connectStorageNode({ name: 'alpha', address, fleetSecret: WRONG_FLEET_SECRET });
  await expect(clients.storageNode.getStatus({})).rejects.toMatchObject({ code: 'fleet-secret-refused' });
  clients.close();
}

/** Runs that succeed, fail, and are asked for twice. */
async function work(call: Call): Promise<void> {
  const key = { 'idempotency-key': 'the-same' };
  const disk = { name: 'disk', storageNode: 'alpha', sizeBytes: 1_048_576 };
  for (let n = 0; n < 2; n += 1) await call('POST', 'volumes?wait=done', disk, key);
  await call('POST', 'volumes', { ...disk, name: 'huge', sizeBytes: 2 ** 50 });
  await call('POST', 'repositories?wait=done', { name: 'vault', storageNode: 'alpha' });
  const backup = { volume: 'disk', repository: 'vault', checkpoint: 'c1', kind: 'full' };
  expect((await call('POST', 'backups?wait=done', backup)).status).toBe(201);
  const file = { name: '../../escape', storageNode: 'alpha' };
  const out = await call('POST', 'restores', { volume: 'disk', checkpoint: 'c1', target: { file } });
  expect(out.status).toBe(400);
}

/** The catalog goes away in mid-work, and comes back; deliveries of the webhook fail meanwhile. */
async function loseCatalog(call: Call, postgresPid: number): Promise<void> {
  process.kill(postgresPid, 'SIGKILL');
  for (let n = 0; n < 5; n += 1) await call('GET', 'volumes');
  const often = { timeout: 60_000, interval: 500 };
  await expect.poll(async () => (await call('GET', 'volumes')).status, often).toBe(200);
  const hasTried = async () => {
    const { items } = JSON.parse((await call('GET', 'webhooks/ops/deliveries')).text) as {
      items: { attempts: number }[];
    };
    return items.some(({ attempts }) => attempts > 0);
  };
  await expect.poll(hasTried, often).toBe(true);
}

test(
  'secrets stand in no log and in no answer, whatever goes wrong',
  async () => {
    const stack = await startStack();
    const call: Call = async (method, path, body, more) => {
      const said = await ask(`${stack.url}/v1/${path}`, method, body, more);
      answers.push(said);
      return said;
    };
    const made = async (path: string, body: object) => {
      const said = await ask(`${stack.url}/v1/${path}`, 'POST', body);
      expect(said.status, said.text).toBe(201);
      return (JSON.parse(said.text) as { secret: string }).secret;
    };
    const { controlAddress } = stack.nodes[0]!;
    await call('POST', 'storage-nodes?wait=done', { name: 'alpha', controlAddress });
    const token = await made('tokens', { name: 'ci', role: 'viewer' });
    const webhook = await made('webhooks', { name: 'ops', url: await startRefuser() });
    await knock(call, token);
    await giveOrdersWithoutSecret(controlAddress);
    await work(call);
    await loseCatalog(call, stack.postgresPid!);
    for (const path of ['tokens', 'audit?limit=500', 'runs?limit=500', 'events?limit=500', 'webhooks']) {
      expect((await call('GET', path)).status, path).toBe(200);
    }

    const { databasePassword } = JSON.parse(readFileSync(join(stack.home, 'stack.json'), 'utf8')) as {
      databasePassword: string;
    };
    const logs = allLogs(stack);
    // The search finds what is there.
    expect(logs.get('alpha.log')).toContain('fleet-secret-refused');
    expect(logs.get('api.log')).toContain('access refused');
    expect(logs.get('worker.log')).toContain('webhook');
    expect(logs.get('postgres.log')).toMatch(/\w/);
    expect(answers.filter(({ status }) => status >= 400).length).toBeGreaterThan(8);
    const own = { ADMIN, STRANGER, WRONG_FLEET_SECRET };
    searchFor({ ...own, token, webhook, fleet: stack.fleetSecret, databasePassword }, logs);
  },
  PATIENCE_MS,
);

function searchFor(secrets: Record<string, string>, logs: Map<string, string>): void {
  const texts = [...logs, ...answers.map(({ text }): [string, string] => [text.slice(0, 300), text])];
  for (const [name, secret] of Object.entries(secrets)) {
    for (const form of formsOf(secret)) {
      for (const [place, text] of texts) expect.soft(text.includes(form), `${name} in ${place}`).toBe(false);
    }
  }
}
