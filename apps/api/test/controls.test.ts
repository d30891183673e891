// Goal: differential backups and exports are asked for in full, and the job of a run can be held back, let go on and
// ended, each refused in clear words where that makes no sense. Method: a whole api, with a hand for a worker.
import { parseRunRequest } from '@tidemark/proto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

let api: TestApi;
const place = { volume: 'web', repository: 'nightly' };

beforeAll(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
  await api.repository('nightly', 'alpha');
  await api.volume('web', 'alpha');
});

afterAll(() => api.close());

test('a differential backup builds on the newest full one', async () => {
  const none = await api.refused('checkpoint-not-found', 'POST', '/v1/backups', {
    ...{ ...place, kind: 'differential', checkpoint: 'x' },
  });
  expect(none.detail).toContain('has a full backup');
  const sunday = await api.backup({ ...place, kind: 'full', checkpoint: 'sunday' });
  const { reason } = (await api.call('GET', `/v1/backups/${sunday.id}`)).body;
  expect(reason).toBe("full: asked for; the first of volume 'web' in repository 'nightly'");
  await api.backup({ ...place, kind: 'incremental', checkpoint: 'monday' });
  const { body } = await api.call('POST', '/v1/backups', {
    ...{ ...place, kind: 'differential', checkpoint: 'tuesday', description: 'by hand', direct: true },
    ...{ compression: 'zstd', onCbwError: 'break-guest-write', cbwTimeoutMs: 500, scratchLimitBytes: 1024 },
  });
  expect(body.backup).toMatchObject({
    kind: 'differential',
    parentId: sunday.id,
    reason: "differential: since checkpoint 'sunday'",
    description: 'by hand',
  });
  expect(parseRunRequest('backup', body.run.request)).toMatchObject({
    ...{ kind: 'differential', baseCheckpointId: sunday.checkpointId, parentBackupId: sunday.id },
    ...{ description: 'by hand', direct: true, compression: 'zstd', onCbwError: 'break-guest-write' },
    ...{ cbwTimeoutMs: 500, scratchLimitBytes: 1024 },
  });
});

test("a run's job is held back, goes on, and has another speed", async () => {
  const { body } = await api.call('POST', '/v1/backups', { ...place, kind: 'full', checkpoint: 'held' });
  const url = `/v1/runs/${body.run.id}`;
  expect(body.run).toMatchObject({ paused: false, speedBytesPerSecond: null, restarts: 0 });
  const paused = await api.call('POST', `${url}/pause`);
  expect([paused.status, paused.headers.location, paused.body.run.paused]).toEqual([202, url, true]);
  expect((await api.call('POST', `${url}/pause`)).status).toBe(202);
  await api.call('POST', `${url}/speed`, { bytesPerSecond: 4096 });
  expect((await api.call('POST', `${url}/resume`)).body.run).toMatchObject({
    paused: false,
    speedBytesPerSecond: 4096,
  });
  await api.refused('invalid-request', 'POST', `${url}/speed`, { bytesPerSecond: -1 });
  const endless = await api.refused('run-not-controllable', 'POST', `${url}/finish`);
  expect(endless.detail).toContain('export');
  await (await api.worker(body.run.id)).cancel();
  await api.refused('run-ended', 'POST', `${url}/pause`);
});

test("a group's copies are held back with its run, and a group without any is not", async () => {
  const backup = { repository: 'nightly' };
  const { body } = await api.call('POST', '/v1/groups', { name: 'both', volumes: ['web'], backup });
  const url = `/v1/runs/${body.run.id}`;
  const { runs } = api.app.catalog;
  const member = body.group.members[0];
  const { backupId, checkpointId, volumeId } = member;
  const request = { backupId, checkpointId, volumeId };
  await runs.create({ id: member.runId, kind: 'backup', ...request, request });
  expect((await api.call('POST', `${url}/pause`)).body.run.paused).toBe(true);
  expect(await runs.get(member.runId)).toMatchObject({ pauseRequested: true });
  await api.call('POST', `${url}/speed`, { bytesPerSecond: 4096 });
  await api.call('POST', `${url}/resume`);
  expect(await runs.get(member.runId)).toMatchObject({ pauseRequested: false, speedBytesPerSecond: 4096 });
  const bare = await api.call('POST', '/v1/groups', { name: 'bare', volumes: ['web'] });
  const text = await api.refused('run-not-controllable', 'POST', `/v1/runs/${bare.body.run.id}/pause`);
  expect(text.detail).toContain("the checkpoints of group 'bare'");
});

test('a run without a job cannot be paused', async () => {
  const { body } = await api.call('POST', '/v1/volumes/web/checkpoints', { name: 'plain' });
  await api.refused('run-not-controllable', 'POST', `/v1/runs/${body.run.id}/pause`);
  await api.refused('run-not-found', 'POST', '/v1/runs/7a0d0f9e-6f3e-4f0a-9a55-0a6f4f1d2c3b/pause');
});

test('an export is a run with a checkpoint of its own, or none, that somebody has to finish', async () => {
  const wanted = { volume: 'web', checkpoint: 'pulled', base: 'sunday', expiresInMs: 5000 };
  const { status, body } = await api.call('POST', '/v1/exports', wanted);
  expect(status).toBe(202);
  expect(body.dropped).toEqual([]);
  const request = parseRunRequest('export', body.run.request);
  expect(request).toMatchObject({ checkpoint: 'pulled', expiresInMs: 5000, scratchLimitBytes: null });
  expect(request.checkpointId).toBe(body.run.checkpointId);
  expect(request.baseCheckpointId).not.toBeNull();
  const finished = await api.call('POST', `/v1/runs/${body.run.id}/finish`);
  expect(finished.status).toBe(202);
  const bare = await api.call('POST', '/v1/exports', { volume: 'web' });
  expect(parseRunRequest('export', bare.body.run.request)).toMatchObject({ checkpointId: null });
  await api.refused('run-not-controllable', 'POST', `/v1/runs/${bare.body.run.id}/pause`);
});

test.each([
  [{ volume: 'nope' }, 'volume-not-found'],
  [{ checkpoint: 'sunday' }, 'checkpoint-name-taken'],
  [{ base: 'nope' }, 'checkpoint-not-found'],
  [{ expiresInMs: 0 }, 'invalid-request'],
])('an export with %j is refused as %s', async (change, code) => {
  await api.refused(code, 'POST', '/v1/exports', { volume: 'web', ...change });
});
