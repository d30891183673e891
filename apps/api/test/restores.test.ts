// Goal: each kind of restore is written down as what it is, with the rows and leases that go with it, or refused in
// clear words. Method: the real API over a real catalog.
import { randomUUID } from 'node:crypto';
import { inDatabase } from '@tidemark/catalog/testing';
import { parseRunRequest } from '@tidemark/proto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

let api: TestApi;
let monday: { id: string; checkpointId: string };

beforeEach(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
  await api.repository('vault', 'alpha');
  await api.volume('web', 'alpha');
  monday = await api.backup({ volume: 'web', repository: 'vault', kind: 'full', checkpoint: 'monday' });
});
afterEach(() => api.close());

const restore = (target: object, more: object = {}) =>
  api.call('POST', '/v1/restores', { backup: monday.id, target, ...more });
const holders = async () =>
  (await api.app.catalog.backupLeases.holders(monday.id)).map(({ holder, holderId }) => ({
    holder,
    holderId,
  }));

test('a new volume begins with the checkpoint of its backup, and its first backup is an increment on it', async () => {
  const { body } = await restore({ volume: { name: 'copy', storageNode: 'alpha' } });
  const request = parseRunRequest('restore', body.run.request);
  expect(request).toMatchObject({
    checkpoint: { name: 'monday' },
    onDamage: 'skip',
    speedBytesPerSecond: null,
  });
  const checkpoint = await api.app.catalog.checkpoints.get(body.volume.id, 'monday');
  expect(checkpoint).toMatchObject({ state: 'creating', originBackupId: monday.id });
  await api.app.catalog.volumes.markReady(
    body.volume.id,
    { exportUri: 'nbd://x/copy', sizeBytes: 4096 },
    null,
  );
  await api.app.catalog.checkpoints.markReady(checkpoint.id, new Date(), null);
  const wanted = { volume: 'copy', repository: 'vault', kind: 'incremental', checkpoint: 'tuesday' };
  const made = await api.call('POST', '/v1/backups', wanted);
  expect(made.body.backup).toMatchObject({ kind: 'incremental', parentId: monday.id });
  expect(parseRunRequest('backup', made.body.run.request)).toMatchObject({
    baseCheckpointId: checkpoint.id,
    parentBackupId: monday.id,
  });
  const named = { ...wanted, checkpoint: 'wednesday', base: 'monday' };
  expect((await api.call('POST', '/v1/backups', named)).body.backup.parentId).toBe(monday.id);
});

test('an instant volume holds its backup, and says which', async () => {
  const { status, body } = await restore({ instant: { name: 'quick', storageNode: 'alpha' } });
  expect(status).toBe(202);
  expect(body.volume).toMatchObject({ format: 'qcow2', state: 'creating', sourceBackupId: monday.id });
  expect(parseRunRequest('restore', body.run.request).target).toMatchObject({ instant: { name: 'quick' } });
  expect(await holders()).toEqual(
    expect.arrayContaining([
      { holder: 'run', holderId: body.run.id },
      { holder: 'volume', holderId: body.volume.id },
    ]),
  );
});

test('a restore over a volume names the checkpoint that both have', async () => {
  const { body } = await restore(
    { inPlace: { volume: 'web' } },
    { speedBytesPerSecond: 1000, onDamage: 'fail' },
  );
  const request = parseRunRequest('restore', body.run.request);
  expect(request).toMatchObject({ onDamage: 'fail', speedBytesPerSecond: 1000, checkpoint: null });
  expect(request.target).toMatchObject({
    inPlace: { volumeId: body.volume.id, evenIfConnected: false, checkpointId: monday.checkpointId },
  });
  expect(body.run.volumeId).toBe(body.volume.id);
});

test.each([
  [{ instant: { name: 'quick', storageNode: 'alpha', format: 'raw' } }, {}, 'invalid-request'],
  [{ instant: { name: 'quick', storageNode: 'alpha' } }, { onDamage: 'fail' }, 'invalid-request'],
  [{ instant: { name: 'web', storageNode: 'alpha' } }, {}, 'volume-name-taken'],
  [{ inPlace: { volume: 'other' } }, {}, 'volume-not-found'],
  [{ inPlace: { volume: 'web' }, file: { name: 'x', storageNode: 'alpha' } }, {}, 'invalid-request'],
  [{}, {}, 'invalid-request'],
] as const)('restore to %j with %j is refused as %s', async (target, more, code) => {
  await api.refused(code, 'POST', '/v1/restores', { backup: monday.id, target, ...more });
  expect(await holders()).toEqual([]);
});

test('nothing is restored over a volume of another size, or one that still reads from a backup', async () => {
  const { storageNodeId } = await api.app.catalog.volumes.get('web');
  const make = async (name: string, sizeBytes: number, sourceBackupId?: string) => {
    const wanted = { id: randomUUID(), name, storageNodeId, sizeBytes, format: 'qcow2' as const };
    await api.app.catalog.volumes.create({ ...wanted, ...(sourceBackupId && { sourceBackupId }) });
    await api.app.catalog.volumes.markReady(wanted.id, { exportUri: 'nbd://x/y', sizeBytes }, null);
  };
  const { sizeBytes } = await api.app.catalog.backups.get(monday.id);
  await make('small', sizeBytes / 2);
  await make('quick', sizeBytes, monday.id);
  const refused = (volume: string, code: string) =>
    api.refused(code, 'POST', '/v1/restores', { backup: monday.id, target: { inPlace: { volume } } });
  expect((await refused('small', 'invalid-request')).detail).toContain('new volume');
  await refused('quick', 'volume-busy');
});

test('the backup of a checkpoint that is gone is found by its name, while that tells one moment', async () => {
  const { checkpoints } = api.app.catalog;
  const byName = {
    ...{ volume: 'web', checkpoint: 'monday' },
    target: { file: { storageNode: 'alpha', name: 'web.raw' } },
  };
  await checkpoints.delete(monday.checkpointId, null);
  const { status, body } = await api.call('POST', '/v1/restores', byName);
  expect([status, body.run?.backupId]).toEqual([202, monday.id]);
  const again = await api.backup({ volume: 'web', repository: 'vault', kind: 'full', checkpoint: 'monday' });
  expect((await api.call('POST', '/v1/restores', byName)).body.run.backupId).toBe(again.id);
  await checkpoints.delete(again.checkpointId, null);
  const problem = await api.refused('checkpoint-not-found', 'POST', '/v1/restores', byName);
  expect(problem.detail).toContain(again.id);
  await api.refused('checkpoint-not-found', 'POST', '/v1/restores', { ...byName, checkpoint: 'sunday' });
});

test.each([
  ['missing', 'put its files back into the repository'],
  ['creating', 'wait until its run has ended'],
])('a %s backup is refused by name, and by what to do', async (state, next) => {
  await inDatabase(api.database.url, client =>
    client.query('UPDATE backup SET state = $2 WHERE id = $1', [monday.id, state]),
  );
  const target = { file: { storageNode: 'alpha', name: 'x' } };
  const words = `Backup ${monday.id} is ${state}: ${next}`;
  const named = await api.refused('backup-not-usable', 'POST', '/v1/restores', { backup: monday.id, target });
  expect(named.detail).toContain(words);
  const byCheckpoint = { volume: 'web', checkpoint: 'monday', target };
  expect((await api.refused('backup-not-found', 'POST', '/v1/restores', byCheckpoint)).detail).toContain(
    words,
  );
});
