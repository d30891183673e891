// Goal: a volume is asked for, seen and taken away through the contract, and every bad request is refused
// by its code, in words that name the object, before anything is written.
import { parseRunRequest } from '@tidemark/proto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

const UNKNOWN_ID = '7a0d0f9e-6f3e-4f0a-9a55-0a6f4f1d2c3b';
const MIB = 1_048_576;
let api: TestApi;

beforeAll(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
});

afterAll(() => api.close());

test('creating answers 202 with the run, the volume and where the run is', async () => {
  const { status, headers, body } = await api.call('POST', '/v1/volumes', {
    name: 'web-01',
    storageNode: 'alpha',
    sizeBytes: MIB,
  });
  expect(status).toBe(202);
  expect(headers.location).toBe(`/v1/runs/${body.run.id}`);
  expect(body.volume).toMatchObject({
    name: 'web-01',
    storageNode: 'alpha',
    sizeBytes: MIB,
    format: 'raw',
    state: 'creating',
    exportUri: null,
  });
  expect(body.run).toMatchObject({
    kind: 'create-volume',
    state: 'queued',
    volumeId: body.volume.id,
    requestedBy: 'local',
    error: null,
  });
  expect(parseRunRequest('create-volume', body.run.request)).toMatchObject({ sizeBytes: MIB, format: 'raw' });
  const { items } = (await api.call('GET', '/v1/events?limit=500')).body;
  const kinds = items.filter((event: { runId: string }) => event.runId === body.run.id);
  expect(kinds.map((event: { kind: string }) => event.kind)).toEqual(['volume-creating', 'run-queued']);
});

test('is found by id and by name', async () => {
  const { id } = await api.volume('by-name', 'alpha');
  const byName = await api.call('GET', '/v1/volumes/by-name');
  expect(byName.body).toMatchObject({ id, state: 'ready', exportUri: 'nbd://alpha.example:10809/by-name' });
  expect((await api.call('GET', `/v1/volumes/${id}`)).body).toEqual(byName.body);
});

test.each([
  [0, 512],
  [-1, 512],
  [1000, 1024],
  [513.5, 1024],
  [2 ** 50 + 512, 2 ** 50],
  [2 ** 53, 2 ** 50],
])('size %d is refused and %d named instead', async (sizeBytes, good) => {
  const problem = await api.refused('invalid-volume-size', 'POST', '/v1/volumes', {
    name: 'sized',
    storageNode: 'alpha',
    sizeBytes,
  });
  expect(problem.status).toBe(400);
  expect(problem.detail).toContain(`'sizeBytes' in the body is ${sizeBytes}, `);
  expect(problem.detail).toContain(String(good));
  expect(problem.errors).toMatchObject([{ in: 'body', field: 'sizeBytes' }]);
});

test.each(['', '-web', 'with space', 'ü', 'a/b', 'x'.repeat(65), UNKNOWN_ID, '.hidden'])(
  'name %j is refused',
  async name => {
    const body = { name, storageNode: 'alpha', sizeBytes: MIB };
    const problem = await api.refused('invalid-name', 'POST', '/v1/volumes', body);
    expect(problem.detail).toMatch(/'name' in the body .*send 1 to 64 letters, digits/);
  },
);

test.each(['a', '9', 'A.b_c-d', 'x'.repeat(64)])('name %j is taken', async name => {
  const { status } = await api.call('POST', '/v1/volumes', { name, storageNode: 'alpha', sizeBytes: 512 });
  expect(status).toBe(202);
});

test.each([
  [{ storageNode: 'alpha', sizeBytes: MIB }, 'name', /is missing; send a string/],
  [{ name: 'a1', sizeBytes: MIB }, 'storageNode', /is missing; send a string/],
  [{ name: 'a1', storageNode: 'alpha' }, 'sizeBytes', /is missing; send a number/],
  [{ name: 'a1', storageNode: 'alpha', sizeBytes: '1GiB' }, 'sizeBytes', /the string "1GiB"; send a number/],
  [{ name: 7, storageNode: 'alpha', sizeBytes: MIB }, 'name', /is the number 7; send a string/],
  [
    { name: 'a1', storageNode: 'alpha', sizeBytes: MIB, format: 'vmdk' },
    'format',
    /send one of "raw", "qcow2"/,
  ],
  [{ name: 'a1', storageNode: 'alpha', sizeBytes: MIB, size: 1 }, '', /holds "size", which is not known/],
])('body %j is refused, naming the field', async (body, field, words) => {
  const problem = await api.refused('invalid-request', 'POST', '/v1/volumes', body);
  expect(problem.errors?.map(error => error.field)).toEqual([field]);
  expect(problem.detail).toMatch(words);
});

test('every fault of a body is told at once', async () => {
  const problem = await api.refused('invalid-request', 'POST', '/v1/volumes', { name: '-', sizeBytes: 7 });
  expect(problem.errors?.map(error => error.field)).toEqual(['name', 'storageNode', 'sizeBytes']);
});

test('an unknown storage node is refused', async () => {
  const body = { name: 'lost', storageNode: 'gamma', sizeBytes: MIB };
  const problem = await api.refused('storage-node-not-found', 'POST', '/v1/volumes', body);
  expect(problem).toMatchObject({ status: 404, detail: expect.stringContaining("'gamma'") });
});

test('a storage node that is known not to answer is refused', async () => {
  const { id } = await api.storageNode('down');
  await api.app.catalog.storageNodes.markUnreachable(id, 'refused');
  const body = { name: 'lost', storageNode: 'down', sizeBytes: MIB };
  const problem = await api.refused('storage-node-unreachable', 'POST', '/v1/volumes', body);
  expect(problem.status).toBe(503);
  expect(problem.detail).toMatch(/'down' has not answered at down\.example:7411 since .* Start it/);
});

test('a storage node that has not joined yet is refused', async () => {
  await api.call('POST', '/v1/storage-nodes', { name: 'new', controlAddress: 'new.example:7411' });
  const body = { name: 'early', storageNode: 'new', sizeBytes: MIB };
  const problem = await api.refused('storage-node-not-ready', 'POST', '/v1/volumes', body);
  expect(problem.detail).toContain("'new' is joining");
});

test('a name is taken from the first moment, and of several requests at once one wins', async () => {
  const body = { name: 'wanted', storageNode: 'alpha', sizeBytes: MIB };
  const answers = await Promise.all([1, 2, 3, 4].map(() => api.call('POST', '/v1/volumes', body)));
  expect(answers.map(answer => answer.status).sort()).toEqual([202, 409, 409, 409]);
  const problem = await api.refused('volume-name-taken', 'POST', '/v1/volumes', body);
  expect(problem.detail).toMatch(/Volume 'wanted' exists already .* is creating\. Choose another name/);
});

test('an unknown volume is named', async () => {
  for (const ref of ['nope', UNKNOWN_ID]) {
    const seen = await api.refused('volume-not-found', 'GET', `/v1/volumes/${ref}`);
    expect(seen.detail).toContain(`'${ref}'`);
    await api.refused('volume-not-found', 'DELETE', `/v1/volumes/${ref}`);
  }
});

test('deleting marks the volume and starts a run', async () => {
  const { id } = await api.volume('old', 'alpha');
  const { status, body } = await api.call('DELETE', '/v1/volumes/old');
  expect(status).toBe(202);
  expect(body).toMatchObject({
    volume: { id, state: 'deleting' },
    run: { kind: 'delete-volume', volumeId: id },
  });
  parseRunRequest('delete-volume', body.run.request);
  const again = await api.refused('volume-not-ready', 'DELETE', '/v1/volumes/old');
  expect(again.detail).toContain("'old' is deleting");
});

test('a volume that is not ready, or is worked on, cannot be deleted', async () => {
  await api.call('POST', '/v1/volumes', { name: 'young', storageNode: 'alpha', sizeBytes: MIB });
  await api.refused('volume-not-ready', 'DELETE', '/v1/volumes/young');
  await api.volume('busy', 'alpha');
  const { body } = await api.call('POST', '/v1/volumes/busy/checkpoints', { name: 'now' });
  const problem = await api.refused('volume-busy', 'DELETE', '/v1/volumes/busy');
  expect(problem.detail).toContain(body.run.id);
});

test('pages hold every volume once, oldest first', async () => {
  const seen: string[] = [];
  let query = '?limit=3';
  for (let pages = 0; pages < 20; pages += 1) {
    const { items, nextCursor } = (await api.call('GET', `/v1/volumes${query}`)).body;
    seen.push(...items.map((volume: { name: string }) => volume.name));
    if (nextCursor === null) break;
    expect(items).toHaveLength(3);
    query = `?limit=3&cursor=${nextCursor}`;
  }
  const { volume } = await api.written();
  expect(seen).toHaveLength(volume!);
  expect(new Set(seen).size).toBe(volume);
  expect(seen[0]).toBe('web-01');
});

test.each(['limit=0', 'limit=501', 'limit=many', 'cursor=bogus', 'cursor=', 'colour=red'])(
  'list query %s is refused',
  async query => {
    await api.refused('invalid-request', 'GET', `/v1/volumes?${query}`);
  },
);
