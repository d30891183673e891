// Goal: every event that is for a webhook reaches it, signed, at least once and in order, whatever the endpoint and the
// workers do; one that is gone is given up in the end, and nothing else waits for it. Method: real HTTP endpoints that
// misbehave, and one or two senders on a real catalog with short times.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Catalog } from '@tidemark/catalog';
import { createTestDatabase, inDatabase, type TestDatabase } from '@tidemark/catalog/testing';
import { isSignedBy, WebhookSecrets } from '@tidemark/proto';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { WEBHOOK_LIMITS, type WebhookLimits } from '../limits.ts';
import { WebhookSender } from './webhook-sender.ts';

const PATIENCE = { timeout: 25_000 };
const log = pino({ level: 'silent' });
const SECRET = 'whsec_test';
const [KEY, FORMER_KEY] = [
  'key-of-this-test-0123456789abcdef01',
  'former-key-of-this-test-0123456789',
] as const;
const secrets = new WebhookSecrets([KEY]);
let database: TestDatabase;
let catalog: Catalog;
const closing: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  database = await createTestDatabase();
  catalog = Catalog.connect(database.url);
});
afterEach(async () => {
  for (let close = closing.pop(); close; close = closing.pop()) await close();
  await catalog.close();
  await database.drop();
});

interface Got {
  body: string;
  headers: IncomingMessage['headers'];
  event: { id: number; kind: string; runId: string | null };
}

type Answer = (got: Got, response: ServerResponse) => void;
const ok: Answer = (_got, response) => response.end();

async function endpoint(answer: Answer = ok) {
  const got: Got[] = [];
  const server: Server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const one = { body, headers: request.headers, event: JSON.parse(body).event };
    got.push(one);
    answer(one, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(async () => {
    server.closeAllConnections();
    server.close();
  });
  return { got, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook?a=b` };
}

function sender(limits: Partial<WebhookLimits> = {}, keys: readonly string[] = [KEY]) {
  const one = new WebhookSender({
    ...{ catalog, databaseUrl: database.url, owner: randomUUID(), log },
    secrets: new WebhookSecrets(keys),
    now: () => Date.now(),
    random: () => 0.5,
    limits: { ...WEBHOOK_LIMITS, delayMs: 20, delayMaxMs: 100, lookMs: 50, ...limits },
  });
  one.start();
  closing.push(() => one.close());
  return one;
}

const hook = (url: string, more: { kinds?: string[]; selector?: string; name?: string } = {}) => {
  const owner = { id: randomUUID(), name: more.name ?? 'ops' };
  const sealedSecret = secrets.seal(owner, SECRET);
  return catalog.webhooks.create({ ...owner, url, kinds: [], selector: '', sealedSecret, ...more });
};

const queue = (volumeId?: string) =>
  catalog.runs.create({ id: randomUUID(), kind: 'reconcile', request: {}, volumeId: volumeId ?? null });

const runsIn = (got: Got[]) => got.map(({ event }) => event.runId);
const deliveries = async (id: string) => (await catalog.webhooks.listDeliveries(id)).items;

test('events arrive once, in order and signed, from two workers that come and go', async () => {
  const { got, url } = await endpoint();
  await queue();
  const { id } = await hook(url);
  const first = sender();
  sender();
  const runs = [];
  for (let n = 0; n < 30; n++) {
    runs.push((await queue()).id);
    if (n === 15) await first.close();
  }
  await expect.poll(() => got.length, PATIENCE).toBe(30);
  expect(runsIn(got)).toEqual(runs);
  for (const { body, headers } of got) {
    const options = { secret: SECRET, nowSeconds: Date.now() / 1000, ageSecondsMax: 300 };
    expect(isSignedBy(body, { ...options, signature: String(headers['tidemark-signature']) })).toBe(true);
  }
  expect(got[0]!.headers).toMatchObject({
    'tidemark-event': 'run-queued',
    'content-type': 'application/json',
  });
  await expect
    .poll(async () => (await deliveries(id)).every(one => one.state === 'delivered'), PATIENCE)
    .toBe(true);
});

test('kinds and labels choose, and what tells of webhooks is never sent to one', async () => {
  const { got, url } = await endpoint();
  const node = await catalog.storageNodes.create({ id: randomUUID(), name: 'a', controlAddress: 'a:1' });
  const facts = { storageNodeId: node.id, sizeBytes: 512, format: 'raw' as const };
  const prod = await catalog.volumes.create({
    id: randomUUID(),
    name: 'p',
    ...facts,
    labels: { env: 'prod' },
  });
  const test = await catalog.volumes.create({
    id: randomUUID(),
    name: 't',
    ...facts,
    labels: { env: 'test' },
  });
  await hook(url, { kinds: ['run-queued', 'webhook-added', 'volume-deleted'], selector: 'env=prod' });
  sender();
  await hook(url, { name: 'other', kinds: ['none'] });
  await queue(test.id);
  await queue();
  const wanted = await queue(prod.id);
  await catalog.volumes.update(prod.id, { labels: { env: 'prod', a: 'b' } });
  await expect.poll(() => got.length, PATIENCE).toBe(1);
  const last = await queue(prod.id);
  await expect.poll(() => got.length, PATIENCE).toBe(2);
  expect(runsIn(got)).toEqual([wanted.id, last.id]);
  for (const { id } of [test, prod]) await catalog.volumes.delete(id, null);
  await expect.poll(() => got.length, PATIENCE).toBe(3);
  expect(got[2]!.event).toMatchObject({ kind: 'volume-deleted', subjectId: prod.id });
});

test('a failing endpoint gets the same again until it takes it, and later events wait', async () => {
  let failures = 3;
  const { got, url } = await endpoint((_got, response) => {
    response.statusCode = failures-- > 0 ? 503 : 204;
    response.end('x'.repeat(1_000_000));
  });
  const { id } = await hook(url);
  const runs = [(await queue()).id, (await queue()).id];
  sender();
  await expect.poll(() => got.length, PATIENCE).toBe(5);
  expect(runsIn(got)).toEqual([runs[0], runs[0], runs[0], runs[0], runs[1]]);
  expect(new Set(got.slice(0, 4).map(({ body }) => body)).size).toBe(1);
  await expect
    .poll(async () => (await deliveries(id)).map(one => [one.state, one.attempts]), PATIENCE)
    .toEqual([
      ['delivered', 1],
      ['delivered', 4],
    ]);
});

test('what is never taken dies, the next has its turn, and after enough of them the webhook is suspended', async () => {
  let isBroken = true;
  const { got, url } = await endpoint((_got, response) => {
    response.statusCode = isBroken ? 500 : 200;
    response.end();
  });
  const { id } = await hook(url);
  const healthy = await endpoint();
  await hook(healthy.url, { name: 'healthy', kinds: ['run-queued'] });
  sender({ attemptsMax: 2, deathsMax: 3 });
  const runs = [];
  for (let n = 0; n < 5; n++) runs.push((await queue()).id);
  await expect.poll(async () => (await catalog.webhooks.get(id)).state, PATIENCE).toBe('suspended');
  // Nobody else waits for it.
  await expect.poll(() => runsIn(healthy.got), PATIENCE).toEqual(runs);
  const states = async () => (await deliveries(id)).map(({ state }) => state).reverse();
  expect(await states()).toEqual(['dead', 'dead', 'dead', 'pending', 'pending']);
  expect((await deliveries(id)).at(-1)).toMatchObject({ status: 500, detail: 'answered 500', attempts: 2 });
  expect(got).toHaveLength(6);
  const told = (await catalog.events.listAfter(0)).map(({ kind }) => kind);
  expect(told.filter(kind => kind.startsWith('webhook-d'))).toHaveLength(3);
  expect(told).toContain('webhook-suspended');

  isBroken = false;
  got.length = 0;
  const dead = (await deliveries(id)).at(-1)!;
  await catalog.webhooks.redeliver(id, dead.id);
  await catalog.webhooks.update(id, { enabled: true });
  await expect.poll(() => runsIn(got), PATIENCE).toEqual([runs[0], runs[3], runs[4]]);
  await expect.poll(states, PATIENCE).toEqual(['delivered', 'dead', 'dead', 'delivered', 'delivered']);
});

test('a token that has ended is sent nothing more, and who changes its webhook takes it over', async () => {
  let actor: string | null = null;
  let nowMs = Date.now();
  const options = {
    clock: () => new Date(nowMs),
    acting: () => (actor === null ? null : { name: actor, visible: [] }),
  };
  await catalog.close();
  catalog = Catalog.connect(database.url, options);
  const token = (name: string, expiresAt: Date | null) =>
    catalog.tokens.create({
      ...{ id: randomUUID(), name, prefix: name, hash: name, role: 'admin', scope: '', expiresAt },
      createdBy: 'system',
    });
  await token('passing', new Date(nowMs + 60_000));
  await token('kept', null);
  await token('taken-back', null);
  const names = ['passing', 'kept', 'taken-back', 'local'];
  const hooks: { id: string; got: Got[] }[] = [];
  for (const name of names) {
    const { got, url } = await endpoint();
    actor = name;
    hooks.push({ got, ...(await hook(url, { name, kinds: ['run-queued'] })) });
  }
  actor = null;
  const counts = () => hooks.map(({ got }) => got.length);
  const states = () => Promise.all(hooks.map(async ({ id }) => (await catalog.webhooks.get(id)).state));
  sender();
  const runs = [(await queue()).id];
  await expect.poll(counts, PATIENCE).toEqual([1, 1, 1, 1]);

  nowMs += 60_000;
  await catalog.tokens.revoke('taken-back');
  await expect.poll(states, PATIENCE).toEqual(['suspended', 'enabled', 'suspended', 'enabled']);
  const why = await Promise.all(hooks.map(async ({ id }) => (await catalog.webhooks.get(id)).suspendedFor));
  expect(why).toEqual(['token-expired', null, 'token-revoked', null]);
  const told = (await catalog.events.listAfter(0)).filter(({ kind }) => kind === 'webhook-suspended');
  expect(told.map(({ subjectId, data }) => [subjectId, data])).toEqual(
    expect.arrayContaining([
      [hooks[0]!.id, { reason: 'token-expired', token: 'passing' }],
      [hooks[2]!.id, { reason: 'token-revoked', token: 'taken-back' }],
    ]),
  );
  expect(told).toHaveLength(2);
  runs.push((await queue()).id);
  await expect.poll(counts, PATIENCE).toEqual([1, 2, 1, 2]);

  actor = 'kept';
  const taken = await catalog.webhooks.update(hooks[0]!.id, { enabled: true });
  expect(taken).toMatchObject({ createdBy: 'passing', onBehalfOf: 'kept', suspendedFor: null });
  actor = null;
  await expect.poll(() => runsIn(hooks[0]!.got), PATIENCE).toEqual(runs);
  expect(counts()).toEqual([2, 2, 1, 2]);
});

test('redirects are not followed, and silence ends', async () => {
  const secret = await endpoint();
  const redirect = await endpoint((_got, response) => {
    response.writeHead(302, { location: secret.url });
    response.end();
  });
  const silent = await endpoint(() => {});
  const one = await hook(redirect.url);
  const two = await hook(silent.url, { name: 'silent' });
  await queue();
  sender({ attemptsMax: 1, answerMs: 200 });
  const detail = async (id: string) => (await deliveries(id))[0]?.detail;
  await expect.poll(() => detail(one.id), PATIENCE).toBe('answered 302; redirects are not followed');
  await expect.poll(() => detail(two.id), PATIENCE).toBe('no answer within 200 ms');
  expect(secret.got).toEqual([]);
});

test('an address that webhooks are not sent to is refused at the moment of sending, too', async () => {
  const { id } = await hook('http://169.254.169.254/latest/meta-data');
  await queue();
  sender({ attemptsMax: 1 });
  await expect
    .poll(async () => (await deliveries(id))[0]?.detail, PATIENCE)
    .toMatch(/leads to 169\.254\.169\.254/);
});

test('a worker that vanished in mid-delivery is followed by another: at least once', async () => {
  const { got, url } = await endpoint();
  const { id } = await hook(url);
  const run = await queue();
  const gone = { owner: 'gone', leaseMs: 1_000, attemptsMax: 3, deathsMax: 3, delayMaxMs: 1_000 };
  const [claimed] = await catalog.webhookDeliveries.claimDue(gone, 1);
  expect(secrets.open(claimed!, claimed!.sealedSecret)).toBe(SECRET);
  await catalog.webhookDeliveries.fanOut(id, { owner: 'gone', limit: 10, pendingMax: 10 });
  const delivery = (await catalog.webhookDeliveries.nextPending(id))!;
  sender();
  await expect.poll(() => runsIn(got), PATIENCE).toEqual([run.id]);
  // It comes back, and what it has to say counts no more.
  const attempt = { delivered: false, status: 500, detail: 'late', delayMs: 1 };
  expect(await catalog.webhookDeliveries.record(delivery, attempt, gone)).toBe(false);
  expect(await catalog.webhookDeliveries.fanOut(id, { owner: 'gone', limit: 10, pendingMax: 10 })).toBe(0);
  await expect.poll(async () => (await deliveries(id))[0]!.state, PATIENCE).toBe('delivered');
});

test('a webhook that could not be served until events were pruned is told of the gap', async () => {
  const { got, url } = await endpoint();
  await hook(url);
  await queue();
  await inDatabase(database.url, async client => {
    await client.query(`UPDATE run SET state = 'succeeded'`);
    await client.query(`UPDATE event SET created_at = now() - interval '40 days'`);
  });
  await catalog.events.prune(new Date(Date.now() - 86_400_000), 100);
  const run = await queue();
  sender();
  await expect.poll(() => got.length, PATIENCE).toBe(2);
  expect(JSON.parse(got[0]!.body)).toMatchObject({ kind: 'events-pruned', webhook: 'ops', after: 0 });
  expect(got[1]!.event.runId).toBe(run.id);
});

test('what waits is bounded, and nothing is lost by it', async () => {
  const { got, url } = await endpoint();
  await hook(url);
  const runs = [];
  for (let n = 0; n < 12; n++) runs.push((await queue()).id);
  sender({ pendingMax: 3, readAtOnce: 5, sendsInARow: 2 });
  await expect.poll(() => runsIn(got), PATIENCE).toEqual(runs);
});

const keptSecret = (id: string) =>
  inDatabase(database.url, async client => {
    const { rows } = await client.query('SELECT secret FROM webhook WHERE id = $1', [id]);
    return rows[0].secret as string;
  });
const keep = (id: string, secret: string) =>
  inDatabase(database.url, client =>
    client.query('UPDATE webhook SET secret = $2 WHERE id = $1', [id, secret]),
  );

const isSigned = ({ body, headers }: Got) =>
  isSignedBy(body, {
    ...{ secret: SECRET, nowSeconds: Date.now() / 1000, ageSecondsMax: 300 },
    signature: String(headers['tidemark-signature']),
  });

test.each([
  ['in plain text, from before they were sealed', () => SECRET],
  [
    'sealed with the key before',
    (owner: { id: string; name: string }) => new WebhookSecrets([FORMER_KEY]).seal(owner, SECRET),
  ],
])('secrets %s are sealed with the key in use when a worker starts', async (_what, secretOf) => {
  const { got, url } = await endpoint();
  const made = await hook(url);
  await keep(made.id, secretOf(made));
  sender({}, [KEY, FORMER_KEY]);
  await expect
    .poll(async () => (await keptSecret(made.id)).split('.')[1], PATIENCE)
    .toBe(secrets.seal(made, SECRET).split('.')[1]);
  const kept = await keptSecret(made.id);
  expect(kept).not.toContain(SECRET);
  expect(secrets.open(made, kept)).toBe(SECRET);
  await queue();
  await expect.poll(() => got.length, PATIENCE).toBe(1);
  expect(isSigned(got[0]!)).toBe(true);
});

test('without the right key nothing is sent and nothing dies, and the delivery tells what to do', async () => {
  const { got, url } = await endpoint();
  const healthy = await endpoint();
  const { id } = await hook(url);
  const own = await hook(healthy.url, { name: 'healthy' });
  await keep(own.id, new WebhookSecrets([FORMER_KEY]).seal(own, SECRET));
  const run = await queue();
  const wrong = sender({ secretlessMs: 20, attemptsMax: 1 }, [FORMER_KEY]);
  const first = async () => (await deliveries(id)).at(-1);
  await expect
    .poll(async () => (await first())?.detail, PATIENCE)
    .toMatch(/webhook 'ops' is sealed with key.*TIDEMARK_WEBHOOK_KEY_PREVIOUS/);
  // Others are served all the same.
  await expect.poll(() => runsIn(healthy.got), PATIENCE).toEqual([run.id]);
  await wrong.close();
  expect(await first()).toMatchObject({ state: 'pending', attempts: 0 });
  expect(await catalog.webhooks.get(id)).toMatchObject({ state: 'enabled', deathsInARow: 0 });
  expect(got).toEqual([]);
  sender({}, [KEY, FORMER_KEY]);
  await expect.poll(() => runsIn(got), PATIENCE).toEqual([run.id]);
  expect(isSigned(got[0]!)).toBe(true);
});
