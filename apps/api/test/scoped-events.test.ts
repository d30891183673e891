// Goal: a token with a scope is told of the volumes in it, what belongs to them and what it has asked for, and of
// nothing else: in pages, in streams, in the progress of runs, and by the webhooks that it has added. Method: one fleet
// with volumes in and out of the scope, and a listening service; what is told is compared with what happened.
import { randomUUID } from 'node:crypto';
import { inDatabase } from '@tidemark/catalog/testing';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { EventJson } from '../src/schemas/event.ts';
import { TestApi } from './support/test-api.ts';

const BOOTSTRAP = 'bootstrap-secret-of-scoped-events-0123456789';
const PATIENCE = { timeout: 60_000 };
let open: TestApi;
let api: TestApi;
let url: string;
let mine: { id: string };
let other: { id: string };
let headers: Record<string, string>;

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

async function token(wanted: object) {
  const body = { name: `t-${randomUUID()}`, role: 'admin', ...wanted };
  const answer = await api.call('POST', '/v1/tokens', body, bearer(BOOTSTRAP));
  expect(answer.status, JSON.stringify(answer.body)).toBe(201);
  return { ...answer.body.token, headers: bearer(answer.body.secret) };
}

beforeAll(async () => {
  open = await TestApi.start();
  api = await TestApi.on(open.database, { needsToken: true, bootstrapToken: BOOTSTRAP });
  url = await api.app.listen({ host: '127.0.0.1', port: 0 });
  await open.storageNode('alpha');
  await open.repository('vault', 'alpha');
  mine = await open.volume('mine', 'alpha');
  other = await open.volume('other', 'alpha');
  await open.call('PATCH', '/v1/volumes/mine', { labels: { env: 'prod' } });
  await open.call('PATCH', '/v1/volumes/other', { labels: { env: 'test' } });
  headers = (await token({ scope: 'env=prod' })).headers;
});

afterAll(async () => {
  await api.app.close();
  await open.close();
});

const backup = (volume: string, checkpoint = `c-${randomUUID().slice(0, 8)}`) =>
  open.backup({ volume, repository: 'vault', checkpoint, kind: 'full' });

const page = async (query = '', as = headers): Promise<EventJson[]> =>
  (await api.call('GET', `/v1/events?limit=500${query}`, undefined, as)).body.items;

async function follow(query = '', as = headers) {
  const stopped = new AbortController();
  const answer = await fetch(`${url}/v1/events${query}`, {
    headers: { accept: 'text/event-stream', ...as },
    signal: stopped.signal,
  });
  expect(answer.status).toBe(200);
  const messages: EventSourceMessage[] = [];
  const comments: string[] = [];
  const parser = createParser({ onEvent: one => messages.push(one), onComment: one => comments.push(one) });
  const read = async () => {
    for await (const text of answer.body!.pipeThrough(new TextDecoderStream())) parser.feed(text);
  };
  const ended = read().catch(() => {});
  await expect.poll(() => comments.length, PATIENCE).toBeGreaterThan(0);
  const stop = async () => {
    stopped.abort();
    await ended;
  };
  return { messages, ended, stop };
}

test('pages and streams hold what is about volumes of the scope, and all of that', async () => {
  await backup('mine');
  await backup('other');
  const all = await page('', bearer(BOOTSTRAP));
  const about = (id: string) => all.filter(event => event.volumeId === id).map(event => event.id);
  const types = new Set(all.filter(event => event.volumeId === mine.id).map(event => event.subjectType));
  expect([...types].sort()).toEqual(['backup', 'checkpoint', 'run', 'volume']);
  expect(about(other.id).length).toBeGreaterThan(5);
  const seen = await page();
  expect(seen.map(event => event.id)).toEqual(about(mine.id));
  expect(await page(`&volume=${other.id}`)).toEqual([]);
  expect(await page(`&subject=${other.id}`)).toEqual([]);
  const unknown = await api.call('GET', '/v1/events?volume=other', undefined, headers);
  expect(unknown.body.code).toBe('volume-not-found');

  const follower = await follow('?after=0');
  const told = () => follower.messages.filter(({ event }) => event !== 'run.progress');
  await expect.poll(() => told().length, PATIENCE).toBe(seen.length);
  await backup('other');
  await backup('mine');
  const wanted = (await page()).map(event => event.id);
  await expect.poll(() => told().map(({ id }) => Number(id)), PATIENCE).toEqual(wanted);
  await follower.stop();
});

test('a volume that leaves the scope takes its events with it', async () => {
  const { id } = await open.volume('moving', 'alpha');
  await open.call('PATCH', '/v1/volumes/moving', { labels: { env: 'prod' } });
  expect((await page(`&volume=${id}`)).length).toBeGreaterThan(0);
  await open.call('PATCH', '/v1/volumes/moving', { labels: { env: 'test' } });
  expect(await page(`&volume=${id}`)).toEqual([]);
});

test('the end of a volume is told to those who saw it, with its run', async () => {
  const end = async (name: string, env: string) => {
    const { id } = await open.volume(name, 'alpha');
    await open.call('PATCH', `/v1/volumes/${name}`, { labels: { env } });
    const { body } = await open.call('DELETE', `/v1/volumes/${name}`);
    await open.app.catalog.volumes.delete(id, body.run.id);
    await (await open.worker(body.run.id)).succeed();
    return { id, runId: body.run.id as string };
  };
  const gone = await end('ending', 'prod');
  const foreign = await end('ending-elsewhere', 'test');
  const told = await page(`&volume=${gone.id}`);
  expect(told.map(event => event.id)).toEqual(
    (await page(`&volume=${gone.id}`, bearer(BOOTSTRAP))).map(event => event.id),
  );
  expect(told.map(({ kind }) => kind)).toEqual(expect.arrayContaining(['volume-deleted', 'run-succeeded']));
  expect((await api.call('GET', `/v1/runs/${gone.runId}`, undefined, headers)).status).toBe(200);
  expect(await page(`&volume=${foreign.id}`)).toEqual([]);
  expect((await api.call('GET', `/v1/runs/${foreign.runId}`, undefined, headers)).status).toBe(404);
});

test('groups and their runs are told of where all of their members are in the scope', async () => {
  const runs = new Map<string, string>();
  const make = async (name: string, volumes: { id: string }[]) => {
    const id = randomUUID();
    const request = { groupId: id };
    const run = await open.app.catalog.runs.create({ id: randomUUID(), kind: 'create-group', request });
    runs.set(id, run.id);
    await inDatabase(open.database.url, async client => {
      await client.query(
        `INSERT INTO checkpoint_group (id, name, kind, completion, state, fence_limit_ms, run_id)
        VALUES ($1, $2, 'checkpoint', 'grouped', 'ready', 500, gen_random_uuid())`,
        [id, name],
      );
      for (const volume of volumes) {
        await client.query(
          `INSERT INTO checkpoint_group_member (group_id, volume_id, volume_name, storage_node_id, checkpoint_id, state)
          SELECT $1, id, name, storage_node_id, gen_random_uuid(), 'ready' FROM volume WHERE id = $2`,
          [id, volume.id],
        );
      }
      await client.query(
        `INSERT INTO event (kind, subject_type, subject_id, volume_id, data)
        VALUES ('group-ready', 'group', $1, $2, '{}')`,
        [id, volumes[0]?.id ?? null],
      );
    });
    return id;
  };
  const whole = await make('whole', [mine]);
  const mixed = await make('mixed', [mine, other]);
  const empty = await make('empty', []);
  expect(await page(`&subject=${whole}`)).toHaveLength(1);
  expect(await page(`&subject=${mixed}`)).toEqual([]);
  expect(await page(`&subject=${empty}`)).toEqual([]);

  const of = (group: string) => `/v1/runs/${runs.get(group)}`;
  expect(await page(`&subject=${runs.get(whole)}`)).toHaveLength(1);
  expect((await api.call('GET', of(whole), undefined, headers)).status).toBe(200);
  for (const hidden of [mixed, empty]) {
    expect(await page(`&subject=${runs.get(hidden)}`)).toEqual([]);
    expect((await api.call('GET', of(hidden), undefined, headers)).body.code).toBe('run-not-found');
  }
  const listed = async (query: string, as = headers): Promise<string[]> => {
    const { body } = await api.call('GET', `/v1/runs?limit=500${query}`, undefined, as);
    return body.items.map((run: { id: string }) => run.id);
  };
  for (const [id, status] of [
    [whole, 200],
    [mixed, 404],
    [empty, 404],
  ] as const) {
    expect((await api.call('GET', `/v1/groups/${id}`, undefined, headers)).status, id).toBe(status);
  }
  const groups = (await api.call('GET', '/v1/groups', undefined, headers)).body.items;
  expect(groups.map((group: { id: string }) => group.id)).toEqual([whole]);
  expect((await api.call('DELETE', `/v1/groups/${whole}`, undefined, headers)).status).toBe(403);
  expect(await listed('&kind=create-group')).toEqual([runs.get(whole)]);
  expect(await listed('&kind=create-group&state=running')).toEqual([]);
  const all = await Promise.all(
    (await listed('', bearer(BOOTSTRAP))).map(async id => {
      const { status } = await api.call('GET', `/v1/runs/${id}`, undefined, headers);
      return { id, isSeen: status === 200 };
    }),
  );
  const seen = all.filter(({ isSeen }) => isSeen).map(({ id }) => id);
  expect(await listed('')).toEqual(seen);
});

test('the deletion of a group is told to those who saw it, with its run', async () => {
  const end = async (name: string, volumes: { id: string }[]) => {
    const id = randomUUID();
    const { catalog } = open.app;
    await inDatabase(open.database.url, async client => {
      await client.query(
        `INSERT INTO checkpoint_group (id, name, kind, completion, state, fence_limit_ms, run_id)
        VALUES ($1, $2, 'checkpoint', 'grouped', 'ready', 500, gen_random_uuid())`,
        [id, name],
      );
      await client.query(
        `INSERT INTO checkpoint_group_member (group_id, volume_id, volume_name, storage_node_id, checkpoint_id, state)
        SELECT $1, id, name, storage_node_id, gen_random_uuid(), 'ready' FROM volume WHERE id = ANY($2)`,
        [id, volumes.map(volume => volume.id)],
      );
    });
    const { id: runId } = await catalog.transaction(async tx => {
      const run = { id: randomUUID(), kind: 'delete-group', request: { groupId: id } } as const;
      await tx.groups.markDeleting(id, run.id);
      return tx.runs.create(run);
    });
    await catalog.groups.delete(id, runId);
    return { id, runId };
  };
  const passing = await open.volume('passing', 'alpha');
  await open.call('PATCH', '/v1/volumes/passing', { labels: { env: 'prod' } });
  const gone = await end('gone', [mine, passing]);
  const kindsOf = async (subject: string) => (await page(`&subject=${subject}`)).map(({ kind }) => kind);
  const isTold = async () => {
    expect(await kindsOf(gone.id)).toEqual(['group-deleting', 'group-deleted']);
    expect(await kindsOf(gone.runId)).toEqual(['run-queued']);
    expect((await api.call('GET', `/v1/runs/${gone.runId}`, undefined, headers)).status).toBe(200);
  };
  await isTold();
  const foreign = [await end('gone-mixed', [mine, other]), await end('gone-empty', [])];
  for (const { id, runId } of foreign) {
    expect([await kindsOf(id), await kindsOf(runId)]).toEqual([[], []]);
    expect((await api.call('GET', `/v1/runs/${runId}`, undefined, headers)).status).toBe(404);
  }
  // A member that ends later ends as it was seen; one that leaves the scope takes the group's events with it.
  const { body } = await open.call('DELETE', '/v1/volumes/passing');
  await open.app.catalog.volumes.delete(passing.id, body.run.id);
  await isTold();
  await open.call('PATCH', '/v1/volumes/mine', { labels: { env: 'test' } });
  expect(await kindsOf(gone.id)).toEqual([]);
  await open.call('PATCH', '/v1/volumes/mine', { labels: { env: 'prod' } });
});

test('progress is told of runs that the token sees', async () => {
  const start = async (volume: string) => {
    const wanted = { volume, repository: 'vault', checkpoint: `p-${randomUUID().slice(0, 8)}`, kind: 'full' };
    const { body } = await open.call('POST', '/v1/backups', wanted);
    return { id: body.run.id as string, worker: await open.worker(body.run.id) };
  };
  const runs = [await start('other'), await start('mine')];
  // The first to follow sees all: what is looked up for it must not be what another is told.
  const every = await follow('?kind=run.progress', bearer(BOOTSTRAP));
  const narrow = await follow('?kind=run.progress');
  const told = (follower: { messages: EventSourceMessage[] }) =>
    new Set(follower.messages.map(({ data }) => JSON.parse(data).runId));
  await expect.poll(() => told(every), PATIENCE).toEqual(new Set(runs.map(({ id }) => id)));
  await expect.poll(() => told(narrow), PATIENCE).toEqual(new Set([runs[1]!.id]));
  await inDatabase(open.database.url, client => client.query('UPDATE run SET current_bytes = 77'));
  const moved = (follower: { messages: EventSourceMessage[] }) =>
    follower.messages.filter(({ data }) => JSON.parse(data).currentBytes === 77).length;
  await expect.poll(() => moved(every), PATIENCE).toBe(2);
  await expect.poll(() => moved(narrow), PATIENCE).toBe(1);
  expect(told(narrow)).toEqual(new Set([runs[1]!.id]));
  await every.stop();
  await narrow.stop();
  for (const { worker } of runs) await worker.cancel();
});

test('a webhook is sent what whoever added it sees, and is theirs alone', async () => {
  const { headers: rival } = await token({ scope: 'env=prod' });
  const hook = { name: 'scoped', url: 'http://127.0.0.1:9/hook' };
  const made = await api.call('POST', '/v1/webhooks', hook, headers);
  expect(made.status).toBe(201);
  expect(made.body.webhook).toMatchObject({ scope: 'env=prod', createdBy: expect.stringMatching(/^t-/) });
  const all = await api.call('POST', '/v1/webhooks', { ...hook, name: 'all' }, bearer(BOOTSTRAP));
  const place = `/v1/webhooks/${made.body.webhook.id}`;
  for (const [method, path] of [
    ['GET', ''],
    ['GET', '/deliveries'],
    ['POST', '/ping'],
    ['POST', '/secret'],
    ['DELETE', ''],
  ] as const) {
    const refused = await api.call(method, `${place}${path}`, undefined, rival);
    expect([refused.status, refused.body.code], path).toEqual([404, 'webhook-not-found']);
  }
  const { body } = await api.call('GET', '/v1/webhooks', undefined, headers);
  expect(body.items.map((one: { name: string }) => one.name)).toEqual(['scoped']);

  const after = await api.app.catalog.events.newestId();
  await backup('other');
  await backup('mine');
  const { webhookDeliveries } = api.app.catalog;
  const rules = { owner: 'test', leaseMs: 60_000, attemptsMax: 3, deathsMax: 3, delayMaxMs: 1_000 };
  await webhookDeliveries.claimDue(rules, 10);
  const sent = async (id: string) => {
    for (;;) {
      const looked = await webhookDeliveries.fanOut(id, { owner: 'test', limit: 5, pendingMax: 1_000 });
      if (looked === 0) break;
    }
    const { items } = await api.app.catalog.webhooks.listDeliveries(id, { limit: 500 });
    return items.map(({ eventId }) => eventId!).sort((a, b) => a - b);
  };
  const ids = (events: EventJson[]) => events.map(event => event.id);
  const told = (await page(`&after=${after}`, bearer(BOOTSTRAP))).filter(
    ({ subjectType }) => subjectType !== 'webhook',
  );
  expect((await sent(all.body.webhook.id)).slice(-told.length)).toEqual(ids(told));
  expect(await sent(made.body.webhook.id)).toEqual(ids(await page(`&after=${after}`)));
});

test('a name that the system goes by is no name of a token', async () => {
  for (const name of ['system', 'local']) {
    const body = { name, role: 'viewer', scope: 'env=prod' };
    const refused = await api.call('POST', '/v1/tokens', body, bearer(BOOTSTRAP));
    expect([refused.status, refused.body.code], name).toEqual([400, 'invalid-request']);
  }
});

test('a stream ends when its token does', async () => {
  const short = await token({ scope: 'env=prod' });
  const follower = await follow('', short.headers);
  await api.call('DELETE', `/v1/tokens/${short.id}`, undefined, bearer(BOOTSTRAP));
  await backup('mine');
  await follower.ended;
  const last = follower.messages.at(-1);
  expect(last?.event).toBe('unauthenticated');
  expect(JSON.parse(last!.data)).toMatchObject({ code: 'unauthenticated' });
});
