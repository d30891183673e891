// Goal: events and entries of the audit log go when they are too old, and runs that ended long ago with their steps,
// several workers at it, in bounded steps, and never where they are kept for ever; what goes on and what something
// still refers to stays, and what referred to a run that went can still be read. Method: real catalogs with runs of
// each kind of reference, and a clock that is far ahead.
import { randomUUID } from 'node:crypto';
import { Catalog, type RunKind } from '@tidemark/catalog';
import { createTestDatabase, inDatabase, type TestDatabase } from '@tidemark/catalog/testing';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { auditLogPruner } from './audit-log-pruner.ts';
import { eventPruner } from './event-pruner.ts';
import { WORKER_LIMITS, type WorkerLimits } from './limits.ts';
import { runPruner } from './run-pruner.ts';

const DAY_MS = 86_400_000;
const PATIENCE = { timeout: 60_000 };
const log = pino({ level: 'silent' });
let database: TestDatabase;
let catalog: Catalog;

beforeEach(async () => {
  database = await createTestDatabase();
  catalog = Catalog.connect(database.url);
});
afterEach(async () => {
  await catalog.close();
  await database.drop();
});

function prunerOf(make: typeof runPruner, daysAhead: number, more: Partial<WorkerLimits>) {
  const steps = {
    auditLogPruneMax: 2,
    auditLogPruneMs: 1,
    eventPruneMax: 2,
    eventPruneMs: 1,
    runPruneMax: 3,
    runPruneMs: 1,
  };
  const limits = { ...WORKER_LIMITS, ...steps, ...more };
  return make({ catalog, limits, log, now: () => Date.now() + daysAhead * DAY_MS });
}

const pruner = (daysAhead: number, runRetentionMs = 90 * DAY_MS) =>
  prunerOf(runPruner, daysAhead, { runRetentionMs });
const ofEvents = (daysAhead: number, eventRetentionMs = 30 * DAY_MS) =>
  prunerOf(eventPruner, daysAhead, { eventRetentionMs });

async function tellFiveEvents(): Promise<void> {
  for (let n = 0; n < 5; n++) {
    await catalog.storageNodes.create({ id: randomUUID(), name: `n${n}`, controlAddress: `n${n}.example:1` });
  }
}

async function ended(kind: RunKind, more: object = {}): Promise<string> {
  const { id } = await catalog.runs.create({ id: randomUUID(), kind, request: {}, ...more });
  const { lease } = (await catalog.leases.claim(id, { owner: 'w', leaseMs: 60_000, attempt: 1 }))!;
  await catalog.leases.startStep(lease, 'only');
  await catalog.leases.finish(lease, { state: 'succeeded' });
  return id;
}

const sql = (text: string, values: unknown[] = []) =>
  inDatabase(database.url, async client => (await client.query(text, values)).rows);
const left = async () => (await sql('SELECT id FROM run')).map(({ id }) => id).sort();

test('two workers remove events that are older than they are kept', async () => {
  await tellFiveEvents();
  const both = [ofEvents(31), ofEvents(31)];
  for (const one of both) one.start();
  await expect.poll(async () => (await catalog.events.listAfter(0)).length, PATIENCE).toBe(0);
  for (const one of both) await one.close();
  const { newest, prunedUpTo } = await catalog.events.ends();
  expect(prunedUpTo).toBe(newest);
  await expect(catalog.events.requireKept(1)).rejects.toMatchObject({ code: 'events-pruned' });
});

test('younger events stay, and all of them where they are kept for ever', async () => {
  await tellFiveEvents();
  for (const one of [ofEvents(29), ofEvents(40_000, 0)]) {
    one.start();
    // A beat that is under way is waited for.
    await one.close();
  }
  expect(await catalog.events.listAfter(0)).toHaveLength(5);
});

test('entries of the audit log go when they are too old, and stay where they are kept for ever', async () => {
  await sql(
    `INSERT INTO audit_entry (at, actor, action, subject, result, remote_address, request_id)
    SELECT now() - n * interval '50 days', 'ci', 'POST /v1/volumes', '/v1/volumes', 'done', '127.0.0.1', 'r'
    FROM generate_series(0, 9) AS n`,
  );
  const pruner = (days: number) => prunerOf(auditLogPruner, 0, { auditLogRetentionMs: days * DAY_MS });
  const left = async () => (await sql('SELECT id FROM audit_entry')).length;
  const forever = pruner(0);
  forever.start();
  await forever.close();
  expect(await left()).toBe(10);
  const both = [pruner(120), pruner(120)];
  for (const one of both) one.start();
  await expect.poll(left, PATIENCE).toBe(3);
  for (const one of both) await one.close();
});

test('what ended too long ago goes with its steps, and what is younger or goes on stays', async () => {
  for (let n = 0; n < 8; n++) await ended('create-volume');
  const { id: queued } = await catalog.runs.create({ id: randomUUID(), kind: 'backup', request: {} });
  const cleaning = await ended('backup');
  await sql('UPDATE run SET cleanup_pending = true WHERE id = $1', [cleaning]);
  for (const one of [pruner(89), pruner(40_000, 0)]) {
    one.start();
    await one.close();
  }
  expect(await left()).toHaveLength(10);
  const both = [pruner(91), pruner(91)];
  for (const one of both) one.start();
  await expect.poll(left, PATIENCE).toEqual([queued, cleaning].sort());
  for (const one of both) await one.close();
  expect(await sql('SELECT DISTINCT run_id FROM run_step')).toEqual([{ run_id: cleaning }]);
});

test('what something still refers to stays, and what it is about can be read without the others', async () => {
  const [group, groupMember, firingMember, backup, volume, node] = Array.from({ length: 6 }, () =>
    randomUUID(),
  );
  const kept: Record<string, string> = {
    group: await ended('create-group'),
    member: await ended('backup'),
    firing: await ended('backup'),
    replica: await ended('replicate'),
    backup: await ended('backup', { backupId: backup }),
    stuck: await ended('restore'),
  };
  await ended('audit', { volumeId: volume, storageNodeId: node });
  kept.audit = await ended('audit', { volumeId: volume, storageNodeId: node });
  await ended('backup', { backupId: randomUUID() });
  await sql(
    `INSERT INTO checkpoint_group (id, name, kind, completion, state, fence_limit_ms, run_id)
    VALUES ($1, 'g', 'checkpoint', 'grouped', 'ready', 500, $2)`,
    [group, kept.group],
  );
  await sql(
    `INSERT INTO checkpoint_group_member
      (group_id, volume_id, volume_name, storage_node_id, checkpoint_id, state, run_id)
    VALUES ($1, $2, 'v', $3, gen_random_uuid(), 'ready', $4)`,
    [group, groupMember, node, kept.member],
  );
  await sql(
    `INSERT INTO difference (id, kind, subject_type, subject_id, state, message, data, first_seen_at, last_seen_at)
    VALUES (gen_random_uuid(), 'run-stuck', 'run', $1, 'open', '', '{}', now(), now())`,
    [kept.stuck],
  );
  await inDatabase(database.url, async client => {
    // Of its firing and its backup nothing counts but that they are there.
    await client.query('SET session_replication_role = replica');
    await client.query(
      `INSERT INTO policy_firing_member
        (id, firing_id, policy_id, volume_id, volume_name, storage_node_id, kind, state, run_id)
      VALUES ($1, gen_random_uuid(), gen_random_uuid(), $2, 'v', $3, 'full', 'succeeded', $4)`,
      [firingMember, volume, node, kept.firing],
    );
    await client.query(
      `INSERT INTO policy_firing_replica (id, firing_id, backup_id, repository_id, state, run_id)
      VALUES (gen_random_uuid(), gen_random_uuid(), $1, gen_random_uuid(), 'succeeded', $2)`,
      [backup, kept.replica],
    );
    await client.query(
      `INSERT INTO backup
        (id, repository_id, volume_id, volume_name, checkpoint_id, checkpoint_name, kind, reason, size_bytes, state)
      VALUES ($1, gen_random_uuid(), $2, 'v', gen_random_uuid(), 'c', 'full', 'full', 512, 'available')`,
      [backup, volume],
    );
  });
  const one = pruner(91);
  one.start();
  await expect.poll(left, PATIENCE).toEqual(Object.values(kept).sort());
  await one.close();
  await sql('DELETE FROM backup');
  const again = pruner(91);
  again.start();
  const { backup: gone, ...others } = kept;
  await expect.poll(left, PATIENCE).toEqual(Object.values(others).sort());
  await again.close();
  await expect(catalog.runs.get(gone!)).rejects.toMatchObject({ code: 'run-not-found' });
  const told = await catalog.events.listAfter(0, 1000, { runId: gone });
  expect(told.map(({ kind }) => kind)).toEqual(['run-queued', 'run-claimed', 'run-succeeded']);
});
