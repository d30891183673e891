// Goal: checkpoints are kept, named, protected and dropped as the caller said, and nothing goes unsaid. Method: a whole
// api on a database of its own; runs are ended by hand.
import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

const CHECKPOINTS = '/v1/volumes/disk/checkpoints';

let api: TestApi;

beforeEach(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
  await api.volume('disk', 'alpha');
});
afterEach(() => api.close());

const limit = (checkpointLimit: number) => api.call('PATCH', '/v1/volumes/disk', { checkpointLimit });
const stateOf = async (name: string) => (await api.call('GET', `${CHECKPOINTS}/${name}`)).body.state;

/** Taken in this order, each ready. */
async function taken(...names: string[]): Promise<string[]> {
  const ids: string[] = [];
  for (const [index, name] of names.entries()) {
    const { body } = await api.call('POST', CHECKPOINTS, { name });
    const worker = await api.worker(body.run.id);
    await worker.reachCheckpoint(new Date(Date.UTC(2026, 10, 21, index)));
    await worker.succeed();
    ids.push(body.checkpoint.id);
  }
  return ids;
}

describe('a full chain', () => {
  beforeEach(async () => {
    await taken('one', 'two', 'three');
    await limit(3);
  });

  test('refuses another one, with volume, count, limit and next step', async () => {
    const problem = await api.refused('checkpoint-limit', 'POST', CHECKPOINTS, { name: 'four' });
    expect(problem.status).toBe(409);
    for (const word of ["'disk'", '3 checkpoints', 'limit is 3', 'dropOldest', 'PATCH /v1/volumes/disk']) {
      expect(problem.detail).toContain(word);
    }
  });

  test('drops the oldest when the caller said so, and says which', async () => {
    const oldest = (await api.call('GET', `${CHECKPOINTS}/one`)).body.id;
    const { status, body } = await api.call('POST', CHECKPOINTS, { name: 'four', dropOldest: true });
    expect(status).toBe(202);
    expect(body.dropped).toEqual([{ id: oldest, name: 'one' }]);
    expect(body.run.request.dropCheckpointIds).toEqual([oldest]);
    expect(await stateOf('one')).toBe('deleting');
    expect(await stateOf('two')).toBe('ready');
    // Its place is given away already.
    await api.refused('checkpoint-limit', 'POST', CHECKPOINTS, { name: 'five' });
    await api.refused('checkpoint-not-ready', 'DELETE', `${CHECKPOINTS}/one`);
  });

  test('drops as many as it has too many, oldest first', async () => {
    await limit(2);
    const { body } = await api.call('POST', CHECKPOINTS, { name: 'four', dropOldest: true });
    expect(body.dropped.map((one: { name: string }) => one.name)).toEqual(['one', 'two']);
  });

  test('drops nothing when the oldest is protected, and takes no other in its stead', async () => {
    await api.call('PATCH', `${CHECKPOINTS}/one`, { pinnedUntil: '2999-01-01T00:00:00.000Z' });
    const wanted = { name: 'four', dropOldest: true };
    const problem = await api.refused('checkpoint-pinned', 'POST', CHECKPOINTS, wanted);
    expect(problem.detail).toContain("'one' is the oldest of volume 'disk'");
    expect(problem.detail).toContain('2999-01-01');
    await api.call('PATCH', `${CHECKPOINTS}/one`, { pinnedUntil: '2020-01-01T00:00:00.000Z' });
    expect((await api.call('POST', CHECKPOINTS, wanted)).body.dropped).toHaveLength(1);
  });

  test('drops nothing while the oldest is still being taken', async () => {
    await limit(4);
    await api.call('POST', CHECKPOINTS, { name: 'four' });
    await limit(1);
    await api.refused('checkpoint-not-ready', 'POST', CHECKPOINTS, { name: 'five', dropOldest: true });
  });

  test('makes no difference where there is room', async () => {
    await limit(4);
    const { body } = await api.call('POST', CHECKPOINTS, { name: 'four', dropOldest: true });
    expect(body.dropped).toEqual([]);
  });

  test('goes for backups too', async () => {
    await api.repository('vault', 'alpha');
    const wanted = { volume: 'disk', repository: 'vault', kind: 'full', checkpoint: 'four' };
    await api.refused('checkpoint-limit', 'POST', '/v1/backups', wanted);
    const { body } = await api.call('POST', '/v1/backups', { ...wanted, dropOldest: true });
    expect(body.dropped).toMatchObject([{ name: 'one' }]);
    expect(body.run.request.dropCheckpointIds).toEqual([body.dropped[0].id]);
  });
});

test('a backup may drop the very checkpoint that it builds on', async () => {
  await api.repository('vault', 'alpha');
  const backup = { volume: 'disk', repository: 'vault' };
  await api.backup({ ...backup, kind: 'full', checkpoint: 'one' });
  await limit(1);
  const increment = { ...backup, kind: 'incremental', checkpoint: 'two', dropOldest: true };
  const { body } = await api.call('POST', '/v1/backups', increment);
  expect(body.dropped).toMatchObject([{ name: 'one' }]);
  expect(body.backup.reason).toContain("'one'");
});

test('nobody drops the checkpoint that a running backup builds on', async () => {
  await api.repository('vault', 'alpha');
  const backup = { volume: 'disk', repository: 'vault' };
  await api.backup({ ...backup, kind: 'full', checkpoint: 'one' });
  const { body } = await api.call('POST', '/v1/backups', {
    ...backup,
    kind: 'incremental',
    checkpoint: 'two',
  });
  await limit(2);
  const wanted = { name: 'three', dropOldest: true };
  const problem = await api.refused('checkpoint-in-use', 'POST', CHECKPOINTS, wanted);
  expect(problem.detail).toContain(body.backup.id);
  expect(problem.detail).toContain("'one' is the oldest");
});

test('CP-13 a base needs its backup: the catalog refuses one whose backup is not there', async () => {
  await api.repository('vault', 'alpha');
  await taken('bare');
  const backup = { volume: 'disk', repository: 'vault', kind: 'incremental', checkpoint: 'next' };
  await api.refused('backup-not-found', 'POST', '/v1/backups', { ...backup, base: 'bare' });
  await api.refused('checkpoint-not-found', 'POST', '/v1/backups', backup);
  await api.backup({ ...backup, kind: 'full', checkpoint: 'one' });
  await api.backup({ ...backup, checkpoint: 'two' });
  const { body } = await api.call('POST', '/v1/backups', { ...backup, base: 'one' });
  expect(body.backup.reason).toContain("'one'");
});

describe('names and descriptions', () => {
  test('change at once, and a run brings them to the storage node', async () => {
    const [id] = await taken('one', 'two');
    const { status, body } = await api.call('PATCH', `${CHECKPOINTS}/one`, {
      name: 'first',
      description: 'x',
    });
    expect(status).toBe(202);
    expect(body.checkpoint).toMatchObject({ id, name: 'first', description: 'x' });
    expect(body.run).toMatchObject({ kind: 'update-checkpoint', checkpointId: id });
    expect((await api.call('GET', `${CHECKPOINTS}/first`)).body.id).toBe(id);
    expect((await api.call('GET', `${CHECKPOINTS}/one`)).status).toBe(404);
    // The storage node may still know it by its old name.
    const problem = await api.refused('checkpoint-name-taken', 'POST', CHECKPOINTS, { name: 'one' });
    expect(problem.detail).toContain(body.run.id);
    await api.refused('checkpoint-name-taken', 'PATCH', `${CHECKPOINTS}/two`, { name: 'one' });
    const second = await api.refused('checkpoint-not-ready', 'PATCH', `${CHECKPOINTS}/first`, { name: 'x' });
    expect(second.detail).toContain(body.run.id);
    await (await api.worker(body.run.id)).succeed();
    expect((await api.call('PATCH', `${CHECKPOINTS}/two`, { name: 'one' })).status).toBe(202);
  });

  test('are refused where they cannot be', async () => {
    await taken('one', 'two');
    await api.refused('checkpoint-name-taken', 'PATCH', `${CHECKPOINTS}/one`, { name: 'two' });
    await api.refused('invalid-name', 'PATCH', `${CHECKPOINTS}/one`, { name: randomUUID() });
    await api.refused('invalid-request', 'PATCH', `${CHECKPOINTS}/one`, {});
    await api.refused('invalid-request', 'PATCH', `${CHECKPOINTS}/one`, { description: 'x'.repeat(1025) });
    await api.refused('checkpoint-not-found', 'PATCH', `${CHECKPOINTS}/none`, { name: 'x' });
    await api.call('POST', CHECKPOINTS, { name: 'making' });
    await api.refused('checkpoint-not-ready', 'PATCH', `${CHECKPOINTS}/making`, { name: 'x' });
    const { status } = await api.call('PATCH', `${CHECKPOINTS}/one`, {
      name: 'one',
      description: 'same name',
    });
    expect(status).toBe(202);
  });

  test('protection needs no run, and keeps a checkpoint from being deleted', async () => {
    await taken('one');
    const pinnedUntil = '2999-01-01T00:00:00.000Z';
    const { status, body } = await api.call('PATCH', `${CHECKPOINTS}/one`, { pinnedUntil });
    expect(status).toBe(200);
    expect(body).toMatchObject({ run: null, checkpoint: { pinnedUntil, name: 'one' } });
    await api.refused('checkpoint-pinned', 'DELETE', `${CHECKPOINTS}/one`);
    await api.call('PATCH', `${CHECKPOINTS}/one`, { pinnedUntil: null });
    expect((await api.call('DELETE', `${CHECKPOINTS}/one`)).status).toBe(202);
  });
});

test('a limit is a number that a storage node can hold', async () => {
  expect((await limit(256)).body).toMatchObject({ name: 'disk', checkpointLimit: 256 });
  await api.refused('invalid-request', 'PATCH', '/v1/volumes/disk', { checkpointLimit: 257 });
  await api.refused('invalid-request', 'PATCH', '/v1/volumes/disk', { checkpointLimit: 0 });
  await api.refused('invalid-request', 'PATCH', '/v1/volumes/disk', {});
  await api.refused('volume-not-found', 'PATCH', '/v1/volumes/none', { checkpointLimit: 1 });
});

test('CP-06 redefining is asked for with definitions, or without', async () => {
  const { status, body } = await api.call('POST', `${CHECKPOINTS}/redefine`, { validateOnly: true });
  expect(status).toBe(202);
  expect(body.run).toMatchObject({
    kind: 'redefine-checkpoints',
    request: { definitions: null, validateOnly: true, allowInconsistent: false },
  });
  const id = randomUUID();
  const given = { checkpoints: [{ id, name: 'again' }] };
  const { body: second } = await api.call('POST', `${CHECKPOINTS}/redefine`, given);
  expect(second.run.request).toMatchObject({
    definitions: [{ checkpointId: id, name: 'again', description: null }],
    validateOnly: false,
  });
  await api.refused('invalid-request', 'POST', `${CHECKPOINTS}/redefine`, { checkpoints: [] });
  await api.refused('invalid-name', 'POST', `${CHECKPOINTS}/redefine`, { checkpoints: [{ id, name: '/' }] });
  await api.refused('volume-not-found', 'POST', '/v1/volumes/none/checkpoints/redefine', {});
});
