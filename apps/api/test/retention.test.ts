// Goal: a prune tells for every backup what keeps it or that it goes, a dry run changes nothing, and an intent hides
// what goes at once, so that nobody begins to use it; what is protected or in use is refused by name.
import { inDatabase } from '@tidemark/catalog/testing';
import { parseRunRequest } from '@tidemark/proto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

const DAY_MS = 86_400_000;
const NOON = Date.UTC(2026, 10, 20, 12);
const UNKNOWN_ID = '7a0d0f9e-6f3e-4f0a-9a55-0a6f4f1d2c3b';
const SIZE = 65_536;
let api: TestApi;
let backups: { id: string; checkpointId: string }[];

beforeEach(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
  await api.storageNode('beta');
  await api.repository('nightly', 'beta');
  await api.volume('web', 'alpha');
  backups = [];
  for (let day = 3; day >= 0; day--) await backup(`day-${day}`, new Date(NOON - day * DAY_MS));
});
afterEach(() => api.close());

async function backup(checkpoint: string, at: Date): Promise<void> {
  const kind = backups.length === 0 ? 'full' : 'incremental';
  const request = { volume: 'web', repository: 'nightly', kind, checkpoint };
  const { body } = await api.call('POST', '/v1/backups', request);
  const worker = await api.worker(body.run.id);
  await worker.reachCheckpoint(at);
  await api.app.catalog.backups.markStarted(body.backup.id, { pointInTime: at, dirtyBytes: 1 });
  await api.finishBackup(body.backup.id, body.run.id);
  await worker.succeed();
  backups.push({ id: body.backup.id, checkpointId: body.backup.checkpointId });
}

const idOf = (day: number) => backups[3 - day]!.id;
const prune = (keep: object, more: object = {}) =>
  api.call('POST', '/v1/prune', { repository: 'nightly', keep, ...more });
const states = async () =>
  (await api.call('GET', '/v1/backups?hidden=true')).body.items.map((one: { state: string }) => one.state);

test('a dry run tells what each rule keeps, what goes and what comes back, and changes nothing', async () => {
  const before = await api.written();
  const { status, body } = await prune({ last: 1, daily: 2 }, { dryRun: true, timeZone: 'Europe/Berlin' });
  expect([status, body.run]).toEqual([200, null]);
  expect(body.items.map((item: { backup: string }) => item.backup)).toEqual([0, 1, 2, 3].map(idOf));
  expect(body.items.map((item: { keep: string[] }) => item.keep)).toEqual([
    ['last 1', 'daily 2026-11-20'],
    ['daily 2026-11-19'],
    [],
    [],
  ]);
  const gone = { goes: true, blockedBy: null, freedBytes: SIZE };
  expect(body.items[2]).toMatchObject({ ...gone, checkpoint: { name: 'day-2', goes: true } });
  expect(body.items[0]).toMatchObject({
    goes: false,
    freedBytes: 0,
    checkpoint: { name: 'day-0', goes: false },
  });
  expect(body.freedBytes).toBe(2 * SIZE);
  expect(await api.written()).toEqual(before);
});

test('who has yet to copy what goes is told', async () => {
  await api.repository('offsite', 'alpha');
  const rule = { name: 'away', source: 'nightly', target: 'offsite', enabled: true };
  await api.call('POST', '/v1/replication-rules', rule);
  const awaited = async () =>
    (await prune({ last: 2 }, { dryRun: true })).body.items.map(
      (item: { awaitedBy: string[] }) => item.awaitedBy,
    );
  const who = ["replication rule 'away', for repository 'offsite'"];
  expect(await awaited()).toEqual([[], [], who, who]);
  await api.call('PATCH', '/v1/replication-rules/away', { enabled: false });
  expect(await awaited()).toEqual([[], [], [], []]);
});

test('a prune hides what goes and starts its run', async () => {
  const { status, headers, body } = await prune({ last: 2 }, { speedBytesPerSecond: 1000 });
  expect([status, headers.location]).toEqual([202, `/v1/runs/${body.run.id}`]);
  expect(body.items).toHaveLength(4);
  const request = parseRunRequest('prune', body.run.request);
  expect(request).toMatchObject({ speedBytesPerSecond: 1000 });
  expect(request.backupIds.toSorted()).toEqual([idOf(2), idOf(3)].toSorted());
  expect(await states()).toEqual(['available', 'available', 'hidden', 'hidden']);
  expect((await api.call('GET', '/v1/backups')).body.items).toHaveLength(2);
  // Nobody begins to use them any more.
  const target = { file: { storageNode: 'alpha', name: 'x' } };
  await api.refused('backup-not-usable', 'POST', '/v1/restores', { backup: idOf(3), target });
  await api.refused('backup-not-found', 'POST', '/v1/backups', {
    volume: 'web',
    repository: 'nightly',
    kind: 'incremental',
    checkpoint: 'late',
    base: 'day-3',
  });
});

test('what is pinned, in use or of another volume stays', async () => {
  const until = new Date(Date.now() + DAY_MS).toISOString();
  const pinned = await api.call('PATCH', `/v1/backups/${idOf(3)}`, {
    pinnedUntil: until,
    description: 'audit',
  });
  expect(pinned).toMatchObject({ status: 200, body: { pinnedUntil: until, description: 'audit' } });
  const target = { file: { storageNode: 'alpha', name: 'x' } };
  const restore = await api.call('POST', '/v1/restores', { backup: idOf(2), target });
  const { body } = await prune({ last: 1 }, { dryRun: true });
  expect(body.items.map((item: { keep: string[] }) => item.keep)).toEqual([
    ['last 1'],
    [],
    [`in use by restore run ${restore.body.run.id}`],
    [`pinned until ${until}`],
  ]);
  await api.volume('bare', 'alpha');
  expect((await prune({ last: 1 }, { dryRun: true, volume: 'bare' })).body.items).toEqual([]);
  const unpinned = await api.call('PATCH', `/v1/backups/${idOf(3)}`, { pinnedUntil: null });
  expect(unpinned.body).toMatchObject({ pinnedUntil: null, description: 'audit' });
});

test('what a backup under way builds on stays', async () => {
  await api.call('POST', '/v1/backups', {
    volume: 'web',
    repository: 'nightly',
    kind: 'incremental',
    checkpoint: 'branch',
    base: 'day-3',
  });
  const { body } = await prune({ last: 2 }, { dryRun: true });
  // The new one is being made, and holds what it builds on.
  expect(body.items[3].keep[0]).toMatch(/^in use by backup run/);
  expect(body.items[2]).toMatchObject({ goes: true, blockedBy: null });
});

test('one backup goes when it is asked for, and again when it had to wait', async () => {
  const { status, body } = await api.call('DELETE', `/v1/backups/${idOf(1)}`);
  expect([status, body.backup.state]).toEqual([202, 'hidden']);
  expect(parseRunRequest('prune', body.run.request)).toMatchObject({ backupIds: [idOf(1)] });
  await (await api.worker(body.run.id)).succeed();
  expect((await api.call('DELETE', `/v1/backups/${idOf(1)}`)).status).toBe(202);
});

test('what is protected, used, or not made yet is refused by name', async () => {
  const until = new Date(Date.now() + DAY_MS).toISOString();
  await api.call('PATCH', `/v1/backups/${idOf(3)}`, { pinnedUntil: until });
  const pinned = await api.refused('backup-pinned', 'DELETE', `/v1/backups/${idOf(3)}`);
  expect(pinned.detail).toContain(`protected until ${until}`);
  const young = await api.call('POST', '/v1/backups', {
    volume: 'web',
    repository: 'nightly',
    kind: 'incremental',
    checkpoint: 'young',
  });
  const used = await api.refused('backup-in-use', 'DELETE', `/v1/backups/${idOf(0)}`);
  expect(used.detail).toContain(`in use by run ${young.body.run.id}. Wait for it, or cancel it.`);
  await api.refused('backup-not-usable', 'DELETE', `/v1/backups/${young.body.backup.id}`);
  await api.refused('backup-not-usable', 'PATCH', `/v1/backups/${young.body.backup.id}`, {
    pinnedUntil: until,
  });
});

const lose = (day: number) =>
  inDatabase(api.database.url, client =>
    client.query("UPDATE backup SET state = 'missing' WHERE id = $1", [idOf(day)]),
  );

test('what is missing from its repository is no business of a prune, and cannot be let go', async () => {
  await lose(3);
  const { body } = await prune({ last: 1 }, { dryRun: true });
  expect(body.items[3]).toMatchObject({ backup: idOf(3), goes: false, freedBytes: 0 });
  expect(body.items[3].keep).toEqual([
    'missing from its repository: put its files back, or repair its difference with forget',
  ]);
  const refused = await api.refused('backup-not-usable', 'DELETE', `/v1/backups/${idOf(3)}`);
  expect(refused.detail).toContain('difference repair DIFFERENCE forget');
});

test('a damaged backup takes no place, and is told so', async () => {
  const { verifications } = api.app.catalog;
  await verifications.record(idOf(0), { result: 'damaged' }, UNKNOWN_ID);
  const { body } = await prune({ last: 1 }, { dryRun: true });
  expect(body.items.map((item: { keep: string[] }) => item.keep)).toEqual([
    ['takes no place of last: known to be damaged'],
    ['last 1'],
    [],
    [],
  ]);
});

test('for every checkpoint it is told what keeps it', async () => {
  await api.repository('offsite', 'alpha');
  const copied = await api.backup({
    ...{ volume: 'web', repository: 'offsite', kind: 'full', checkpoint: 'copied' },
  });
  const alone = await api.call('POST', '/v1/volumes/web/checkpoints', { name: 'alone' });
  const worker = await api.worker(alone.body.run.id);
  await worker.reachCheckpoint();
  await worker.succeed();
  await api.backup({ volume: 'web', repository: 'offsite', kind: 'full', checkpoint: 'newest' });
  const until = new Date(Date.now() + DAY_MS).toISOString();
  await api.call('PATCH', '/v1/volumes/web/checkpoints/day-2', { pinnedUntil: until });
  const { body } = await prune({ last: 1 }, { dryRun: true });
  const told = body.checkpoints.map(
    ({ name, goes, keep }: { name: string; goes: boolean; keep: string[] }) => [...[name, goes, keep]],
  );
  expect(told).toEqual([
    [
      'newest',
      false,
      ['the newest of its volume', expect.stringMatching(/^backup .* in repository offsite$/)],
    ],
    ['alone', false, ['taken without a backup']],
    ['copied', false, [`backup ${copied.id} in repository offsite`]],
    ['day-0', false, [`backup ${idOf(0)}`]],
    ['day-1', true, []],
    ['day-2', false, [`pinned until ${until}`]],
    ['day-3', true, []],
  ]);
  expect(body.items[2]).toMatchObject({
    volume: 'web',
    checkpoint: { name: 'day-2', goes: false, keep: [`pinned until ${until}`] },
  });
  const { body: done } = await prune({ last: 1 });
  expect(done.checkpoints).toEqual(body.checkpoints);
});

test.each([
  [{ keep: {} }, 'invalid-request'],
  [{ keep: { last: 0, daily: 0 } }, 'invalid-request'],
  [{ keep: { last: -1 } }, 'invalid-request'],
  [{ keep: { fortnightly: 1 } }, 'invalid-request'],
  [{ timeZone: 'Mars/Base' }, 'invalid-request'],
  [{ repository: 'nope' }, 'repository-not-found'],
  [{ volume: 'nope' }, 'volume-not-found'],
])('a prune with %j is refused as %s', async (change, code) => {
  await api.refused(code, 'POST', '/v1/prune', { repository: 'nightly', keep: { last: 1 }, ...change });
});

test('an unknown backup is refused, and so is a change of nothing', async () => {
  await api.refused('backup-not-found', 'DELETE', `/v1/backups/${UNKNOWN_ID}`);
  await api.refused('backup-not-found', 'PATCH', `/v1/backups/${UNKNOWN_ID}`, { pinnedUntil: null });
  await api.refused('invalid-request', 'PATCH', `/v1/backups/${idOf(0)}`, {});
});
