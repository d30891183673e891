// Goal: what an operator has set to be kept by now stays, whatever rules a firing began with, or a worker has read
// before. Method: a real catalog with three backups, and rules that were changed in between.
import { randomUUID } from 'node:crypto';
import type {
  Backup,
  Catalog,
  FiringMember,
  Policy,
  PolicyDefinition,
  RetentionRules,
} from '@tidemark/catalog';
import { addBackup, inDatabase, openTestCatalog, seed, type TestDatabase } from '@tidemark/catalog/testing';
import { pino } from 'pino';
import { beforeEach, expect, test } from 'vitest';
import { WORKER_LIMITS } from './limits.ts';
import { followUpsOf } from './policies/follow-ups.ts';
import { ReplicationScheduler } from './replication-scheduler.ts';

const NONE = { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
const LITTLE = { ...NONE, last: 1 };
const MUCH = { ...NONE, last: 10 };
const SCHEDULE = { cron: '@hourly', timeZone: 'UTC', missed: 'all', missedMax: 3, jitterMs: 0 } as const;
const log = pino({ level: 'silent' });
let catalog: Catalog;
let database: TestDatabase;
let volumeId: string;
let repositoryId: string;
let offsiteId: string;
let made: Backup;

beforeEach(async () => {
  ({ catalog, database } = await openTestCatalog());
  const { node, volume, repository } = await seed(catalog);
  const report = { instanceId: 'i', nbdAddress: 'h:1', version: '1', capacityBytes: 1, availableBytes: 1 };
  await catalog.storageNodes.markOnline(node.id, report);
  [volumeId, repositoryId, offsiteId] = [volume.id, repository.id, randomUUID()];
  await catalog.repositories.create({
    id: offsiteId,
    name: 'offsite',
    storageNodeId: node.id,
    limitBytes: null,
  });
  await catalog.repositories.markReady(offsiteId, null);
  for (const checkpoint of ['one', 'two', 'three']) {
    made = await addBackup(catalog, {
      volumeId,
      repositoryId,
      checkpoint,
      at: new Date(Date.now() - 60_000),
    });
  }
});

const pruned = async () =>
  (await catalog.runs.list({ kind: 'prune' })).items.map(
    ({ request }) => (request as { backupIds: string[] }).backupIds.length,
  );

async function followUp(now: { keep: RetentionRules | null; repositoryId?: string }): Promise<number[]> {
  const began: PolicyDefinition = {
    ...{ description: '', selector: '', schedule: SCHEDULE, kind: 'full', fullEvery: 0, grouped: null },
    ...{ repositoryId, replicaIds: [], keep: LITTLE, verifyPercent: 0, concurrency: 1 },
    ...{ bandwidth: [], priority: 1, dropOldest: true, retry: { times: 0, delayMs: 0 } },
  };
  const id = randomUUID();
  const definition = { ...began, ...now };
  const policy: Policy = await catalog.policies.create({ id, name: 'nightly', enabled: true, definition });
  const firing = { id: randomUUID(), definition: began } as Parameters<typeof followUpsOf>[1]['firing'];
  const member = { state: 'succeeded', volumeId, backupId: made.id } as FiringMember;
  await catalog.transaction(tx => followUpsOf(tx, { firing, policy, members: [member], now: new Date() }));
  return pruned();
}

test('a policy prunes by its rules', async () => {
  expect(await followUp({ keep: LITTLE })).toEqual([2]);
});

test.each([
  ['keep more', () => ({ keep: MUCH })],
  ['are none any more', () => ({ keep: null })],
  ['are for another repository', () => ({ keep: LITTLE, repositoryId: offsiteId })],
])('a firing whose rules began so prunes nothing where they %s', async (_what, now) => {
  expect(await followUp(now())).toEqual([]);
});

/** As a worker looks that has read the rule as it was. */
async function lookWith(now: { keep: RetentionRules | null; enabled: boolean }): Promise<number[]> {
  await inDatabase(database.url, client =>
    client.query(
      `INSERT INTO backup (id, repository_id, volume_id, volume_name, checkpoint_id, checkpoint_name, replica_of_id,
        kind, reason, size_bytes, stored_bytes, state, point_in_time, created_at)
      SELECT gen_random_uuid(), $1, volume_id, volume_name, checkpoint_id, checkpoint_name, id,
        kind, reason, size_bytes, stored_bytes, state, point_in_time, created_at FROM backup`,
      [offsiteId],
    ),
  );
  const rule = await catalog.replicationRules.create({
    ...{ id: randomUUID(), name: 'away', sourceRepositoryId: repositoryId, targetRepositoryId: offsiteId },
    ...{ selector: '', timeZone: 'UTC', flatten: false, newestFirst: false, concurrency: 2 },
    ...{ speedBytesPerSecond: null, ...now },
  });
  // Also gone from the source, or it would be wanted as before.
  await inDatabase(database.url, client =>
    client.query('DELETE FROM backup WHERE repository_id = $1 AND id <> $2', [repositoryId, made.id]),
  );
  const { replicationRules } = catalog;
  replicationRules.list = async () => ({
    items: [{ ...rule, enabled: true, keep: LITTLE }],
    nextCursor: null,
  });
  const scheduler = new ReplicationScheduler({ catalog, limits: WORKER_LIMITS, log, now: () => Date.now() });
  await scheduler.lookAtAll();
  return pruned();
}

test('a rule prunes by what it keeps', async () => {
  expect(await lookWith({ keep: LITTLE, enabled: true })).toEqual([2]);
});

test.each([
  ['keeps more', { keep: MUCH, enabled: true }],
  ['keeps everything', { keep: null, enabled: true }],
  ['is switched off', { keep: LITTLE, enabled: false }],
])('a rule that was read before prunes nothing where it %s by now', async (_what, now) => {
  expect(await lookWith(now)).toEqual([]);
});
