// Goal: a move is asked for once, keeps everything else from the volume until it has ended, and is refused with the
// reason where it cannot be.
import { parseRunRequest } from '@tidemark/proto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

let api: TestApi;

beforeAll(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
  await api.storageNode('beta');
  await api.volume('web', 'alpha');
  await api.repository('nightly', 'beta');
});

afterAll(() => api.close());

test('a move is a run, and the volume is moving until it ends', async () => {
  const { status, body } = await api.call('POST', '/v1/volumes/web/move', { storageNode: 'beta' });
  expect(status).toBe(202);
  expect(body.volume).toMatchObject({ name: 'web', state: 'moving', storageNode: 'alpha' });
  const request = parseRunRequest('move-volume', body.run.request);
  expect(request).toMatchObject({ sourceNode: 'alpha', targetNode: 'beta', speedBytesPerSecond: null });
  await api.refused('volume-not-ready', 'POST', '/v1/volumes/web/move', { storageNode: 'beta' });
  const backup = { volume: 'web', repository: 'nightly', checkpoint: 'monday', kind: 'full' };
  const problem = await api.refused('volume-not-ready', 'POST', '/v1/backups', backup);
  expect(problem.detail).toContain("'web' is moving");
});

test('a move that cannot be is refused by code, and changes nothing', async () => {
  await api.volume('db', 'alpha');
  const path = '/v1/volumes/db/move';
  await api.refused('storage-node-not-found', 'POST', path, { storageNode: 'nowhere' });
  await api.refused('volume-not-found', 'POST', '/v1/volumes/nope/move', { storageNode: 'beta' });
  await api.refused('invalid-request', 'POST', path, { storageNode: 'alpha' });
  await api.refused('invalid-request', 'POST', path, {});
  await api.call('POST', '/v1/volumes/db/checkpoints', { name: 'monday' });
  const busy = await api.refused('volume-busy', 'POST', path, { storageNode: 'beta' });
  expect(busy.detail).toContain('create-checkpoint run');
  expect((await api.call('GET', '/v1/volumes/db')).body.state).toBe('ready');
});
