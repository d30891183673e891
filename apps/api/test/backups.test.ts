// Goal: a backup is full or incremental for a reason that is told, builds on the right parent, and is
// refused in clear words when it cannot be made; a restore finds its source and has one target.
import { Catalog } from '@tidemark/catalog';
import { parseRunRequest } from '@tidemark/proto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

const UNKNOWN_ID = '7a0d0f9e-6f3e-4f0a-9a55-0a6f4f1d2c3b';
const SIZE = 2_097_152;
let api: TestApi;
let monday: { id: string; checkpointId: string };

const full = { volume: 'web', repository: 'nightly', kind: 'full' } as const;
const incremental = { volume: 'web', repository: 'nightly', kind: 'incremental' } as const;

beforeAll(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
  await api.storageNode('beta');
  await api.repository('nightly', 'beta');
  await api.repository('other', 'beta');
  await api.volume('web', 'alpha', SIZE);
  await api.volume('bare', 'alpha');
  monday = await api.backup({ ...full, checkpoint: 'monday' });
});

afterAll(() => api.close());

test('a full backup makes its checkpoint, its row and its run at once', async () => {
  const { status, headers, body } = await api.call('POST', '/v1/backups', { ...full, checkpoint: 'again' });
  expect(status).toBe(202);
  expect(headers.location).toBe(`/v1/runs/${body.run.id}`);
  expect(body.backup).toMatchObject({
    kind: 'full',
    reason: 'full: asked for',
    parentId: null,
    state: 'creating',
    sizeBytes: SIZE,
    checkpoint: 'again',
  });
  const { checkpointId, id } = body.backup;
  expect(body.run).toMatchObject({ kind: 'backup', backupId: id, checkpointId, reason: 'full: asked for' });
  expect(parseRunRequest('backup', body.run.request)).toMatchObject({
    kind: 'full',
    baseCheckpointId: null,
    parentBackupId: null,
    speedBytesPerSecond: null,
  });
  const { items } = (await api.call('GET', '/v1/volumes/web/checkpoints')).body;
  expect(items.at(-1)).toMatchObject({ id: checkpointId, name: 'again', state: 'creating', backups: [] });
});

test('an incremental backup builds on the newest usable checkpoint unless one is named', async () => {
  const request = { ...incremental, checkpoint: 'tuesday', speedBytesPerSecond: 1000 };
  const { body } = await api.call('POST', '/v1/backups', request);
  expect(body.backup).toMatchObject({
    kind: 'incremental',
    parentId: monday.id,
    reason: "incremental: since checkpoint 'monday'",
  });
  expect(parseRunRequest('backup', body.run.request)).toMatchObject({
    baseCheckpointId: monday.checkpointId,
    parentBackupId: monday.id,
    speedBytesPerSecond: 1000,
  });
  expect(await api.app.catalog.backupLeases.holders(monday.id)).toMatchObject([
    { holder: 'run', holderId: body.run.id },
  ]);
  const named = await api.call('POST', '/v1/backups', {
    ...incremental,
    checkpoint: 'named',
    base: 'monday',
  });
  expect(named.body.backup.parentId).toBe(monday.id);
});

test('an incremental backup without anything to build on asks for a full one', async () => {
  const body = { ...incremental, volume: 'bare', checkpoint: 'first' };
  const problem = await api.refused('checkpoint-not-found', 'POST', '/v1/backups', body);
  expect(problem.detail).toMatch(
    /'bare' has a backup in repository 'nightly'\. Make a full backup there first/,
  );
  await api.refused('checkpoint-not-found', 'POST', '/v1/backups', {
    ...incremental,
    repository: 'other',
    checkpoint: 'first',
  });
});

test('a backup that a host with a slow clock has published can be looked at', async () => {
  const { body } = await api.call('POST', '/v1/backups', { ...full, checkpoint: 'skewed' });
  const slow = Catalog.connect(api.database.url, { clock: () => new Date(Date.now() - 60_000) });
  const facts = { storedBytes: 1, sentBytes: 1, fileName: 'skewed.qcow2' };
  await slow.backups.markAvailable(body.backup.id, facts, body.run.id);
  await slow.close();
  expect(await api.call('GET', `/v1/backups/${body.backup.id}`)).toMatchObject({
    status: 200,
    body: { state: 'available', durationMs: 0 },
  });
});

test('a base needs to exist, to be ready, and to have a backup in the repository', async () => {
  const at = (base: string, repository = 'nightly') => ({
    ...incremental,
    repository,
    checkpoint: 'next',
    base,
  });
  const unknown = await api.refused('checkpoint-not-found', 'POST', '/v1/backups', at('sunday'));
  expect(unknown.detail).toContain("Volume 'web' has no checkpoint 'sunday'");
  const elsewhere = await api.refused('backup-not-found', 'POST', '/v1/backups', at('monday', 'other'));
  expect(elsewhere.detail).toMatch(/'monday' of volume 'web' has no available backup in repository 'other'/);
  const { body } = await api.call('POST', '/v1/volumes/web/checkpoints', { name: 'unready' });
  const young = await api.refused('checkpoint-not-ready', 'POST', '/v1/backups', at('unready'));
  expect(young.detail).toContain("'unready' of volume 'web' is creating");
  await (await api.worker(body.run.id)).cancel();
});

test.each([
  [{ volume: 'nope' }, 'volume-not-found'],
  [{ repository: 'nope' }, 'repository-not-found'],
  [{ checkpoint: 'monday' }, 'checkpoint-name-taken'],
  [{ checkpoint: 'no good' }, 'invalid-name'],
  [{ kind: 'sometimes' }, 'invalid-request'],
  [{ base: 'monday' }, 'invalid-request'],
  [{ speedBytesPerSecond: 0 }, 'invalid-request'],
  [{ volume: undefined }, 'invalid-request'],
  [{ checkpoint: undefined }, 'invalid-request'],
])('a request with %j is refused as %s', async (change, code) => {
  await api.refused(code, 'POST', '/v1/backups', { ...full, checkpoint: 'fresh', ...change });
});

test('what is not ready or not reachable is refused', async () => {
  const young = (
    await api.call('POST', '/v1/volumes', { name: 'young', storageNode: 'alpha', sizeBytes: 512 })
  ).body;
  await api.refused('volume-not-ready', 'POST', '/v1/backups', { ...full, volume: 'young', checkpoint: 'a' });
  await (await api.worker(young.run.id)).cancel();
  await api.call('POST', '/v1/repositories', { name: 'unready', storageNode: 'beta' });
  await api.refused('repository-not-ready', 'POST', '/v1/backups', {
    ...full,
    repository: 'unready',
    checkpoint: 'a',
  });
  const gone = await api.storageNode('gone');
  await api.repository('far', 'gone');
  await api.app.catalog.storageNodes.markUnreachable(gone.id, 'refused');
  const body = { ...full, repository: 'far', checkpoint: 'a' };
  const problem = await api.refused('storage-node-unreachable', 'POST', '/v1/backups', body);
  expect(problem.detail).toContain("'gone'");
});

test('backups are listed by volume and repository, newest first, and looked at by id', async () => {
  const { items } = (await api.call('GET', '/v1/backups?volume=web&repository=nightly')).body;
  expect(items.length).toBeGreaterThan(1);
  expect(items.at(-1)).toMatchObject({
    id: monday.id,
    state: 'available',
    storedBytes: 65_536,
    sentBytes: 4096,
  });
  expect((await api.call('GET', '/v1/backups?repository=other')).body.items).toEqual([]);
  expect((await api.call('GET', '/v1/backups?volume=bare')).body.items).toEqual([]);
  const one = await api.call('GET', `/v1/backups/${monday.id}`);
  expect(one.body.durationMs).toBeGreaterThanOrEqual(0);
  await api.refused('volume-not-found', 'GET', '/v1/backups?volume=nope');
  await api.refused('repository-not-found', 'GET', '/v1/backups?repository=nope');
  await api.refused('backup-not-found', 'GET', `/v1/backups/${UNKNOWN_ID}`);
  await api.refused('invalid-request', 'GET', '/v1/backups/monday');
});

test('a restore to a volume makes it, as large as the backup', async () => {
  const target = { volume: { name: 'web-monday', storageNode: 'beta', format: 'qcow2' } };
  const { status, body } = await api.call('POST', '/v1/restores', {
    volume: 'web',
    checkpoint: 'monday',
    target,
  });
  expect(status).toBe(202);
  expect(body.volume).toMatchObject({
    name: 'web-monday',
    sizeBytes: SIZE,
    format: 'qcow2',
    state: 'creating',
  });
  expect(body.run).toMatchObject({ kind: 'restore', backupId: monday.id, volumeId: body.volume.id });
  const request = parseRunRequest('restore', body.run.request);
  const holders = async () =>
    (await api.app.catalog.backupLeases.holders(monday.id)).map(lease => lease.holderId);
  expect(await holders()).toContain(body.run.id);
  await (await api.worker(body.run.id)).cancel();
  expect(await holders()).not.toContain(body.run.id);
  expect(request).toMatchObject({
    backupId: monday.id,
    sizeBytes: SIZE,
    target: { volume: { name: 'web-monday' } },
  });
});

test('a restore to a file makes no volume', async () => {
  const target = { file: { storageNode: 'alpha', name: 'web.raw' } };
  const before = await api.written();
  const call = api.call('POST', '/v1/restores?wait=done', { backup: monday.id, target });
  let run: { id: string } | undefined;
  while (!run) run = (await api.call('GET', '/v1/runs?state=queued&kind=restore&limit=1')).body.items[0];
  await (await api.worker(run.id)).succeed({ filePath: '/restores/web.raw' });
  const { status, body } = await call;
  expect(status).toBe(200);
  expect(body).toMatchObject({ volume: null, run: { result: { filePath: '/restores/web.raw' } } });
  expect(parseRunRequest('restore', body.run.request).target).toMatchObject({ file: { name: 'web.raw' } });
  expect((await api.written()).volume).toBe(before.volume);
});

const volumeTarget = { volume: { name: 'restored', storageNode: 'alpha' } };
const fileTarget = { file: { name: 'restored', storageNode: 'alpha' } };

test.each([
  [{ target: volumeTarget }, 'invalid-request'],
  [{ volume: 'web', target: volumeTarget }, 'invalid-request'],
  [{ volume: 'web', checkpoint: 'monday' }, 'invalid-request'],
  [{ volume: 'web', checkpoint: 'monday', target: {} }, 'invalid-request'],
  [{ volume: 'web', checkpoint: 'monday', target: { ...volumeTarget, ...fileTarget } }, 'invalid-request'],
  [{ backup: UNKNOWN_ID, volume: 'web', checkpoint: 'monday', target: fileTarget }, 'invalid-request'],
  [{ backup: 'monday', target: fileTarget }, 'invalid-request'],
  [{ backup: UNKNOWN_ID, target: fileTarget }, 'backup-not-found'],
  [{ volume: 'nope', checkpoint: 'monday', target: fileTarget }, 'volume-not-found'],
  [{ volume: 'web', checkpoint: 'sunday', target: fileTarget }, 'checkpoint-not-found'],
  [{ volume: 'web', checkpoint: 'again', target: fileTarget }, 'backup-not-found'],
  [
    { volume: 'web', checkpoint: 'monday', target: { file: { name: 'x', storageNode: 'nope' } } },
    'storage-node-not-found',
  ],
  [
    { volume: 'web', checkpoint: 'monday', target: { file: { name: '../x', storageNode: 'alpha' } } },
    'invalid-name',
  ],
  [
    { volume: 'web', checkpoint: 'monday', target: { volume: { name: 'web', storageNode: 'alpha' } } },
    'volume-name-taken',
  ],
])('restore %j is refused as %s', async (body, code) => {
  await api.refused(code, 'POST', '/v1/restores', body);
});

test('a backup that is still being made cannot be restored', async () => {
  const { items } = (await api.call('GET', '/v1/backups?volume=web')).body;
  const young = items.find((backup: { state: string }) => backup.state === 'creating');
  const problem = await api.refused('backup-not-usable', 'POST', '/v1/restores', {
    backup: young.id,
    target: fileTarget,
  });
  expect(problem.detail).toContain(`${young.id} is creating`);
});
