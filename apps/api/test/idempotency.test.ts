// Goal: a request with an idempotency key is carried out once: sent again, at the same time, to another api, and after
// the api that was at it has died. Method: several real apis on one database; a death is an api whose work on the
// request stops between two of its durable steps.
import { randomUUID } from 'node:crypto';
import { inDatabase } from '@tidemark/catalog/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

let api: TestApi;
let other: TestApi;

beforeAll(async () => {
  api = await TestApi.start();
  other = await TestApi.on(api.database);
  await api.storageNode('alpha');
});

afterAll(async () => {
  await other.app.close();
  await api.close();
});

const volume = (name: string) => ({ name, storageNode: 'alpha', sizeBytes: 512 });
const keyed = (key: string = randomUUID()) => ({ 'idempotency-key': key });

async function countOf(name: string): Promise<number> {
  const { items } = (await api.call('GET', '/v1/volumes?limit=500')).body;
  return items.filter((item: { name: string }) => item.name === name).length;
}

/** As if its holder had died a while ago. */
function holderDies(key: string): Promise<unknown> {
  return inDatabase(api.database.url, client =>
    client.query("UPDATE idempotency_key SET lease_until = now() - interval '1 second' WHERE key = $1", [
      key,
    ]),
  );
}

test('sent again, to whichever api, it is answered as before and done once', async () => {
  const headers = keyed();
  const first = await api.call('POST', '/v1/volumes', volume('once'), headers);
  expect(first.status).toBe(202);
  expect(first.headers['idempotency-replayed']).toBeUndefined();
  const before = await api.written();
  for (const one of [api, other, api]) {
    const again = await one.call('POST', '/v1/volumes', volume('once'), headers);
    expect([again.status, again.body]).toEqual([202, first.body]);
    expect(again.headers).toMatchObject({ location: first.headers.location, 'idempotency-replayed': 'true' });
  }
  expect(await api.written()).toEqual(before);
});

test('the same key with anything else asked for is refused', async () => {
  const headers = keyed();
  await api.call('POST', '/v1/volumes', volume('first-ask'), headers);
  for (const [url, body] of [
    ['/v1/volumes', volume('second-ask')],
    ['/v1/volumes/first-ask/checkpoints', { name: 'c' }],
  ] as const) {
    const answer = await other.call('POST', url, body, headers);
    expect([answer.status, answer.body.code]).toEqual([422, 'idempotency-key-reused']);
  }
  expect(await countOf('second-ask')).toBe(0);
  // How long to wait for the answer is not what is asked for, and the order of fields says nothing.
  const { sizeBytes, ...rest } = volume('first-ask');
  const again = await api.call('POST', '/v1/volumes?wait=accepted', { sizeBytes, ...rest }, headers);
  expect(again.headers['idempotency-replayed']).toBe('true');
});

test('of many at the same time, on two apis, one is carried out and all are answered alike', async () => {
  const headers = keyed();
  const calls = Array.from({ length: 12 }, (_, n) =>
    (n % 2 === 0 ? api : other).call('POST', '/v1/volumes', volume('crowd'), headers),
  );
  const answers = await Promise.all(calls);
  expect(new Set(answers.map(answer => answer.status))).toEqual(new Set([202]));
  expect(new Set(answers.map(answer => answer.body.run.id)).size).toBe(1);
  expect(answers.filter(answer => answer.headers['idempotency-replayed'] === undefined)).toHaveLength(1);
  expect(await countOf('crowd')).toBe(1);
});

test('a refusal that wrote nothing may succeed when it is sent again', async () => {
  const headers = keyed();
  const body = { ...volume('later'), storageNode: 'gamma' };
  expect((await api.call('POST', '/v1/volumes', body, headers)).body.code).toBe('storage-node-not-found');
  await api.storageNode('gamma');
  expect((await other.call('POST', '/v1/volumes', body, headers)).status).toBe(202);
  expect(await countOf('later')).toBe(1);
});

test.each([
  ['intent begins', 0],
  ['create-volume intent written', 1],
  ['create-volume handing over', 1],
])('an api that dies at "%s" leaves nothing that is done twice', async (point, written) => {
  const name = `dies-${point.replaceAll(' ', '-')}`;
  const key = randomUUID();
  let reached = () => {};
  const isThere = new Promise<void>(resolve => {
    reached = resolve;
  });
  const dying = await TestApi.on(api.database, {
    pass: at => {
      if (at !== point) return;
      reached();
      // Nothing of the request goes on after this; what it wrote stays.
      throw new Error('dead');
    },
  });
  // What a dead process does not do: answer, and say that it will not.
  dying.app.catalog.idempotency.answer = async () => {};
  dying.app.catalog.idempotency.leave = async () => {};
  dying.app.catalog.idempotency.forget = async () => {};
  await dying.call('POST', '/v1/volumes', volume(name), keyed(key));
  await isThere;
  expect(await countOf(name)).toBe(written);
  await dying.app.close();
  await holderDies(key);
  const again = await other.call('POST', '/v1/volumes', volume(name), keyed(key));
  expect(again.status, JSON.stringify(again.body)).toBe(202);
  expect(again.body).toMatchObject({ volume: { name }, run: { kind: 'create-volume', state: 'queued' } });
  expect(again.headers.location).toBe(`/v1/runs/${again.body.run.id}`);
  expect(await countOf(name)).toBe(1);
  const runs = await inDatabase(api.database.url, async client => {
    const { rows } = await client.query("SELECT id FROM run WHERE request->>'name' = $1", [name]);
    return rows.map(row => row.id);
  });
  expect(runs).toEqual([again.body.run.id]);
});

test('who has lost the claim to another one writes nothing', async () => {
  const ask = [`/v1/volumes/claimed/checkpoints`, { name: 'c' }] as const;
  await api.volume('claimed', 'alpha');
  const key = randomUUID();
  const slow = await TestApi.on(api.database);
  const { volumes } = slow.app.catalog;
  const service = slow.app.checkpoints;
  const create = service.create.bind(service);
  let taken: { status: number; body: { run: { id: string }; checkpoint: { id: string } } } | undefined;
  service.create = async (...args) => {
    // It stands still for longer than its lease, and another api carries the request out and undoes it.
    await holderDies(key);
    taken = await other.call('POST', ...ask, keyed(key));
    await (await api.worker(taken!.body.run.id)).fail({ code: 'io-error', message: 'test' });
    await api.app.catalog.checkpoints.delete(taken!.body.checkpoint.id, taken!.body.run.id);
    return create(...args);
  };
  const before = (await volumes.get('claimed')).id;
  const answer = await slow.call('POST', ...ask, keyed(key));
  expect(taken).toMatchObject({ status: 202 });
  expect([answer.status, answer.body.code]).toEqual([409, 'idempotency-key-busy']);
  const { items } = (await api.call('GET', `/v1/runs?volume=${before}&kind=create-checkpoint`)).body;
  expect(items.map((run: { id: string }) => run.id)).toEqual([taken?.body.run.id]);
  await slow.app.close();
});

test('an answer that held a secret is not kept, and the request not done again', async () => {
  const headers = keyed();
  const body = { name: 'secret-answer', role: 'viewer' };
  const first = await api.call('POST', '/v1/tokens', body, headers);
  expect(first.status).toBe(201);
  const again = await other.call('POST', '/v1/tokens', body, headers);
  expect([again.status, again.body.code]).toEqual([409, 'idempotency-answer-lost']);
  const kept = await inDatabase(api.database.url, async client =>
    JSON.stringify((await client.query('SELECT * FROM idempotency_key')).rows),
  );
  expect(kept).not.toContain(first.body.secret);
});

test('who waits for a run and was not answered waits for the same run', async () => {
  const headers = keyed();
  const body = volume('waited');
  const first = await api.call('POST', '/v1/volumes?wait=done&waitTimeoutMs=50', body, headers);
  expect([first.status, first.body.code]).toEqual([504, 'wait-timed-out']);
  const again = other.call('POST', '/v1/volumes?wait=done&waitTimeoutMs=60000', body, headers);
  await api.app.catalog.volumes.markReady(
    (await api.call('GET', '/v1/volumes/waited')).body.id,
    { exportUri: 'nbd://h:1/waited', sizeBytes: 512 },
    first.body.runId,
  );
  await (await api.worker(first.body.runId)).succeed();
  expect((await again).body).toMatchObject({ run: { id: first.body.runId, state: 'succeeded' } });
});

test.each(['', 'has space', 'ü', 'x'.repeat(256)])('the key %j is refused', async key => {
  const answer = await api.app.inject({
    method: 'POST',
    url: '/v1/volumes',
    payload: volume('no-key'),
    headers: { 'idempotency-key': key },
  });
  expect(answer.json()).toMatchObject({ code: 'invalid-request' });
  expect(await countOf('no-key')).toBe(0);
});

test('keys are of one caller, and are forgotten after a day', async () => {
  const key = randomUUID();
  await api.call('POST', '/v1/volumes', volume('of-open'), keyed(key));
  const made = await api.call('POST', '/v1/tokens', { name: 'key-owner', role: 'operator' });
  const headers = { ...keyed(key), authorization: `Bearer ${made.body.secret}` };
  expect((await api.call('POST', '/v1/volumes', volume('of-token'), headers)).status).toBe(202);
  await inDatabase(api.database.url, client =>
    client.query("UPDATE idempotency_key SET expires_at = now() - interval '1 second'"),
  );
  expect((await api.call('POST', '/v1/volumes', volume('a-day-later'), keyed(key))).status).toBe(202);
  expect(await api.app.catalog.idempotency.deleteExpired()).toBeGreaterThan(5);
});
