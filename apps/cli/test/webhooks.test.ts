// Goal: an operator gives, tries, changes and takes away webhooks from a shell. Method: a real API on a database of
// its own; what workers do to deliveries is done to the rows.
import { randomUUID } from 'node:crypto';
import { PassThrough } from 'node:stream';
import { buildApp } from '@tidemark/api/app';
import { createTestDatabase, inDatabase, type TestDatabase } from '@tidemark/catalog/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runProgram } from '../src/program.ts';

let database: TestDatabase;
let app: Awaited<ReturnType<typeof buildApp>>;
let url: string;

beforeAll(async () => {
  database = await createTestDatabase();
  const webhookKeys = ['webhook-key-of-this-test-0123456789abc'];
  app = await buildApp({ databaseUrl: database.url, queueUrl: database.url, webhookKeys });
  url = await app.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(async () => {
  await app.close();
  await database.drop();
});

async function run(...args: string[]) {
  const out = new PassThrough();
  const err = new PassThrough();
  const exit = await runProgram(args, { url, terminal: { out, err } });
  return { exit, out: String(out.read() ?? ''), err: String(err.read() ?? '') };
}

async function done(...args: string[]): Promise<string> {
  const { exit, out, err } = await run(...args);
  expect(exit, err).toBe(0);
  return out;
}

test('a webhook from its creation to its end', async () => {
  const kinds = 'run-failed,run-queued';
  const made = await done('webhook', 'create', 'ops', '--to', 'http://127.0.0.1:9/hook', '--kinds', kinds);
  expect(made).toMatch(/secret: whsec_[\w-]{43}/);
  const secret = /whsec_\S+/.exec(made)![0];
  const shown = (await done('webhook', 'show', 'ops')) + (await done('--json', 'webhook', 'list'));
  expect(shown).toContain('enabled');
  expect(shown).not.toContain(secret);
  expect(await done('webhook', 'renew-secret', 'ops')).not.toContain(secret);
  expect(await done('webhook', 'set', 'ops', '--disable', '--selector', 'env=prod')).toMatch(/disabled/);
  expect(await done('webhook', 'set', 'ops', '--enable')).toMatch(
    /enabled.*\n.*\n.*run-failed,run-queued.*\n.*env=prod/s,
  );

  const ping = JSON.parse(await done('--json', 'webhook', 'ping', 'ops'));
  expect(ping).toMatchObject({ kind: 'ping', state: 'pending', eventId: null });
  expect(JSON.parse(ping.body)).toEqual({ deliveryId: ping.id, webhook: 'ops', kind: 'ping' });
  const rules = { owner: 'w', leaseMs: 60_000, attemptsMax: 1, deathsMax: 9, delayMaxMs: 1 };
  const [webhook] = await app.catalog.webhookDeliveries.claimDue(rules, 1);
  const delivery = (await app.catalog.webhookDeliveries.nextPending(webhook!.id))!;
  const attempt = { delivered: false, status: 500, detail: 'answered 500', delayMs: 1 };
  await app.catalog.webhookDeliveries.record(delivery, attempt, rules);
  expect(await done('webhook', 'deliveries', 'ops', '--state', 'dead')).toMatch(/ping +dead +1 +500/);
  expect(await done('webhook', 'redeliver', 'ops', ping.id)).toContain('pending');
  expect(await done('webhook', 'deliveries', 'ops', '--state', 'dead')).toBe('none\n');
  expect(await done('webhook', 'delete', 'ops')).toBe('deleted webhook ops\n');
  expect(await done('webhook', 'list')).toBe('none\n');
});

test('one whose token was revoked says so, and is taken over by whoever enables it', async () => {
  await done('webhook', 'create', 'orphan', '--to', 'http://127.0.0.1:9/');
  await done('token', 'create', 'passing', '--role', 'admin');
  await inDatabase(database.url, client =>
    client.query(`UPDATE webhook SET on_behalf_of = 'passing' WHERE name = 'orphan'`),
  );
  await done('token', 'revoke', 'passing');
  expect(await done('webhook', 'show', 'orphan')).toMatch(
    /suspended \(token-revoked\)\nON BEHALF OF +passing/,
  );
  expect(await done('webhook', 'set', 'orphan', '--enable')).toMatch(/enabled\nON BEHALF OF +local/);
  await done('webhook', 'delete', 'orphan');
});

test('lists deliveries page by page', async () => {
  await done('webhook', 'create', 'many', '--to', 'http://127.0.0.1:9/');
  const pings = [];
  for (let n = 0; n < 5; n++) pings.push(JSON.parse(await done('--json', 'webhook', 'ping', 'many')).id);
  const seen: string[] = [];
  for (let cursor: string | null = ''; cursor !== null; ) {
    const more: string[] = cursor === '' ? [] : ['--cursor', cursor];
    const page = JSON.parse(await done('--json', 'webhook', 'deliveries', 'many', '--limit', '2', ...more));
    seen.push(...page.items.map(({ id }: { id: string }) => id));
    cursor = page.nextCursor;
  }
  expect(seen).toEqual(pings.reverse());
});

test.each([
  ['create', 'x', '--to', 'ftp://a.example'],
  ['create', 'x', '--to', 'http://169.254.169.254/'],
  ['create', 'x', '--to', 'http://a.example/', '--selector', 'a=='],
])('refuses %s %s %s %s', async (...args) => {
  const { exit, err } = await run('webhook', ...args);
  expect(exit).toBe(1);
  expect(err).toContain('invalid-request');
});

test('names what is not there or taken', async () => {
  await done('webhook', 'create', 'one', '--to', 'http://a.example/');
  expect((await run('webhook', 'create', 'one', '--to', 'http://a.example/')).err).toContain(
    'webhook-name-taken',
  );
  expect((await run('webhook', 'show', 'none')).err).toContain('webhook-not-found');
  const missing = await run('webhook', 'redeliver', 'one', randomUUID());
  expect(missing.err).toContain('webhook-delivery-not-found');
});
