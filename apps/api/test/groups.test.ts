// Goal: groups are asked for, looked at and deleted through the contract; what makes no sense, or cannot go, is refused
// in words that name the object, its state and the next step, before anything is written. Method: a whole api on a
// database of its own, and a hand that does what a worker would.
import { parseRunRequest } from '@tidemark/proto';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

const AT = new Date('2026-11-21T08:00:00.000Z');
const TIMES = { fenceSentMs: 0, allFencedMs: 1, commitSentMs: 1, allCommittedMs: 2, releaseSentMs: 2 };
const PROOF = {
  ...{
    runId: '7a0d0f9e-6f3e-4f0a-9a55-0a6f4f1d2c3b',
    fenceLimitMs: 500,
    nodes: [],
    longestWaitMs: 1,
    hooks: [],
  },
  coordinator: { ...TIMES, allReleasedMs: 3 },
};
let api: TestApi;
let count = 0;
let name: string;

beforeAll(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
  await api.storageNode('beta');
  await api.volume('web', 'alpha');
  await api.volume('db', 'beta');
  await api.volume('apart', 'beta');
  await api.repository('vault', 'beta');
  for (const volume of ['web', 'db']) {
    await api.call('PATCH', `/v1/volumes/${volume}`, { labels: { app: 'shop', part: volume } });
  }
});
afterAll(() => api.close());

beforeEach(() => {
  count += 1;
  name = `group-${count}`;
});

const create = (body: object) => api.call('POST', '/v1/groups', { name, ...body });
const refused = (code: Parameters<TestApi['refused']>[0], body: object) =>
  api.refused(code, 'POST', '/v1/groups', { name, ...body });

/** As a worker does; with backups, these are there, too. */
async function make(body: object) {
  const { group, run } = (await create(body)).body;
  const { groups, checkpoints, backups } = api.app.catalog;
  await groups.decide(group.id, { pointInTime: AT, proof: PROOF });
  for (const { checkpointId, backupId } of group.members) {
    await checkpoints.markReady(checkpointId, AT, run.id);
    if (!backupId) continue;
    await backups.markStarted(backupId, { pointInTime: AT, dirtyBytes: 1 });
    await api.finishBackup(backupId, run.id);
  }
  await groups.end(group.id, { state: 'ready' });
  await (await api.worker(run.id)).succeed({ groupId: group.id });
  return group;
}

test('a group of the volumes with a label is accepted as a run, listed and looked at', async () => {
  const { status, headers, body } = await create({ selector: 'app=shop', fenceLimitMs: 250 });
  expect([status, headers.location]).toEqual([202, `/v1/runs/${body.run.id}`]);
  expect(body.group).toMatchObject({
    ...{ name, kind: 'checkpoint', completion: 'grouped', selector: 'app=shop', state: 'creating' },
    ...{ fenceLimitMs: 250, pointInTime: null, proof: null, error: null, runId: body.run.id },
    members: [
      { volume: 'db', state: 'creating', backupId: null },
      { volume: 'web', state: 'creating', backupId: null },
    ],
  });
  const request = parseRunRequest('create-group', body.run.request);
  expect(request.members.map(({ volume }) => volume).sort()).toEqual(['db', 'web']);
  expect(request).toMatchObject({ groupId: body.group.id, fenceLimitMs: 250, hooks: [], backup: null });
  const { items } = (await api.call('GET', '/v1/volumes/web/checkpoints')).body;
  expect(items.at(-1)).toMatchObject({ name, state: 'creating' });
  expect((await api.call('GET', `/v1/groups/${name}`)).body).toEqual(body.group);
  expect((await api.call('GET', '/v1/groups?state=creating')).body.items).toEqual([body.group]);
  await api.refused('group-not-ready', 'DELETE', `/v1/groups/${name}`);
  await api.app.catalog.groups.end(body.group.id, {
    state: 'failed',
    error: { code: 'io-error', message: 'x' },
  });
  await (await api.worker(body.run.id)).fail({ code: 'io-error', message: 'x' });
  expect((await api.call('GET', `/v1/groups/${name}`)).body).toMatchObject({
    state: 'failed',
    finishedAt: expect.any(String),
  });
});

test('each member of a group backup has its own base, or is full and says why', async () => {
  await api.backup({ volume: 'web', repository: 'vault', kind: 'full', checkpoint: `before-${name}` });
  const { body } = await create({
    volumes: ['web', 'db'],
    backup: { repository: 'vault' },
    completion: 'individual',
  });
  expect(body.group).toMatchObject({ kind: 'backup', completion: 'individual', selector: null });
  const backups: Record<string, { kind: string; reason: string; runId?: string }> = {};
  for (const { volume, backupId } of body.group.members) {
    backups[volume] = (await api.call('GET', `/v1/backups/${backupId}`)).body;
  }
  expect(backups.web).toMatchObject({
    kind: 'incremental',
    reason: `incremental: since checkpoint 'before-${name}'`,
  });
  expect(backups.db).toMatchObject({
    kind: 'full',
    reason: "full: no checkpoint of volume 'db' has a backup in repository 'vault'",
  });
  const { members } = parseRunRequest('create-group', body.run.request);
  expect(members.find(({ volume }) => volume === 'db')!.backup).toMatchObject({
    kind: 'full',
    parentBackupId: null,
  });
  const children = body.group.members.map(({ runId }: { runId: string }) => runId);
  expect(new Set(children).size).toBe(2);
  for (const id of children) expect((await api.call('GET', `/v1/runs/${id}`)).status).toBe(404);
});

test('hooks are named by storage node, and their addresses hold no secrets', async () => {
  const hooks = [
    { command: 'freeze-db', storageNode: 'beta' },
    { webhook: 'http://db.example/freeze', timeoutMs: 2000 },
  ];
  const { body } = await create({ volumes: ['apart'], hooks });
  expect(parseRunRequest('create-group', body.run.request).hooks).toMatchObject([
    { command: 'freeze-db', storageNode: 'beta', timeoutMs: 10_000 },
    { webhook: 'http://db.example/freeze', timeoutMs: 2000 },
  ]);
  const secret = { volumes: ['db'], hooks: [{ webhook: 'https://me:hush@db.example/freeze' }] };
  expect((await refused('invalid-request', secret)).detail).not.toContain('hush');
  await refused('invalid-request', { volumes: ['db'], hooks: [{ webhook: 'file:///etc/passwd' }] });
  const elsewhere = { volumes: ['db'], hooks: [{ command: 'x', storageNode: 'gamma' }] };
  await refused('storage-node-not-found', elsewhere);
  const unfit = async (hook: object) =>
    (await refused('invalid-request', { volumes: ['db'], hooks: [hook] })).detail;
  expect(await unfit({ storageNode: 'beta' })).toBe(
    "'hooks.0' in the body does not fit: 'command' of it is missing; send a string",
  );
  expect(await unfit({ webhook: 'db-01/freeze' })).toMatch(/is no URL; send one with http: or https:$/);
});

test('what cannot be a group is refused before anything is written', async () => {
  await refused('invalid-request', {});
  await refused('invalid-request', { volumes: ['web'], selector: 'app=shop' });
  expect((await refused('invalid-request', { volumes: [] })).detail).toMatch(/must hold at least 1 entry$/);
  await refused('invalid-request', { volumes: ['web'], fenceLimitMs: 1 });
  await refused('invalid-request', { selector: 'app=(' });
  await refused('volume-not-found', { volumes: ['web', 'nobody'] });
  expect((await refused('volume-not-found', { selector: 'app=nobody' })).detail).toContain("'app=nobody'");
  expect((await refused('invalid-request', { volumes: ['web', 'web'] })).detail).toContain(
    "'web' is named twice",
  );
  await refused('repository-not-found', { volumes: ['web'], backup: { repository: 'nowhere' } });
  const { group } = (await create({ volumes: ['web'] })).body;
  expect((await refused('group-name-taken', { volumes: ['apart'] })).detail).toContain(
    'tidemark group delete',
  );
  await api.app.catalog.groups.end(group.id, { state: 'cancelled' });
  const taken = await refused('checkpoint-name-taken', { volumes: ['web'] });
  expect(taken.detail).toContain("Volume 'web' has a checkpoint");
  await api.refused('group-not-found', 'GET', '/v1/groups/nobody');
  await api.refused('group-not-found', 'DELETE', '/v1/groups/nobody');
});

test('the oldest checkpoint of a full chain goes where the caller lets it, and the answer says so', async () => {
  await api.volume('chain', 'beta');
  await make({ volumes: ['chain'] });
  await api.call('PATCH', '/v1/volumes/chain', { checkpointLimit: 1 });
  const oldest = (await api.call('GET', '/v1/volumes/chain/checkpoints')).body.items[0];
  const volumeId = (await api.call('GET', '/v1/volumes/chain')).body.id;
  name = `${name}-next`;
  const full = await refused('checkpoint-limit', { volumes: ['chain', 'web'] });
  expect(full.detail).toContain('"dropOldest": true');
  const { status, body } = await create({ volumes: ['chain', 'web'], dropOldest: true });
  expect(status).toBe(202);
  expect(body.dropped).toEqual([{ volumeId, volume: 'chain', id: oldest.id, name: oldest.name }]);
  const { members } = parseRunRequest('create-group', body.run.request);
  expect(members.find(({ volume }) => volume === 'chain')!.dropCheckpointIds).toEqual([oldest.id]);
  const { items } = (await api.call('GET', '/v1/volumes/chain/checkpoints')).body;
  expect(items.map((one: { state: string }) => one.state)).toEqual(['deleting', 'creating']);
});

test('a group goes with its checkpoints and backups, which are hidden at once', async () => {
  const group = await make({ volumes: ['web', 'db'], backup: { repository: 'vault', kind: 'full' } });
  const { status, body } = await api.call('DELETE', `/v1/groups/${name}`);
  expect([status, body.group.state]).toEqual([202, 'deleting']);
  const request = parseRunRequest('delete-group', body.run.request);
  expect(request.checkpoints.map(({ checkpointId }) => checkpointId).sort()).toEqual(
    group.members.map(({ checkpointId }: { checkpointId: string }) => checkpointId).sort(),
  );
  const prune = (await api.call('GET', `/v1/runs/${request.pruneRunId}`)).body;
  expect(prune.kind).toBe('prune');
  for (const { backupId, checkpointId, volumeId } of group.members) {
    expect((await api.call('GET', `/v1/backups/${backupId}`)).body.state).toBe('hidden');
    const checkpoint = await api.call('GET', `/v1/volumes/${volumeId}/checkpoints/${checkpointId}`);
    expect(checkpoint.body.state).toBe('deleting');
  }
  await api.refused('group-not-ready', 'DELETE', `/v1/groups/${name}`);
});

test('a group stays whose members are protected or in use, and the refusal names them', async () => {
  const { id, members } = await make({
    volumes: ['web', 'db'],
    backup: { repository: 'vault', kind: 'full' },
  });
  const [one] = members;
  const path = `/v1/groups/${id}`;
  const pin = (pinnedUntil: string | null) =>
    api.call('PATCH', `/v1/backups/${one.backupId}`, { pinnedUntil });
  await pin('2999-12-31T00:00:00.000Z');
  const pinned = await api.refused('backup-pinned', 'DELETE', path);
  expect(pinned.detail).toContain(`volume '${one.volume}' in group '${name}'`);
  await pin(null);
  await api.app.catalog.backupLeases.take(one.backupId, 'volume', one.volumeId);
  await api.refused('backup-in-use', 'DELETE', path);
  await api.app.catalog.backupLeases.drop('volume', one.volumeId);
  const checkpoint = `/v1/volumes/${one.volumeId}/checkpoints/${one.checkpointId}`;
  await api.call('PATCH', checkpoint, { pinnedUntil: '2999-12-31T00:00:00.000Z' });
  const kept = await api.refused('checkpoint-pinned', 'DELETE', path);
  expect(kept.detail).toContain(`Group '${name}' keeps its checkpoint of volume '${one.volume}'`);
  await api.call('PATCH', checkpoint, { pinnedUntil: null });
  await api.app.catalog.storageNodes.markUnreachable(
    (await api.call('GET', '/v1/storage-nodes/alpha')).body.id,
    'x',
  );
  await api.refused('storage-node-unreachable', 'DELETE', path);
});
