// Goal: a caller that waits is answered at the run's point in time, at its end, or with its failure, and
// never hangs. Method: the run's row is driven by hand while the request is open.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { CatalogError } from '@tidemark/catalog';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WAIT_LOOK_MS, WAIT_TIMEOUT_MAX_MS, WAITS_MAX } from '../src/limits.ts';
import { TestApi } from './support/test-api.ts';

let api: TestApi;

beforeAll(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
  await api.storageNode('beta');
  await api.repository('nightly', 'beta');
  await api.volume('web', 'alpha');
});

afterAll(() => api.close());

/** The queued run that a still open call has started. */
async function startedRun(
  kind: string,
  on: TestApi = api,
): Promise<{ id: string; volumeId: string; backupId: string }> {
  for (let tries = 0; tries < 200; tries += 1) {
    const { items } = (await on.call('GET', `/v1/runs?state=queued&kind=${kind}`)).body;
    if (items[0]) return items[0];
    await sleep(10);
  }
  throw new Error(`no ${kind} run was started`);
}

async function isOpen(call: Promise<unknown>, forMs: number): Promise<boolean> {
  return Promise.race([call.then(() => false), sleep(forMs, true)]);
}

function createVolume(name: string, query: string) {
  return api.call('POST', `/v1/volumes?${query}`, { name, storageNode: 'alpha', sizeBytes: 4096 });
}

test('done answers 201 with the noun as it is then, and where it is', async () => {
  const call = createVolume('made', 'wait=done');
  const { id, volumeId } = await startedRun('create-volume');
  const worker = await api.worker(id);
  expect(await isOpen(call, 100)).toBe(true);
  await api.app.catalog.volumes.markReady(volumeId, { exportUri: 'nbd://h:1/made', sizeBytes: 4096 }, id);
  await worker.succeed();
  const { status, headers, body } = await call;
  expect(status).toBe(201);
  expect(headers.location).toBe(`/v1/volumes/${volumeId}`);
  expect(body).toMatchObject({
    volume: { state: 'ready', exportUri: 'nbd://h:1/made' },
    run: { state: 'succeeded' },
  });
});

test('done says where a checkpoint is', async () => {
  const call = api.call('POST', '/v1/volumes/web/checkpoints?wait=done', { name: 'noon' });
  const { id } = await startedRun('create-checkpoint');
  const worker = await api.worker(id);
  await worker.reachCheckpoint();
  await worker.succeed();
  const { status, headers, body } = await call;
  expect(status).toBe(201);
  expect((await api.call('GET', String(headers.location))).body).toEqual(body.checkpoint);
});

test('done answers 200 after a deletion, and the noun is gone', async () => {
  await api.volume('old', 'alpha');
  const call = api.call('DELETE', '/v1/volumes/old?wait=done');
  const { id, volumeId } = await startedRun('delete-volume');
  const worker = await api.worker(id);
  await api.app.catalog.volumes.delete(volumeId, id);
  await worker.succeed();
  expect(await call).toMatchObject({ status: 200, body: { volume: null, run: { state: 'succeeded' } } });
});

test('checkpoint answers 202 as soon as the point in time is taken, while the copy goes on', async () => {
  const request = { volume: 'web', repository: 'nightly', kind: 'full', checkpoint: 'monday' };
  const call = api.call('POST', '/v1/backups?wait=checkpoint', request);
  const { id, backupId } = await startedRun('backup');
  const worker = await api.worker(id);
  expect(await isOpen(call, 100)).toBe(true);
  await worker.reachCheckpoint();
  const { status, headers, body } = await call;
  expect(status).toBe(202);
  expect(headers.location).toBe(`/v1/runs/${id}`);
  expect(body.run).toMatchObject({ state: 'running', checkpointAt: '2026-11-21T08:00:00.000Z' });
  expect(body.backup).toMatchObject({ id: backupId, state: 'creating', checkpoint: 'monday' });
  await api.finishBackup(backupId, id);
  await worker.succeed();
});

test('checkpoint is the same as done for a run without a point in time', async () => {
  const call = createVolume('plain', 'wait=checkpoint');
  const worker = await api.worker((await startedRun('create-volume')).id);
  await worker.succeed();
  expect((await call).status).toBe(201);
});

test.each([
  ['storage-full', 507],
  ['storage-node-unreachable', 503],
  ['io-error', 502],
])('a run that fails with %s is answered by that problem and its status', async (code, status) => {
  const call = createVolume(`fails-${status}`, 'wait=done');
  const { id, volumeId } = await startedRun('create-volume');
  const worker = await api.worker(id);
  await api.app.catalog.volumes.delete(volumeId, id);
  await worker.fail({ code, message: "Storage node 'alpha' said so. Do this next." });
  const answer = await call;
  expect(answer).toMatchObject({ status, body: { code, status, runId: id } });
  expect(answer.body.detail).toBe("Storage node 'alpha' said so. Do this next.");
  await api.refused('volume-not-found', 'GET', `/v1/volumes/fails-${status}`);
});

test.each(['internal-error', 'no-such-code'])('a failure with %s tells nothing of the inside', async code => {
  const call = createVolume(`inside-${code}`, 'wait=done');
  const { id } = await startedRun('create-volume');
  await (await api.worker(id)).fail({ code, message: 'secret at /var/lib/x' });
  const answer = await call;
  expect(answer).toMatchObject({ status: 500, body: { code: 'internal-error', runId: id } });
  expect(JSON.stringify(answer.body)).not.toContain('secret');
});

test('a run that was cancelled is answered as such', async () => {
  const call = createVolume('cancelled', 'wait=done');
  const { id } = await startedRun('create-volume');
  const worker = await api.worker(id);
  expect((await api.call('POST', `/v1/runs/${id}/cancel`)).status).toBe(202);
  await worker.cancel();
  expect(await call).toMatchObject({ status: 409, body: { code: 'run-cancelled', runId: id } });
});

test('a run that is being undone is not taken for one at its point in time', async () => {
  const request = { volume: 'web', repository: 'nightly', kind: 'full', checkpoint: 'doomed' };
  const call = api.call('POST', '/v1/backups?wait=checkpoint', request);
  const { id } = await startedRun('backup');
  const worker = await api.worker(id);
  await worker.fail({ code: 'repository-full', message: "Repository 'nightly' has no room left. Add some." });
  expect(await call).toMatchObject({ status: 507, body: { code: 'repository-full', runId: id } });
});

test('time over is a problem that names the run, and the run goes on', async () => {
  const { status, body } = await createVolume('slow', 'wait=done&waitTimeoutMs=60');
  expect({ status, code: body.code }).toEqual({ status: 504, code: 'wait-timed-out' });
  expect(body.detail).toContain(`GET /v1/runs/${body.runId}`);
  expect((await api.call('GET', `/v1/runs/${body.runId}`)).body.state).toBe('queued');
  await (await api.worker(body.runId)).cancel();
});

test('a catalog that goes away during the wait leaves the caller the run', async () => {
  const { runs } = api.app.catalog;
  const get = runs.get.bind(runs);
  runs.get = async () => {
    throw new CatalogError('catalog', 'unavailable', 'The catalog database does not answer.');
  };
  const { status, body } = await createVolume('unseen', 'wait=done').finally(() => {
    runs.get = get;
  });
  expect({ status, code: body.code }).toEqual({ status: 503, code: 'catalog-unavailable' });
  expect(body.detail).toContain(`GET /v1/runs/${body.runId}`);
  await (await api.worker(body.runId)).cancel();
});

test('the catalog is asked once for all who wait, and each is answered when its own run ends', async () => {
  const { runs } = api.app.catalog;
  const places = runs.places.bind(runs);
  const get = runs.get.bind(runs);
  const asked: number[] = [];
  let gets = 0;
  runs.places = async ids => {
    asked.push(ids.length);
    return places(ids);
  };
  runs.get = async id => {
    gets += 1;
    return get(id);
  };
  const names = Array.from({ length: 20 }, (_, n) => `crowd-${n}`);
  const calls = names.map(name => createVolume(name, 'wait=done'));
  const queued = async () =>
    (await api.call('GET', '/v1/runs?state=queued&kind=create-volume&limit=500')).body.items;
  await expect.poll(async () => (await queued()).length, { timeout: 60_000 }).toBe(20);
  await expect.poll(() => asked.at(-1), { timeout: 60_000 }).toBe(20);
  const before = gets;
  await sleep(3 * WAIT_LOOK_MS);
  // Nothing has happened: nobody looks at a run, and there is one look a second for all.
  expect(gets).toBe(before);
  for (const { id, volumeId } of await queued()) {
    const worker = await api.worker(id);
    await api.app.catalog.volumes.delete(volumeId, id);
    await worker.succeed();
  }
  for (const call of calls) expect((await call).body.run).toMatchObject({ state: 'succeeded' });
  expect(gets - before).toBeLessThanOrEqual(3 * names.length);
  Object.assign(runs, { places, get });
});

test('the number of callers that wait is bounded, and who finds no room has begun nothing', async () => {
  const own = await TestApi.start();
  await own.storageNode('alpha');
  const run = await own.app.catalog.runs.create({ id: randomUUID(), kind: 'reconcile', request: {} });
  const gone = new AbortController();
  const started = await own.app.runs.get(run.id);
  const query = { wait: 'done', waitTimeoutMs: WAIT_TIMEOUT_MAX_MS } as const;
  const waits = Array.from({ length: WAITS_MAX }, () => own.app.runs.waitFor(started, query, gone.signal));
  const body = { name: 'v', storageNode: 'alpha', sizeBytes: 512 };
  const refusal = await own.refused('waits-limit', 'POST', '/v1/volumes?wait=done', body);
  expect([refusal.status, refusal.detail]).toEqual([503, expect.stringContaining(String(WAITS_MAX))]);
  await expect(own.app.runs.waitFor(started, query, gone.signal)).rejects.toMatchObject({
    code: 'waits-limit',
    message: expect.stringContaining(`GET /v1/runs/${run.id}`),
  });
  expect((await own.call('POST', '/v1/volumes', body)).status).toBe(202);
  gone.abort();
  await Promise.all(waits);
  const call = await own.call('POST', '/v1/volumes?wait=done&waitTimeoutMs=1', { ...body, name: 'w' });
  expect(call.body.code).toBe('wait-timed-out');
  await own.close();
});

test.each(['wait=later', 'waitTimeoutMs=0', 'waitTimeoutMs=600001', 'waitTimeoutMs=soon', 'await=done'])(
  'query %s is refused',
  async query => {
    await api.refused('invalid-request', 'POST', `/v1/volumes?${query}`, {
      name: 'q',
      storageNode: 'alpha',
      sizeBytes: 512,
    });
  },
);

test('a caller that goes away ends its wait, and not the run', async () => {
  const url = await api.app.listen({ host: '127.0.0.1', port: 0 });
  const gone = new AbortController();
  const call = fetch(`${url}/v1/volumes?wait=done`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'left', storageNode: 'alpha', sizeBytes: 512 }),
    signal: gone.signal,
  });
  const { id } = await startedRun('create-volume');
  const reads: string[] = [];
  const { runs } = api.app.catalog;
  const get = runs.get.bind(runs);
  runs.get = async runId => {
    reads.push(runId);
    return get(runId);
  };
  gone.abort();
  await expect(call).rejects.toThrow();
  const silentFor = async (forMs: number) => {
    const before = reads.length;
    await sleep(forMs);
    return reads.length === before;
  };
  await expect.poll(() => silentFor(2 * WAIT_LOOK_MS), { timeout: 10_000 }).toBe(true);
  runs.get = get;
  expect((await api.call('GET', `/v1/runs/${id}`)).body.state).toBe('queued');
  await (await api.worker(id)).cancel();
});

test('stopping the service ends its waits at once', async () => {
  const own = await TestApi.start();
  await own.storageNode('alpha');
  const url = await own.app.listen({ host: '127.0.0.1', port: 0 });
  const call = fetch(`${url}/v1/volumes?wait=done&waitTimeoutMs=${WAIT_TIMEOUT_MAX_MS}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'v', storageNode: 'alpha', sizeBytes: 512 }),
  });
  await startedRun('create-volume', own);
  const began = performance.now();
  const closed = own.close();
  const answer = await call;
  expect(answer.status).toBe(504);
  expect(answer.headers.get('connection')).toBe('close');
  expect(await answer.json()).toMatchObject({
    code: 'wait-timed-out',
    detail: expect.stringContaining('stopping'),
  });
  await closed;
  // Kept connections are given up after 72 s; the service must not wait for that.
  expect(performance.now() - began).toBeLessThan(20_000);
});
