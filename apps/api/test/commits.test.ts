// Goal: snapshots and commits are asked for, looked at and decided through the contract, and what makes no sense is
// refused in words that name the object, its state and the next step, before anything is written.
import { parseRunRequest } from '@tidemark/proto';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

const UNKNOWN_ID = '7a0d0f9e-6f3e-4f0a-9a55-0a6f4f1d2c3b';
let api: TestApi;
let volume: string;
let path: string;
let count = 0;

beforeAll(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
});
afterAll(() => api.close());

beforeEach(async () => {
  count += 1;
  volume = `disk-${count}`;
  path = `/v1/volumes/${volume}`;
  await api.volume(volume, 'alpha');
});

/** A ready one. */
async function snapshot(name: string): Promise<string> {
  const { body } = await api.call('POST', `${path}/snapshots`, { name });
  await api.app.catalog.snapshots.markReady(
    body.snapshot.id,
    new Date(Date.UTC(2026, 0, 1) + count++),
    body.run.id,
  );
  await (await api.worker(body.run.id)).succeed();
  return body.snapshot.id;
}

/** A commit of what the guest writes to, ready for a decision. */
async function readyCommit(): Promise<{ id: string; runId: string }> {
  const { body } = await api.call('POST', `${path}/commits`, { active: true });
  const { id, runId } = body.commit;
  await api.app.catalog.commits.markCopying(id, runId);
  await api.app.catalog.commits.markReady(id, runId);
  await (await api.worker(runId)).succeed({ commitId: id, state: 'ready' });
  return { id, runId };
}

test('a snapshot is taken by a run, listed and looked at', async () => {
  const { status, headers, body } = await api.call('POST', `${path}/snapshots`, { name: 'before' });
  expect(status).toBe(202);
  expect(headers.location).toBe(`/v1/runs/${body.run.id}`);
  expect(body.snapshot).toMatchObject({ name: 'before', state: 'creating', pointInTime: null });
  expect(parseRunRequest('create-snapshot', body.run.request).snapshotId).toBe(body.snapshot.id);
  await api.refused('snapshot-name-taken', 'POST', `${path}/snapshots`, { name: 'before' });
  const busy = await api.refused('snapshot-not-ready', 'POST', `${path}/commits`, { top: 'before' });
  expect(busy.detail).toContain("'before'");
  const at = new Date('2026-11-21T08:00:00.000Z');
  await api.app.catalog.snapshots.markReady(body.snapshot.id, at, body.run.id);
  await (await api.worker(body.run.id)).succeed();
  const { items } = (await api.call('GET', `${path}/snapshots`)).body;
  expect(items).toMatchObject([{ name: 'before', state: 'ready', pointInTime: at.toISOString() }]);
  expect((await api.call('GET', `${path}/snapshots/before`)).body).toEqual(items[0]);
  expect((await api.call('GET', `${path}/snapshots/${items[0].id}`)).body).toEqual(items[0]);
  const missing = await api.refused('snapshot-not-found', 'GET', `${path}/snapshots/nope`);
  expect(missing.detail).toContain(`List them with GET ${path}/snapshots`);
  await api.refused('invalid-name', 'POST', `${path}/snapshots`, { name: 'a b' });
  await api.refused('volume-not-found', 'POST', '/v1/volumes/nope/snapshots', { name: 'a' });
});

test('the commit of a snapshot is one run', async () => {
  const [one, two] = [await snapshot('one'), await snapshot('two')];
  const request = { top: 'two', base: 'one', delete: false, speedBytesPerSecond: 1024 };
  const { status, headers, body } = await api.call('POST', `${path}/commits`, request);
  expect(status).toBe(202);
  expect(headers.location).toBe(`/v1/runs/${body.run.id}`);
  expect(parseRunRequest('commit', body.run.request)).toEqual({
    volumeId: body.commit.volumeId,
    commitId: body.commit.id,
    topSnapshotId: two,
    baseSnapshotId: one,
    shallow: false,
    active: false,
    deleteFiles: false,
    speedBytesPerSecond: 1024,
  });
  const { id, runId } = body.commit;
  expect(body.commit).toMatchObject({
    runId: body.run.id,
    state: 'starting',
    top: { id: two, name: 'two' },
    base: { id: one, name: 'one' },
    active: false,
    delete: false,
    decision: null,
    lostSnapshots: [],
  });
  const early = await api.refused('commit-not-ready', 'POST', `${path}/commits/${id}/pivot`);
  expect(early.detail).toContain(`It ends by itself: wait for its run ${runId}, or cancel that`);
  await api.app.catalog.commits.dropLostSnapshots(id, [two], runId);
  await api.app.catalog.commits.end(id, { state: 'done' }, runId);
  await (await api.worker(runId)).succeed();
  const shown = (await api.call('GET', `${path}/commits/${id}`)).body;
  expect(shown).toMatchObject({ state: 'done', lostSnapshots: [{ id: one, name: 'one' }] });
  expect((await api.call('GET', `${path}/commits`)).body.items).toEqual([shown]);
  const late = await api.refused('commit-not-ready', 'POST', `${path}/commits/${id}/keep`);
  expect(late.detail).toContain('has ended');
});

test.each([
  ['pivot', 'pivoting'],
  ['keep', 'keeping'],
])('what the guest writes to is committed by two runs: commit, then %s', async (decision, state) => {
  await snapshot('one');
  const { id } = await readyCommit();
  const { status, body } = await api.call('POST', `${path}/commits/${id}/${decision}`);
  expect(status).toBe(202);
  expect(body.commit).toMatchObject({ id, state, decision, active: true, top: null, delete: true });
  expect(body.run.kind).toBe('finish-commit');
  expect(parseRunRequest('finish-commit', body.run.request)).toMatchObject({ commitId: id, decision });
  const again = await api.refused('commit-not-ready', 'POST', `${path}/commits/${id}/keep`);
  expect(again.detail).toContain('decided already');
  await api.app.catalog.commits.end(id, { state: 'done' }, body.run.id);
  await (await api.worker(body.run.id)).succeed();
  expect((await api.call('GET', `${path}/commits/${id}`)).body).toMatchObject({ state: 'done', decision });
});

test('waiting for a commit answers with what came of it', async () => {
  await snapshot('one');
  const call = api.call('POST', `${path}/commits?wait=done`, { active: true });
  let run: { id: string; request: { commitId: string } } | undefined;
  while (!run) run = (await api.call('GET', '/v1/runs?kind=commit&state=queued')).body.items[0];
  const { commitId } = run.request;
  await api.app.catalog.commits.markCopying(commitId, run.id);
  await api.app.catalog.commits.markReady(commitId, run.id);
  await (await api.worker(run.id)).succeed();
  const { status, headers, body } = await call;
  expect([status, body.commit.state]).toEqual([201, 'ready']);
  expect(headers.location).toBe(`/v1/volumes/${body.commit.volumeId}/commits/${commitId}`);
});

test('a volume has one commit at a time, and is otherwise left alone', async () => {
  await snapshot('one');
  const { body } = await api.call('POST', `${path}/commits`, { active: true });
  const calls = [
    ['POST', `${path}/commits`, { active: true }],
    ['POST', `${path}/snapshots`, { name: 'two' }],
    ['DELETE', path, undefined],
  ] as const;
  for (const [method, url, request] of calls) {
    const problem = await api.refused('volume-busy', method, url, request);
    expect(problem.detail).toContain(body.run.id);
  }
  const { id, runId } = body.commit;
  await api.app.catalog.commits.markCopying(id, runId);
  await api.app.catalog.commits.markReady(id, runId);
  await (await api.worker(runId)).succeed();
  for (const [method, url, request] of calls) {
    const problem = await api.refused('volume-busy', method, url, request);
    expect(problem.detail).toMatch(/which is ready\. End it first: pivot, or keep/);
  }
});

test('commits that make no sense are refused, each with its reason', async () => {
  const refused = async (code: string, body: object) =>
    (await api.refused(code, 'POST', `${path}/commits`, body)).detail;
  expect(await refused('commit-invalid', { active: true })).toContain('Take a snapshot first');
  await snapshot('one');
  await snapshot('two');
  expect(await refused('commit-invalid', {})).toContain("Say so with 'active': true");
  expect(await refused('commit-invalid', { top: 'two', active: true })).toContain("leave out 'active'");
  expect(await refused('commit-invalid', { top: 'one' })).toContain('Choose a later snapshot as top');
  expect(await refused('commit-invalid', { top: 'one', base: 'two' })).toContain("'two'");
  expect(await refused('commit-invalid', { top: 'two', base: 'two' })).toContain('not older');
  expect(await refused('snapshot-not-found', { top: 'nope' })).toContain("no snapshot 'nope'");
  expect(await refused('snapshot-not-found', { active: true, base: 'nope' })).toContain("no snapshot 'nope'");
  expect(await refused('invalid-request', { top: 'two', base: 'one', shallow: true })).toContain(
    'one of the two',
  );
  await refused('invalid-request', { top: 'two', deep: true });
  await refused('invalid-request', { active: 'yes' });
});

test('unknown commits are refused', async () => {
  const missing = await api.refused('commit-not-found', 'GET', `${path}/commits/${UNKNOWN_ID}`);
  expect(missing.detail).toContain(`List them with GET ${path}/commits`);
  await api.refused('commit-not-found', 'POST', `${path}/commits/${UNKNOWN_ID}/pivot`);
  await api.refused('invalid-request', 'GET', `${path}/commits/monday`);
  await api.refused('volume-not-found', 'POST', '/v1/volumes/nope/commits', { active: true });
  await api.refused('volume-not-found', 'GET', '/v1/volumes/nope/commits');
});

test('after a commit that was given up, images may lie below that no snapshot names', async () => {
  await snapshot('one');
  const { body } = await api.call('POST', `${path}/commits`, { active: true });
  const { id, runId } = body.commit;
  await api.app.catalog.commits.dropLostSnapshots(id, [], runId);
  await api.app.catalog.commits.end(id, { state: 'cancelled' }, runId);
  expect((await api.call('GET', `${path}/snapshots`)).body.items).toEqual([]);
  expect((await api.call('POST', `${path}/commits`, { active: true })).status).toBe(202);
});
