// Goal: differences are listed, compared for and repaired as the contract says; after a failed bitmap audit the next
// backup is full and says why.
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

const UNKNOWN_ID = '7a0d0f9e-6f3e-4f0a-9a55-0a6f4f1d2c3b';
let api: TestApi;
let alpha: { id: string };
let web: { id: string };

beforeAll(async () => {
  api = await TestApi.start();
  alpha = await api.storageNode('alpha');
  web = await api.volume('web', 'alpha');
  await api.repository('nightly', 'alpha');
});

afterAll(() => api.close());

async function see(kind: string, actions: string[]) {
  const seen = {
    ...({ kind, subjectType: 'volume', subjectId: web.id, message: 'It is not there.' } as const),
    data: { actions, failure: 'adopt: volume-name-taken: The name is taken.', name: 'web' },
  };
  const how = { runId: randomUUID(), newId: () => randomUUID() };
  return (await api.app.catalog.differences.record(alpha.id, [seen], how))[0]!;
}

test('a named storage node is compared by one run, all by one each', async () => {
  const { status, body } = await api.call('POST', '/v1/reconcile', { storageNode: 'alpha' });
  expect([status, body.runs.length, body.skipped]).toEqual([202, 1, []]);
  expect(body.runs[0]).toMatchObject({
    kind: 'reconcile',
    request: { storageNodeId: alpha.id, cause: 'asked' },
  });
  const beta = await api.storageNode('beta');
  await api.app.catalog.storageNodes.markUnreachable(beta.id, 'gone');
  const all = await api.call('POST', '/v1/reconcile', {});
  expect([all.body.runs.length, all.body.skipped]).toEqual([1, ['beta']]);
  await api.refused('storage-node-unreachable', 'POST', '/v1/reconcile', { storageNode: 'beta' });
  await api.refused('storage-node-not-found', 'POST', '/v1/reconcile', { storageNode: 'nope' });
});

test('differences are listed, looked at, and repaired by a run', async () => {
  const { id } = await see('volume-missing', ['forget']);
  const { items } = (await api.call('GET', '/v1/differences?state=open&storageNode=alpha')).body;
  expect(items).toEqual([(await api.call('GET', `/v1/differences/${id}`)).body]);
  expect(items[0]).toMatchObject({
    ...{ id, kind: 'volume-missing', state: 'open', actions: ['forget'], data: { name: 'web' } },
    failure: 'adopt: volume-name-taken: The name is taken.',
  });
  const problem = await api.refused('invalid-request', 'POST', `/v1/differences/${id}/repair`, {
    action: 'adopt',
  });
  expect(problem.detail).toContain('Choose one of: forget');
  const { status, body } = await api.call('POST', `/v1/differences/${id}/repair`, { action: 'forget' });
  expect([status, body.run.kind, body.run.request.action]).toEqual([202, 'repair-difference', 'forget']);
  await api.app.catalog.differences.markRepaired(id, 'forget', body.run.id);
  await api.refused('difference-not-found', 'POST', `/v1/differences/${id}/repair`, { action: 'forget' });
  await api.refused('difference-not-found', 'GET', `/v1/differences/${UNKNOWN_ID}`);
  expect((await api.call('GET', '/v1/differences?state=open')).body.items).toEqual([]);
});

test('an audit is a run about the volume', async () => {
  const { status, body } = await api.call('POST', '/v1/volumes/web/audit', { sampleBytes: 0 });
  expect([status, body.run.kind, body.run.request]).toEqual([
    202,
    'audit',
    { volumeId: web.id, repositoryId: null, sampleBytes: 0 },
  ]);
  expect(body.volume).toMatchObject({ auditedAt: null, auditResult: null });
  await api.refused('volume-not-found', 'POST', '/v1/volumes/nope/audit', {});
});

test('after an audit that found a difference the next backup is full and says so', async () => {
  const request = { volume: 'web', repository: 'nightly' };
  await api.backup({ ...request, kind: 'full', checkpoint: 'monday' });
  const audit = (result: 'equal' | 'different', at: string) =>
    api.app.catalog.volumes.markAudited(web.id, { at: new Date(at), result, data: {} }, randomUUID());
  const next = async (checkpoint: string, base?: string) => {
    const wanted = { ...request, kind: 'incremental', checkpoint, ...(base && { base }) };
    return (await api.call('POST', '/v1/backups', wanted)).body.backup;
  };
  await api.app.catalog.backups.markStarted((await api.app.catalog.backups.list()).items[0]!.id, {
    pointInTime: new Date('2026-11-21T08:00:00.000Z'),
    dirtyBytes: 1,
  });
  await audit('equal', '2026-11-21T09:00:00.000Z');
  const tuesday = await api.backup({ ...request, kind: 'incremental', checkpoint: 'tuesday' });
  // Made while the audit looked, with the bitmaps that it is about to find wrong.
  await api.app.catalog.backups.markStarted(tuesday.id, {
    pointInTime: new Date('2026-11-21T09:01:00.000Z'),
    dirtyBytes: 1,
  });
  await audit('different', '2026-11-21T09:00:00.000Z');
  const { body } = await api.call('GET', '/v1/backups');
  expect(body.items).toMatchObject([
    { kind: 'incremental', distrusted: true },
    { kind: 'full', distrusted: true },
  ]);
  const full = await next('wednesday');
  expect([full.kind, full.parentId]).toEqual(['full', null]);
  expect(full.reason).toMatch(/^full: the bitmap audit of 2026-11-21T09:00:00.000Z found/);
  expect((await next('thursday', 'monday')).kind).toBe('full');
  await audit('equal', '2026-11-21T09:30:00.000Z');
  expect((await next('again', 'monday')).kind, 'a sample that is equal proves nothing of the rest').toBe(
    'full',
  );
  // Of a full backup that came later, increments can be made again.
  const later = await api.backup({ ...request, kind: 'full', checkpoint: 'friday' });
  await api.app.catalog.backups.markStarted(later.id, {
    pointInTime: new Date('2026-11-21T10:00:00.000Z'),
    dirtyBytes: 1,
  });
  expect(await next('saturday', 'friday')).toMatchObject({ kind: 'incremental', parentId: later.id });
});

test('nothing is built on a backup that stands on a missing one: the next is full and says so', async () => {
  const request = { volume: 'web', repository: 'nightly' };
  const make = async (kind: string, checkpoint: string, at: string) => {
    const backup = await api.backup({ ...request, kind, checkpoint });
    const facts = { pointInTime: new Date(at), dirtyBytes: 1 };
    await api.app.catalog.backups.markStarted(backup.id, facts);
    return backup.id;
  };
  const full = await make('full', 'june', '2026-11-21T11:00:00.000Z');
  const parent = await make('incremental', 'july', '2026-11-21T11:01:00.000Z');
  const last = await make('incremental', 'august', '2026-11-21T11:02:00.000Z');
  expect((await api.app.catalog.backups.get(last)).parentId).toBe(parent);
  await api.app.catalog.adoption.markBackupMissing(full, randomUUID());
  const wanted = { ...request, kind: 'incremental', checkpoint: 'september' };
  const { backup } = (await api.call('POST', '/v1/backups', wanted)).body;
  expect([backup.kind, backup.parentId]).toEqual(['full', null]);
  expect(backup.reason).toContain(
    `${last} stands on ${full} (checkpoint 'june'), which its repository does not`,
  );
});
