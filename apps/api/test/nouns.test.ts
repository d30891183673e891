// Goal: storage nodes, repositories, checkpoints, runs and events behave as the contract says, and refuse
// by code without a trace.
import { randomBytes } from 'node:crypto';
import { parseRunRequest } from '@tidemark/proto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

const UNKNOWN_ID = '7a0d0f9e-6f3e-4f0a-9a55-0a6f4f1d2c3b';
let api: TestApi;

beforeAll(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
  await api.volume('web', 'alpha');
  await api.repository('nightly', 'alpha');
});

afterAll(() => api.close());

test('a storage node joins by a run', async () => {
  const { status, body } = await api.call('POST', '/v1/storage-nodes', {
    name: 'beta',
    controlAddress: '[::1]:7411',
  });
  expect(status).toBe(202);
  expect(body.storageNode).toMatchObject({
    name: 'beta',
    state: 'joining',
    nbdAddress: null,
    lastSeenAt: null,
  });
  expect(body.run.kind).toBe('register-storage-node');
  expect(parseRunRequest('register-storage-node', body.run.request).storageNodeId).toBe(body.storageNode.id);
});

test('storage nodes are listed and looked at', async () => {
  const { items } = (await api.call('GET', '/v1/storage-nodes')).body;
  expect(items[0]).toMatchObject({ name: 'alpha', state: 'online', nbdAddress: 'alpha.example:10809' });
  expect((await api.call('GET', `/v1/storage-nodes/${items[0].id}`)).body).toEqual(items[0]);
  expect((await api.call('GET', '/v1/storage-nodes/alpha')).body).toEqual(items[0]);
  await api.refused('storage-node-not-found', 'GET', '/v1/storage-nodes/nope');
});

test.each([
  [{ name: 'alpha', controlAddress: 'x:1' }, 'storage-node-name-taken'],
  [{ name: 'delta', controlAddress: 'alpha.example:7411' }, 'storage-node-address-taken'],
  [{ name: '', controlAddress: 'x:1' }, 'invalid-name'],
  [{ name: 'delta', controlAddress: 'nowhere' }, 'invalid-request'],
  [{ name: 'delta', controlAddress: 'x:99999' }, 'invalid-request'],
  [{ name: 'delta', controlAddress: 'x:0' }, 'invalid-request'],
  [{ name: 'delta' }, 'invalid-request'],
])('storage node %j is refused as %s', async (body, code) => {
  await api.refused(code, 'POST', '/v1/storage-nodes', body);
});

test('an address of any length is looked up or refused', async () => {
  const controlAddress = `${randomBytes(3000).toString('hex')}:1`;
  const problem = await api.refused('invalid-request', 'POST', '/v1/storage-nodes', {
    name: 'delta',
    controlAddress,
  });
  expect(problem.detail).toContain('at most 259 characters');
});

test('a storage node that a run works on stays until the run has ended', async () => {
  await api.storageNode('source');
  await api.volume('kept', 'source');
  const backup = await api.backup({
    volume: 'kept',
    repository: 'nightly',
    kind: 'full',
    checkpoint: 'for-restore',
  });
  await api.storageNode('target');
  const target = { file: { storageNode: 'target', name: 'web.raw' } };
  const { body } = await api.call('POST', '/v1/restores', { backup: backup.id, target });
  const problem = await api.refused('storage-node-in-use', 'DELETE', '/v1/storage-nodes/target');
  expect(problem.detail).toContain(`restore run ${body.run.id}`);
  await (await api.worker(body.run.id)).succeed();
  expect((await api.call('DELETE', '/v1/storage-nodes/target')).status).toBe(202);
});

test('a storage node that owns something stays; an empty one is removed by a run', async () => {
  const problem = await api.refused('storage-node-in-use', 'DELETE', '/v1/storage-nodes/alpha');
  expect(problem.detail).toContain('owns 1 volumes and 1 repositories');
  await api.refused('storage-node-not-found', 'DELETE', '/v1/storage-nodes/nope');
  const { id } = await api.storageNode('spare');
  const { status, body } = await api.call('DELETE', '/v1/storage-nodes/spare');
  expect(status).toBe(202);
  expect(parseRunRequest('remove-storage-node', body.run.request).storageNodeId).toBe(id);
});

test('a repository is asked for, listed and looked at', async () => {
  const request = { name: 'small', storageNode: 'alpha', limitBytes: 5000 };
  const { status, body } = await api.call('POST', '/v1/repositories', request);
  expect(status).toBe(202);
  expect(body.repository).toMatchObject({
    name: 'small',
    storageNode: 'alpha',
    limitBytes: 5000,
    state: 'creating',
  });
  expect(parseRunRequest('create-repository', body.run.request).limitBytes).toBe(5000);
  const { items } = (await api.call('GET', '/v1/repositories')).body;
  expect(items.map((item: { name: string }) => item.name)).toEqual(['nightly', 'small']);
  expect((await api.call('GET', '/v1/repositories/nightly')).body).toEqual(items[0]);
  await api.refused('repository-not-found', 'GET', '/v1/repositories/nope');
});

test.each([
  [{ name: 'nightly', storageNode: 'alpha' }, 'repository-name-taken'],
  [{ name: 'new', storageNode: 'nope' }, 'storage-node-not-found'],
  [{ name: 'new!', storageNode: 'alpha' }, 'invalid-name'],
  [{ name: 'new', storageNode: 'alpha', limitBytes: 0 }, 'invalid-request'],
  [{ name: 'new' }, 'invalid-request'],
])('repository %j is refused as %s', async (body, code) => {
  await api.refused(code, 'POST', '/v1/repositories', body);
});

test('a checkpoint is taken, listed and deleted by runs', async () => {
  const { status, body } = await api.call('POST', '/v1/volumes/web/checkpoints', { name: 'noon' });
  expect(status).toBe(202);
  expect(body.checkpoint).toMatchObject({ name: 'noon', state: 'creating', pointInTime: null, backups: [] });
  parseRunRequest('create-checkpoint', body.run.request);
  await api.refused('checkpoint-not-ready', 'DELETE', '/v1/volumes/web/checkpoints/noon');
  const worker = await api.worker(body.run.id);
  await worker.reachCheckpoint();
  await worker.succeed();
  const { items } = (await api.call('GET', '/v1/volumes/web/checkpoints')).body;
  expect(items).toMatchObject([{ name: 'noon', state: 'ready', pointInTime: '2026-11-21T08:00:00.000Z' }]);
  expect((await api.call('GET', `/v1/volumes/web/checkpoints/${items[0].id}`)).body).toEqual(items[0]);
  expect((await api.call('GET', '/v1/volumes/web/checkpoints/noon')).body).toEqual(items[0]);
  await api.refused('checkpoint-not-found', 'GET', '/v1/volumes/web/checkpoints/midnight');
  const deleted = await api.call('DELETE', '/v1/volumes/web/checkpoints/noon');
  expect(deleted).toMatchObject({ status: 202, body: { checkpoint: { state: 'deleting' } } });
  parseRunRequest('delete-checkpoint', deleted.body.run.request);
});

test('a checkpoint that a running backup builds on stays', async () => {
  const request = { volume: 'web', repository: 'nightly' };
  await api.backup({ ...request, kind: 'full', checkpoint: 'base' });
  await api.call('POST', '/v1/backups', {
    ...request,
    kind: 'incremental',
    checkpoint: 'next',
    base: 'base',
  });
  const problem = await api.refused('checkpoint-in-use', 'DELETE', '/v1/volumes/web/checkpoints/base');
  expect(problem.detail).toContain("'base'");
});

test('bad checkpoint requests are refused', async () => {
  await api.refused('checkpoint-name-taken', 'POST', '/v1/volumes/web/checkpoints', { name: 'base' });
  await api.refused('invalid-name', 'POST', '/v1/volumes/web/checkpoints', { name: 'a b' });
  await api.refused('invalid-request', 'POST', '/v1/volumes/web/checkpoints', {});
  await api.refused('volume-not-found', 'POST', '/v1/volumes/nope/checkpoints', { name: 'a' });
  await api.refused('volume-not-found', 'GET', '/v1/volumes/nope/checkpoints');
  await api.refused('volume-not-found', 'DELETE', '/v1/volumes/nope/checkpoints/a');
  await api.refused('checkpoint-not-found', 'DELETE', '/v1/volumes/web/checkpoints/nope');
});

test('a run is looked at with its steps, and filtered by state and kind', async () => {
  const { body } = await api.call('POST', '/v1/volumes', {
    name: 'steps',
    storageNode: 'alpha',
    sizeBytes: 512,
  });
  const worker = await api.worker(body.run.id);
  await worker.step('create');
  const { body: run } = await api.call('GET', `/v1/runs/${body.run.id}`);
  expect(run).toMatchObject({
    state: 'running',
    steps: [{ name: 'create', state: 'succeeded', error: null }],
  });
  const { items } = (await api.call('GET', '/v1/runs?state=running&kind=create-volume')).body;
  expect(items).toEqual([run]);
  expect((await api.call('GET', '/v1/runs?state=running&kind=restore')).body.items).toEqual([]);
  await worker.succeed();
});

test('a run is asked to stop once or more, and not after its end', async () => {
  const { body } = await api.call('POST', '/v1/volumes', {
    name: 'stop',
    storageNode: 'alpha',
    sizeBytes: 512,
  });
  const url = `/v1/runs/${body.run.id}/cancel`;
  for (let times = 0; times < 2; times += 1) {
    const { status, headers } = await api.call('POST', url);
    expect({ status, location: headers.location }).toEqual({
      status: 202,
      location: `/v1/runs/${body.run.id}`,
    });
  }
  expect((await api.app.catalog.runs.get(body.run.id)).cancelRequested).toBe(true);
  await (await api.worker(body.run.id)).cancel();
  await api.refused('run-ended', 'POST', url);
});

test('unknown runs and faulty run queries are refused', async () => {
  await api.refused('run-not-found', 'GET', `/v1/runs/${UNKNOWN_ID}`);
  await api.refused('run-not-found', 'POST', `/v1/runs/${UNKNOWN_ID}/cancel`);
  const problem = await api.refused('invalid-request', 'GET', '/v1/runs/7');
  expect(problem.errors).toMatchObject([
    { in: 'path', field: 'run', message: expect.stringContaining('UUID') },
  ]);
  await api.refused('invalid-request', 'GET', '/v1/runs?state=lost');
  await api.refused('invalid-request', 'GET', '/v1/runs?kind=teleport');
});

test('events are followed from the last one seen, without a gap', async () => {
  const seen: number[] = [];
  for (let after = 0, more = true; more; ) {
    const { items, nextCursor } = (await api.call('GET', `/v1/events?limit=7&after=${after}`)).body;
    seen.push(...items.map((event: { id: number }) => event.id));
    more = nextCursor !== null;
    if (more) expect(nextCursor).toBe(String(items.at(-1).id));
    after = Number(nextCursor);
  }
  expect(seen).toHaveLength((await api.written()).event!);
  expect(seen).toEqual([...new Set(seen)].sort((a, b) => a - b));
  expect((await api.call('GET', `/v1/events?cursor=${seen.at(-2)}`)).body.items).toHaveLength(1);
  await api.refused('invalid-request', 'GET', '/v1/events?after=yesterday');
  await api.refused('invalid-request', 'GET', '/v1/events?limit=0');
});
