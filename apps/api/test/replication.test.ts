// Goal: a request for a replica writes rows of all that is missing below it, with leases that keep what is read, and
// says by name and next step what stands in its way; rules are kept as they are told, with what they are behind by.
import { parseRunRequest } from '@tidemark/proto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

let api: TestApi;
let monday: { id: string; checkpointId: string };
let tuesday: { id: string; checkpointId: string };

beforeEach(async () => {
  api = await TestApi.start();
  for (const name of ['alpha', 'beta', 'gamma']) await api.storageNode(name);
  await api.repository('nightly', 'beta');
  await api.repository('offsite', 'gamma');
  await api.volume('web', 'alpha');
  monday = await backup('monday', 'full');
  tuesday = await backup('tuesday', 'incremental');
});
afterEach(() => api.close());

async function backup(checkpoint: string, kind: string) {
  const made = await api.backup({ volume: 'web', repository: 'nightly', kind, checkpoint });
  const hour = kind === 'full' ? 8 : 9;
  const facts = { pointInTime: new Date(Date.UTC(2026, 10, 20, hour)), dirtyBytes: 1 };
  await api.app.catalog.backups.markStarted(made.id, facts);
  return made;
}

const ask = (id: string, more: object = {}) =>
  api.call('POST', `/v1/backups/${id}/replicate`, { repository: 'offsite', ...more });
const refused = (code: string, id: string, more: object = {}) =>
  api.refused(code, 'POST', `/v1/backups/${id}/replicate`, { repository: 'offsite', ...more });
const show = async (id: string) => (await api.call('GET', `/v1/backups/${id}`)).body;

/** As the worker does. */
async function arrive(run: { id: string; request: object }): Promise<void> {
  const worker = await api.worker(run.id);
  for (const { backupId } of parseRunRequest('replicate', run.request).members) {
    const facts = { pointInTime: new Date('2026-11-21T08:00:00Z'), dirtyBytes: 1 };
    await api.app.catalog.backups.markStarted(backupId, facts);
    await api.finishBackup(backupId, run.id);
  }
  await worker.succeed();
}

test('what is missing below comes first, as rows of the other repository', async () => {
  const { status, headers, body } = await ask(tuesday.id, { speedBytesPerSecond: 1000 });
  expect([status, headers.location]).toEqual([202, `/v1/runs/${body.run.id}`]);
  const request = parseRunRequest('replicate', body.run.request);
  expect(request.members.map(({ sourceBackupId }) => sourceBackupId)).toEqual([monday.id, tuesday.id]);
  expect(request).toMatchObject({
    flatten: false,
    parentBackupId: null,
    speedBytesPerSecond: 1000,
    ruleId: null,
  });
  const first = await show(request.members[0]!.backupId);
  expect(first).toMatchObject({ replicaOfId: monday.id, kind: 'full', parentId: null, state: 'creating' });
  expect(await show(body.backup.id)).toMatchObject({
    ...{
      replicaOfId: tuesday.id,
      checkpointId: tuesday.checkpointId,
      kind: 'incremental',
      parentId: first.id,
    },
    reason: `incremental: replica of backup ${tuesday.id} of repository 'nightly'`,
  });
  // What is read stays as it is.
  await api.refused('backup-in-use', 'DELETE', `/v1/backups/${monday.id}`);
  expect((await refused('backup-in-use', tuesday.id)).detail).toContain('being made');
});

test('what is there is not asked for again, and what comes is built on it', async () => {
  await arrive((await ask(monday.id)).body.run);
  expect((await refused('backup-exists', monday.id)).detail).toContain('nothing is missing');
  const { body } = await ask(tuesday.id);
  const { members, parentBackupId } = parseRunRequest('replicate', body.run.request);
  expect(members).toHaveLength(1);
  expect((await show(parentBackupId!)).replicaOfId).toBe(monday.id);
  await arrive(body.run);
  // The next increment goes where the replicas are, if that is asked for.
  const increment = { volume: 'web', repository: 'offsite', kind: 'incremental', checkpoint: 'wednesday' };
  const next = await api.call('POST', '/v1/backups', increment);
  expect(next.body.backup.parentId).toBe(body.backup.id);
});

test('flattened it is one full backup; a base on its way out is not built on', async () => {
  const first = (await ask(monday.id)).body;
  await arrive(first.run);
  await api.app.catalog.retention.hide([first.backup.id], first.run.id);
  const problem = await refused('backup-not-usable', tuesday.id);
  expect(problem.detail).toMatch(/hidden in repository 'offsite'.*flattened/);
  const { body } = await ask(tuesday.id, { flatten: true });
  expect(body.backup).toMatchObject({ kind: 'full', parentId: null, replicaOfId: tuesday.id });
});

test('a damaged backup is refused with the next step; what has sent its damage again can be flattened', async () => {
  const { backupDamage } = api.app.catalog;
  const ranges = [{ offset: 0, length: 65_536 }];
  await backupDamage.note(monday.id, ranges, monday.id);
  expect((await refused('backup-damaged', monday.id)).detail).toContain('Make a new backup');
  await refused('backup-damaged', tuesday.id);
  await refused('backup-damaged', tuesday.id, { flatten: true });
  await backupDamage.markSent(tuesday.id, ranges);
  expect((await ask(tuesday.id, { flatten: true })).status).toBe(202);
});

test('neither its own repository nor one that is away is a target', async () => {
  expect((await refused('invalid-request', monday.id, { repository: 'nightly' })).detail).toContain('itself');
  await refused('repository-not-found', monday.id, { repository: 'nowhere' });
  const { id } = await api.storageNode('delta');
  await api.repository('far', 'delta');
  await api.app.catalog.storageNodes.markUnreachable(id, 'switched off');
  await refused('storage-node-unreachable', monday.id, { repository: 'far' });
});

test('a rule tells what is missing, and what is left of it', async () => {
  const body = { name: 'away', source: 'nightly', target: 'offsite', keep: { last: 1 } };
  const { status, headers, body: rule } = await api.call('POST', '/v1/replication-rules', body);
  expect([status, headers.location]).toEqual([201, `/v1/replication-rules/${rule.id}`]);
  expect(rule).toMatchObject({
    ...{ source: 'nightly', target: 'offsite', selector: '', enabled: true, concurrency: 2, flatten: false },
    keep: { last: 1, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 },
    status: { missing: { backups: 1, bytes: 65_536 }, newestPointInTime: null, running: 0, blocked: [] },
  });
  expect(rule.status.lagMs).toBeGreaterThan(0);
  const longer = await api.call('PATCH', '/v1/replication-rules/away', { keep: { weekly: 8 } });
  expect(longer.body.keep).toMatchObject({ last: 1, weekly: 8 });
  const nothing = { keep: { last: 0, weekly: 0 } };
  await api.refused('invalid-request', 'PATCH', '/v1/replication-rules/away', nothing);
  const changed = await api.call('PATCH', '/v1/replication-rules/away', {
    keep: null,
    selector: 'tier=gold',
  });
  expect(changed.body).toMatchObject({
    keep: null,
    selector: 'tier=gold',
    status: { missing: { backups: 0 } },
  });
  await api.call('PATCH', '/v1/replication-rules/away', { selector: '' });
  const found = async () => (await api.call('GET', '/v1/replication-rules/away')).body.status;
  expect((await found()).missing.backups).toBe(2);
  await arrive((await ask(tuesday.id)).body.run);
  expect(await found()).toMatchObject({ missing: { backups: 0, bytes: 0 }, lagMs: 0 });
  expect((await api.call('GET', '/v1/replication-rules')).body.items).toMatchObject([
    { name: 'away', status: null },
  ]);
  expect((await api.call('DELETE', '/v1/replication-rules/away')).status).toBe(200);
  await api.refused('replication-rule-not-found', 'GET', '/v1/replication-rules/away');
});

test('rules that cannot be are refused', async () => {
  const rule = { name: 'away', source: 'nightly', target: 'offsite' };
  const post = (more: object) => ['POST', '/v1/replication-rules', { ...rule, ...more }] as const;
  await api.refused('invalid-request', ...post({ target: 'nightly' }));
  await api.refused('invalid-request', ...post({ selector: 'tier=€' }));
  await api.refused('invalid-request', ...post({ keep: {} }));
  await api.refused('invalid-request', ...post({ timeZone: 'Mars/Base' }));
  await api.refused('repository-not-found', ...post({ source: 'nowhere' }));
  await api.call(...post({}));
  await api.refused('replication-rule-name-taken', ...post({}));
  const back = await api.refused(
    'invalid-request',
    ...post({ name: 'back', source: 'offsite', target: 'nightly' }),
  );
  expect(back.detail).toContain("'away'");
});
