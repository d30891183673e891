// Goal: what a policy or a rule lets go stays as long as it is yet to be copied elsewhere, and no longer: not for what
// is switched off, given up, cannot be copied, or is brought by nobody for a week. Method: rows of backups, firings and
// rules in a catalog with a clock that is set by hand.
import { randomUUID } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import {
  type Backup,
  type Catalog,
  goneByAll,
  type PolicyDefinition,
  type ReplicationRule,
  type RunState,
} from '../index.ts';
import { inDatabase, openTestCatalog, type TestDatabase } from '../testing/index.ts';
import { addBackup, seed } from '../testing/nouns.ts';

const DAY_MS = 86_400_000;
const NOTHING = { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
const POLICY: Omit<PolicyDefinition, 'repositoryId' | 'replicaIds'> = {
  ...{
    description: '',
    selector: 'app=shop',
    kind: 'incremental',
    fullEvery: 0,
    keep: null,
    verifyPercent: 0,
  },
  schedule: { cron: '@hourly', timeZone: 'UTC', missed: 'all', missedMax: 3, jitterMs: 0 },
  ...{ concurrency: 1, bandwidth: [], priority: 1, retry: { times: 0, delayMs: 0 }, dropOldest: true },
  grouped: null,
};
const runId = randomUUID();

let catalog: Catalog;
let database: TestDatabase;
let nowMs: number;
let ids: { volumeId: string; repositoryId: string };
let offsite: string;
/** Each on the one before. */
let chain: [Backup, Backup, Backup];

beforeEach(async () => {
  nowMs = Date.now();
  ({ catalog, database } = await openTestCatalog({ clock: () => new Date(nowMs) }));
  const { node, volume, repository } = await seed(catalog);
  await catalog.volumes.update(volume.id, { labels: { app: 'shop' } });
  ids = { volumeId: volume.id, repositoryId: repository.id };
  offsite = randomUUID();
  const wanted = { id: offsite, name: 'offsite', storageNodeId: node.id, limitBytes: null };
  await catalog.repositories.create(wanted);
  await catalog.repositories.markReady(offsite, null);
  const made: Backup[] = [];
  for (const checkpoint of ['one', 'two', 'three']) {
    const parentId = made.at(-1)?.id;
    const at = new Date(nowMs - (10 - made.length) * DAY_MS);
    made.push(await addBackup(catalog, { ...ids, checkpoint, at, ...(parentId && { parentId }) }));
  }
  chain = made as typeof chain;
});

/** Which of the first two go when somebody lets both go. */
async function gone(): Promise<string[]> {
  const rows = await catalog.retention.backups(ids.repositoryId);
  const goes = rows.slice(0, 2);
  const { repositoryId } = ids;
  const left = await goneByAll(catalog, { repositoryId, by: randomUUID(), rows, goes, now: new Date(nowMs) });
  return left.map(({ checkpoint }) => checkpoint);
}

/** A firing under way, whose member is not admitted yet. */
async function fire(): Promise<{ policyId: string; firingId: string }> {
  const definition: PolicyDefinition = {
    ...POLICY,
    ...{ repositoryId: ids.repositoryId, replicaIds: [offsite] },
  };
  const { id: policyId } = await catalog.policies.create({
    ...{ id: randomUUID(), name: 'nightly', enabled: true, definition },
  });
  const firingId = await catalog.policies.fire(policyId);
  await catalog.firings.begin(firingId);
  return { policyId, firingId };
}

async function copy(source: Backup, state: 'available' | 'creating' = 'available'): Promise<string> {
  const { volumeId, checkpointId, checkpoint, id: replicaOfId } = source;
  const id = randomUUID();
  const facts = { reason: 'replica', sizeBytes: 2 ** 40, parentId: null, replicaOfId };
  await catalog.backups.create({
    ...{ id, repositoryId: offsite, volumeId, volumeName: 'disk', checkpointId, checkpoint },
    ...facts,
  });
  await catalog.backups.markStarted(id, { pointInTime: source.pointInTime!, dirtyBytes: 1 });
  const stored = { storedBytes: 1, sentBytes: 1, fileName: 'x' };
  if (state === 'available') await catalog.backups.markAvailable(id, stored, runId);
  return id;
}

function rule(more: Partial<ReplicationRule> = {}): Promise<ReplicationRule> {
  const { repositoryId: sourceRepositoryId } = ids;
  return catalog.replicationRules.create({
    ...{ id: randomUUID(), name: 'away', sourceRepositoryId, targetRepositoryId: offsite, selector: '' },
    ...{ enabled: true, keep: null, timeZone: 'UTC', flatten: false, newestFirst: false },
    ...{ concurrency: 2, speedBytesPerSecond: null },
    ...more,
  });
}

test('what nobody has yet to copy goes', async () => {
  expect(await gone()).toEqual(['one', 'two']);
});

test.each(['succeeded', 'failed'] as const)(
  'a replica of a firing is waited for until it has %s',
  async state => {
    const { firingId } = await fire();
    await catalog.firingReplicas.add(firingId, { backupId: chain[0].id, repositoryIds: [offsite] });
    expect(await gone()).toEqual(['two']);
    const [waiting] = await catalog.firingReplicas.listDue(10);
    await catalog.firingReplicas.started(waiting!.id, randomUUID());
    expect(await gone()).toEqual(['two']);
    const [replica] = await catalog.firingReplicas.listEnded(10);
    await catalog.firingReplicas.end(replica!, { state, reason: null });
    expect(await gone()).toEqual(['one', 'two']);
  },
);

test('a firing waits for no replica once its policy, or the target, is gone', async () => {
  const { policyId, firingId } = await fire();
  await catalog.firingReplicas.add(firingId, { backupId: chain[0].id, repositoryIds: [offsite] });
  const setState = (state: string) =>
    inDatabase(database.url, db =>
      db.query('UPDATE repository SET state = $1 WHERE id = $2', [state, offsite]),
    );
  await setState('lost');
  expect(await gone()).toEqual(['one', 'two']);
  await setState('ready');
  expect(await gone()).toEqual(['two']);
  await catalog.policies.delete(policyId);
  expect(await gone()).toEqual(['one', 'two']);
});

test('a backup waits for its replica before that is asked for', async () => {
  const { firingId } = await fire();
  await inDatabase(database.url, db =>
    db.query(
      `UPDATE policy_firing_member SET state = 'admitted', backup_id = $1, run_id = gen_random_uuid(),
      admitted_at = now() WHERE firing_id = $2`,
      [chain[1].id, firingId],
    ),
  );
  expect(await gone()).toEqual([]);
});

test('what the replica is to stand on stays with it, unless the target has it', async () => {
  const { firingId } = await fire();
  await catalog.firingReplicas.add(firingId, { backupId: chain[2].id, repositoryIds: [offsite] });
  expect(await gone()).toEqual([]);
  await copy(chain[1]);
  expect(await gone()).toEqual(['one', 'two']);
});

test('a rule is waited for until it has brought what it keeps', async () => {
  const { id } = await rule();
  expect(await gone()).toEqual([]);
  const replica = await copy(chain[0]);
  await copy(chain[1], 'creating');
  expect(await gone()).toEqual(['one']);
  // What was let go there stays gone.
  await catalog.retention.hide([replica], runId);
  expect(await gone()).toEqual(['one']);
  await catalog.replicationRules.update(id, { keep: { ...NOTHING, last: 2 } });
  expect(await gone()).toEqual(['one']);
  await catalog.replicationRules.update(id, { keep: { ...NOTHING, last: 1 } });
  expect(await gone()).toEqual(['one', 'two']);
});

test('nobody waits for a rule that is switched off, gone, or for other volumes', async () => {
  const { id } = await rule();
  for (const change of [{ enabled: false }, { enabled: true, selector: 'app=other' }]) {
    await catalog.replicationRules.update(id, change);
    expect(await gone()).toEqual(['one', 'two']);
  }
  await catalog.replicationRules.update(id, { selector: 'app=shop' });
  expect(await gone()).toEqual([]);
  await catalog.replicationRules.delete(id);
  expect(await gone()).toEqual(['one', 'two']);
});

test('nobody waits for what a rule cannot bring', async () => {
  await rule();
  await rule({ name: 'by mistake', keep: NOTHING });
  await catalog.backupDamage.note(chain[0].id, [{ offset: 0, length: 65_536 }], runId);
  expect(await gone()).toEqual(['one', 'two']);
});

test('a target that is lost is not waited for', async () => {
  await rule();
  await inDatabase(database.url, db =>
    db.query(`UPDATE repository SET state = 'lost' WHERE id = $1`, [offsite]),
  );
  expect(await gone()).toEqual(['one', 'two']);
});

test('a rule that brings nothing is waited for a week, counted anew with each replica', async () => {
  const { id } = await rule();
  const run = async (state: RunState) => {
    const request = { ruleId: id };
    const facts = { kind: 'replicate', repositoryId: offsite, request } as const;
    const { id: runId } = await catalog.runs.create({ id: randomUUID(), ...facts });
    await inDatabase(database.url, db =>
      db.query('UPDATE run SET state = $1, finished_at = $2 WHERE id = $3', [state, new Date(nowMs), runId]),
    );
  };
  nowMs += 6 * DAY_MS;
  await run('succeeded');
  nowMs += 6 * DAY_MS;
  await run('failed');
  expect(await gone()).toEqual([]);
  nowMs += 2 * DAY_MS;
  expect(await gone()).toEqual(['one', 'two']);
  // One that has come since waits its own week.
  await inDatabase(database.url, db =>
    db.query('UPDATE backup SET finished_at = $1 WHERE id = $2', [new Date(nowMs), chain[1].id]),
  );
  expect(await gone()).toEqual(['one']);
  // What a clock that was wrong has written tells nothing.
  await inDatabase(database.url, db =>
    db.query(`UPDATE backup SET finished_at = '2099-01-01' WHERE id = $1`, [chain[1].id]),
  );
  expect(await gone()).toEqual(['one', 'two']);
});
