// Goal: a repository is changed, scanned and deleted, and its backups are verified, by runs that say what they are for;
// what cannot be is refused in clear words. Method: the api over a real catalog, without a worker.
import { parseRunRequest } from '@tidemark/proto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

const UNKNOWN_ID = '7a0d0f9e-6f3e-4f0a-9a55-0a6f4f1d2c3b';
let api: TestApi;
let backupId: string;

beforeAll(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
  await api.storageNode('beta');
  await api.repository('nightly', 'beta');
  await api.repository('empty', 'beta');
  await api.volume('web', 'alpha');
  backupId = (await api.backup({ volume: 'web', repository: 'nightly', kind: 'full', checkpoint: 'monday' }))
    .id;
});

afterAll(() => api.close());

test('compression and the daily share are kept, and the share can be changed', async () => {
  const settings = { compression: 'zstd', verifyPercentPerDay: 12.5 };
  const { body } = await api.call('POST', '/v1/repositories', {
    name: 'z',
    storageNode: 'beta',
    ...settings,
  });
  expect(body.repository).toMatchObject({ ...settings, usedBytes: null, availableBytes: null });
  expect(parseRunRequest('create-repository', body.run.request).compression).toBe('zstd');
  const changed = await api.call('PATCH', '/v1/repositories/nightly', { verifyPercentPerDay: 5 });
  expect([changed.status, changed.body.verifyPercentPerDay]).toEqual([200, 5]);
  await api.refused('invalid-request', 'PATCH', '/v1/repositories/nightly', { verifyPercentPerDay: 101 });
  await api.refused('repository-not-found', 'PATCH', '/v1/repositories/nope', { verifyPercentPerDay: 1 });
});

test('a scan is a run', async () => {
  const { status, body } = await api.call('POST', '/v1/repositories/nightly/scan');
  expect([status, body.run.kind]).toEqual([202, 'scan-repository']);
  expect(parseRunRequest('scan-repository', body.run.request).name).toBe('nightly');
  await api.refused('repository-not-found', 'POST', '/v1/repositories/nope/scan');
});

test('only an empty repository is deleted, and nothing is begun in it from then on', async () => {
  const problem = await api.refused('repository-in-use', 'DELETE', '/v1/repositories/nightly');
  expect(problem.detail).toContain('holds 1 backups');
  const { status, body } = await api.call('DELETE', '/v1/repositories/empty');
  expect([status, body.run.kind, body.repository.state]).toEqual([202, 'delete-repository', 'deleting']);
  const wanted = { volume: 'web', repository: 'empty', kind: 'full', checkpoint: 'late' };
  await api.refused('repository-not-ready', 'POST', '/v1/backups', wanted);
});

test('a verification is a run that looks at the whole chain unless told otherwise', async () => {
  const { status, body } = await api.call('POST', `/v1/backups/${backupId}/verify`, {});
  expect([status, body.run.kind, body.run.backupId]).toEqual([202, 'verify', backupId]);
  expect(parseRunRequest('verify', body.run.request)).toMatchObject({
    chain: true,
    speedBytesPerSecond: null,
  });
  expect(body.backup).toMatchObject({ verifiedAt: null, verifyResult: null, damage: null });
  const slow = { chain: false, speedBytesPerSecond: 1000 };
  const second = await api.call('POST', `/v1/backups/${backupId}/verify`, slow);
  expect(parseRunRequest('verify', second.body.run.request)).toMatchObject(slow);
  await api.refused('backup-not-found', 'POST', `/v1/backups/${UNKNOWN_ID}/verify`, {});
});
