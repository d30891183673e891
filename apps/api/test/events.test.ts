// Goal: who follows events gets each once, in the order of commits, from whichever api service and across reconnects;
// slow clients and stopping services hold nobody up. Method: real connections to listening services on one database,
// read by an independent parser of server-sent events.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Catalog } from '@tidemark/catalog';
import { inDatabase } from '@tidemark/catalog/testing';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { buildApp } from '../src/app.ts';
import { EventHub } from '../src/events/event-hub.ts';
import { EventStream } from '../src/events/event-stream.ts';
import { EVENT_STREAMS_MAX } from '../src/limits.ts';
import type { EventJson } from '../src/schemas/event.ts';
import { TestApi } from './support/test-api.ts';

const PATIENCE = { timeout: 60_000 };
let api: TestApi;
let url: string;

beforeEach(async () => {
  api = await TestApi.start();
  url = await api.app.listen({ host: '127.0.0.1', port: 0 });
});
afterEach(() => api.close());

interface Follower {
  readonly messages: EventSourceMessage[];
  readonly comments: string[];
  /** Resolves when the service has ended the stream. */
  readonly ended: Promise<void>;
  stop(): void;
}

async function follow(query = '', headers: Record<string, string> = {}, base = url): Promise<Follower> {
  const stopped = new AbortController();
  const answer = await fetch(`${base}/v1/events${query}`, {
    headers: { accept: 'text/event-stream', ...headers },
    signal: stopped.signal,
  });
  expect(answer.status).toBe(200);
  expect(answer.headers.get('content-type')).toBe('text/event-stream');
  const messages: EventSourceMessage[] = [];
  const comments: string[] = [];
  const parser = createParser({
    onEvent: message => messages.push(message),
    onComment: comment => comments.push(comment),
  });
  const read = async () => {
    for await (const text of answer.body!.pipeThrough(new TextDecoderStream())) parser.feed(text);
  };
  const ended = read().catch(error => {
    if (!stopped.signal.aborted) throw error;
  });
  // It has begun when it has said from where on.
  await expect.poll(() => comments.length, PATIENCE).toBeGreaterThan(0);
  return { messages, comments, ended, stop: () => stopped.abort() };
}

const kept = ({ messages }: Follower) => messages.filter(({ event }) => event !== 'run.progress');
const ids = (follower: Follower) => kept(follower).map(({ id }) => Number(id));

const queue = (catalog: Catalog, more: { volumeId?: string } = {}) =>
  catalog.runs.create({ id: randomUUID(), kind: 'reconcile', request: {}, ...more });

test('a stream tells what is committed from then on, with the id to resume from', async () => {
  await queue(api.app.catalog);
  const follower = await follow();
  const run = await queue(api.app.catalog);
  await expect.poll(() => kept(follower).length, PATIENCE).toBe(1);
  const [message] = kept(follower);
  const event = JSON.parse(message!.data) as EventJson;
  expect(event).toMatchObject({ kind: 'run-queued', runId: run.id, subjectType: 'run', volumeId: null });
  expect(message).toMatchObject({ id: String(event.id), event: 'run-queued' });
  follower.stop();
});

test('two services tell all of many writers once and in order, also across reconnects', async () => {
  const second = await buildApp({ databaseUrl: api.database.url, queueUrl: api.database.url });
  const secondUrl = await second.listen({ host: '127.0.0.1', port: 0 });
  const steady = [await follow(), await follow('', {}, secondUrl)];
  const seen: number[] = [];
  let changing = await follow();
  const start = await api.app.catalog.events.newestId();
  const write = async (on: Catalog, n: number) => {
    await on.transaction(async tx => {
      const volumeId = randomUUID();
      await tx.runs.create({ id: randomUUID(), kind: 'reconcile', request: { n }, volumeId });
      await tx.runs.create({ id: randomUUID(), kind: 'reconcile', request: { n }, volumeId });
    });
  };
  for (let round = 0; round < 4; round++) {
    const on = (n: number) => (n % 2 === 0 ? api.app.catalog : second.catalog);
    const writes = Promise.all(Array.from({ length: 15 }, (_, n) => write(on(n), n)));
    await expect.poll(() => kept(changing).length, PATIENCE).toBeGreaterThan(0);
    changing.stop();
    await changing.ended;
    seen.push(...ids(changing));
    const resumeFrom = { 'last-event-id': String(seen.at(-1)) };
    changing = await follow('', resumeFrom, round % 2 === 0 ? secondUrl : url);
    await writes;
  }
  const all = (await api.app.catalog.events.listAfter(start, 1000)).map(event => event.id);
  expect(all).toHaveLength(120);
  for (const follower of steady) await expect.poll(() => ids(follower), PATIENCE).toEqual(all);
  await expect.poll(() => [...seen, ...ids(changing)], PATIENCE).toEqual(all);
  for (const follower of [...steady, changing]) follower.stop();
  await second.close();
});

/** Ids of all pages. */
async function newestFirst(query: string): Promise<number[]> {
  const found: number[] = [];
  for (let cursor: string | null = ''; cursor !== null; ) {
    const from: string = cursor === '' ? '' : `&cursor=${cursor}`;
    const { body } = await api.call('GET', `/v1/events?${query}&order=newest-first&limit=2${from}`);
    expect(body.items.length).toBeLessThanOrEqual(2);
    found.push(...body.items.map(({ id }: EventJson) => id));
    cursor = body.nextCursor;
  }
  return found;
}

test('the newest come first where that is asked for, within the same bounds', async () => {
  await api.storageNode('alpha');
  const { items } = (await api.call('GET', '/v1/events')).body as { items: EventJson[] };
  const all = items.map(({ id }) => id);
  expect(await newestFirst('')).toEqual(all.toReversed());
  const [, second, third = 0] = all;
  expect(await newestFirst(`after=${second}`)).toEqual(all.slice(2).toReversed());
  const one = await api.call('GET', `/v1/events?order=newest-first&cursor=${third}`);
  expect(one.body.items.map(({ id }: EventJson) => id)).toEqual(all.slice(0, 2).toReversed());
  for (const query of ['follow=true', 'follow=true&after=0']) {
    const { detail } = await api.refused('invalid-request', 'GET', `/v1/events?order=newest-first&${query}`);
    expect(detail).toMatch(/order/);
  }
});

test('filters by kind, subject, run, volume and time, in streams as in pages', async () => {
  const { id: nodeId } = await api.storageNode('alpha');
  await api.volume('web', 'alpha');
  const { id: volumeId } = await api.volume('db', 'alpha');
  const filters = {
    'volume=db': (event: EventJson) => event.volumeId === volumeId,
    [`volume=${volumeId}&kind=volume-ready,run-queued`]: (event: EventJson) =>
      event.volumeId === volumeId && ['volume-ready', 'run-queued'].includes(event.kind),
    [`subject=${nodeId}`]: (event: EventJson) => event.subjectId === nodeId,
  };
  const { items } = (await api.call('GET', '/v1/events')).body as { items: EventJson[] };
  const { runId } = items.at(-1)!;
  for (const [query, fits] of Object.entries({
    ...filters,
    [`run=${runId}`]: (event: EventJson) => event.runId === runId,
    [`since=${items[3]!.createdAt}`]: (event: EventJson) => event.createdAt >= items[3]!.createdAt,
  })) {
    const wanted = items.filter(fits).map(event => event.id);
    expect(wanted.length, query).toBeGreaterThan(0);
    const page = (await api.call('GET', `/v1/events?${query}`)).body;
    expect(
      page.items.map((event: EventJson) => event.id),
      query,
    ).toEqual(wanted);
    expect(await newestFirst(query), query).toEqual(wanted.toReversed());
    const follower = await follow(`?after=0&${query}`);
    await expect.poll(() => ids(follower), PATIENCE).toEqual(wanted);
    follower.stop();
  }
  await api.refused('volume-not-found', 'GET', '/v1/events?follow=true&volume=none');
  await api.refused('invalid-request', 'GET', '/v1/events?follow=yes');
});

test('a run that moves is told of, at most once a second, and is not kept', async () => {
  await api.storageNode('alpha');
  await api.volume('web', 'alpha');
  await api.repository('vault', 'alpha');
  const { body } = await api.call('POST', '/v1/backups', {
    volume: 'web',
    repository: 'vault',
    checkpoint: 'c1',
    kind: 'full',
  });
  await api.worker(body.run.id);
  const follower = await follow(`?run=${body.run.id}`);
  const other = await follow(`?run=${randomUUID()}`);
  const told = () =>
    follower.messages.filter(({ event }) => event === 'run.progress').map(({ data }) => JSON.parse(data));
  await expect.poll(() => told().length, PATIENCE).toBe(1);
  const move = (bytes: number) =>
    inDatabase(api.database.url, client =>
      client.query('UPDATE run SET current_bytes = $1, total_bytes = 4096 WHERE id = $2', [
        bytes,
        body.run.id,
      ]),
    );
  const startedAt = performance.now();
  let moved = 0;
  while (told().length < 3) await move(++moved);
  const tookMs = performance.now() - startedAt;
  expect(told().length).toBeLessThanOrEqual(2 + tookMs / 1000);
  expect(told().at(-1)).toMatchObject({ runId: body.run.id, runKind: 'backup', totalBytes: 4096 });
  expect(follower.messages.find(({ event }) => event === 'run.progress')).not.toHaveProperty('id', '0');
  const newest = await api.app.catalog.events.listAfter(0, 1000);
  expect(newest.filter(({ kind }) => kind === 'run.progress')).toEqual([]);
  expect(other.messages).toEqual([]);
  follower.stop();
  other.stop();
});

test('resuming from an event whose successors are gone is refused by name', async () => {
  await queue(api.app.catalog);
  await queue(api.app.catalog);
  const { id } = (await api.app.catalog.events.listAfter(0))[0]!;
  await inDatabase(api.database.url, async client => {
    await client.query(`UPDATE run SET state = 'succeeded'`);
    await client.query(`UPDATE event SET created_at = now() - interval '40 days'`);
  });
  await api.app.catalog.events.prune(new Date(Date.now() - 86_400_000), 100);
  const refusal = await api.refused('events-pruned', 'GET', `/v1/events?follow=true&after=${id}`);
  expect(refusal.status).toBe(410);
  await api.refused('events-pruned', 'GET', `/v1/events?after=${id}`);
  const headers = { accept: 'text/event-stream', 'last-event-id': String(id) };
  expect((await fetch(`${url}/v1/events`, { headers })).status).toBe(410);
  const answer = await fetch(`${url}/v1/events`, { headers: { ...headers, 'last-event-id': 'x' } });
  expect(await answer.json()).toMatchObject({ code: 'invalid-request' });
});

test('going on after an event that is not there yet is refused, and names the newest', async () => {
  await queue(api.app.catalog);
  const newest = await api.app.catalog.events.newestId();
  const refusal = await api.refused('events-ahead', 'GET', `/v1/events?follow=true&after=${newest + 1}`);
  expect(refusal).toMatchObject({
    status: 409,
    detail: expect.stringContaining(`the newest one is ${newest}.`),
  });
  await api.refused('events-ahead', 'GET', `/v1/events?after=${newest + 1}`);
  const from = (id: number) =>
    fetch(`${url}/v1/events`, { headers: { accept: 'text/event-stream', 'last-event-id': String(id) } });
  expect((await from(newest + 1)).status).toBe(409);
  const follower = await follow(`?after=${newest}`);
  await queue(api.app.catalog);
  await expect.poll(() => kept(follower).length, PATIENCE).toBe(1);
  // A catalog that is replaced by an older copy of it.
  await inDatabase(api.database.url, async client => {
    await client.query('DELETE FROM event WHERE id > $1', [newest]);
    await client.query(`SELECT pg_notify('tidemark_events', '')`);
  });
  await follower.ended;
  const last = follower.messages.at(-1)!;
  expect([last.event, JSON.parse(last.data).code]).toEqual(['events-ahead', 'events-ahead']);
});

test('a stopping service ends its streams, and takes no more', async () => {
  const follower = await follow();
  const closed = api.app.close();
  await follower.ended;
  await closed;
});

test('a client that takes nothing is dropped, and others go on', async () => {
  const hub = new EventHub({ catalog: api.app.catalog, databaseUrl: api.database.url, log: api.app.log });
  for (let n = 0; n < 20; n++) await queue(api.app.catalog);
  let destroyed = false;
  let buffered = 0;
  const stuck = {
    write: (text: string) => {
      buffered += text.length;
      return false;
    },
    end: () => {},
    destroy: () => {
      destroyed = true;
    },
    on: () => {},
  };
  hub.follow(new EventStream({ hub, sink: stuck, filter: {}, after: 0, log: api.app.log, slowClientMs: 50 }));
  const follower = await follow('?after=0');
  await expect.poll(() => destroyed, PATIENCE).toBe(true);
  // What was held for it is what it was sent first, and no event.
  expect(buffered).toBeLessThan(100);
  await expect.poll(() => hub.streams, PATIENCE).toBe(0);
  await expect.poll(() => kept(follower).length, PATIENCE).toBe(20);
  follower.stop();
  await hub.close();
});

test('a client that stops reading a real connection does not hold up the end of the service', async () => {
  const big = 'x'.repeat(20_000);
  for (let n = 0; n < 30; n++)
    await api.app.catalog.transaction(tx =>
      tx.runs.create({ id: randomUUID(), kind: 'reconcile', request: {} }),
    );
  await inDatabase(api.database.url, client =>
    client.query(
      `INSERT INTO event (kind, subject_type, subject_id, data)
      SELECT 'run-queued', 'run', gen_random_uuid(), jsonb_build_object('text', $1::text) FROM generate_series(1, 600)`,
      [big],
    ),
  );
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  await once(socket, 'connect');
  socket.pause();
  socket.write('GET /v1/events?after=0 HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n');
  await expect.poll(() => api.app.eventHub.streams, PATIENCE).toBe(1);
  socket.on('error', () => {});
  await api.app.close();
  socket.destroy();
});

test('an end that comes while a page is being read is not held up by writing it', async () => {
  await queue(api.app.catalog);
  const hub = new EventHub({ catalog: api.app.catalog, databaseUrl: api.database.url, log: api.app.log });
  let isFirst = true;
  const sink = {
    // Takes its greeting, and nothing after that.
    write: () => {
      const takes = isFirst;
      isFirst = false;
      // The stream begins to read right after this; it is ended before its page is there.
      setImmediate(() => stream.end());
      return takes;
    },
    end: () => {},
    destroy: () => {},
    on: () => {},
  };
  const options = { hub, sink, filter: {}, after: 0, log: api.app.log, slowClientMs: 2 ** 30 };
  const stream: EventStream = new EventStream(options);
  hub.follow(stream);
  await expect.poll(() => hub.streams, PATIENCE).toBe(0);
  await hub.close();
});

test('a kind that there is not is refused, by filters and by webhooks', async () => {
  const asked = await api.refused('invalid-request', 'GET', '/v1/events?kind=volume-ready,volume-redy');
  expect(asked.detail).toMatch(
    /^'kind' in the query names "volume-redy", which is no kind of event; .*volume-ready,/,
  );
  await api.refused('invalid-request', 'GET', '/v1/events?follow=true&kind=nothing');
  const hook = { name: 'misspelt', url: 'http://127.0.0.1:9/', kinds: ['run-faild'] };
  const made = await api.refused('invalid-request', 'POST', '/v1/webhooks', hook);
  expect(made.detail).toMatch(/^'kinds' in the body names "run-faild", .*run-failed/);
  const progress = await api.app.inject('/v1/events?kind=run.progress,volume-ready&limit=1');
  expect(progress.statusCode).toBe(200);
});

test('the number of streams is bounded', async () => {
  const hub = api.app.eventHub;
  const idle = { write: () => true, end: () => {}, destroy: () => {}, on: () => {} };
  for (let n = 0; n < EVENT_STREAMS_MAX; n++) {
    hub.follow(new EventStream({ hub, sink: idle, filter: { kinds: ['none'] }, after: 0, log: api.app.log }));
  }
  const refusal = await api.refused('event-streams-limit', 'GET', '/v1/events?follow=true');
  expect(refusal.status).toBe(503);
});

test('a silent stream sends heartbeats that carry how far it has looked', async () => {
  const hub = new EventHub({ catalog: api.app.catalog, databaseUrl: api.database.url, log: api.app.log });
  const texts: string[] = [];
  const sink = {
    write: (text: string) => texts.push(text) > 0,
    end: () => {},
    destroy: () => {},
    on: () => {},
  };
  const filter = { kinds: ['none'] };
  hub.follow(new EventStream({ hub, sink, filter, after: 0, log: api.app.log, heartbeatMs: 20 }));
  await queue(api.app.catalog);
  const newest = await api.app.catalog.events.newestId();
  await expect.poll(() => texts.at(-1), PATIENCE).toBe(`: heartbeat\nid: ${newest}\n\n`);
  await hub.close();
});
