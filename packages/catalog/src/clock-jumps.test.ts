// Goal: a clock that was set back lets nothing wait longer than it lasts, starts nothing twice, and changes no order.
// Method: a real database whose rows hold moments as they are after such a jump, and a catalog whose clock is set.
import { randomUUID } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import type { Catalog } from './catalog.ts';
import { hasPassed } from './moments.ts';
import { inDatabase, openTestCatalog, type TestDatabase } from './testing/index.ts';

const HOUR_MS = 3_600_000;
const JUMPS_MS = [HOUR_MS, 40 * 24 * HOUR_MS];
const LEASE_MS = 2_000;

let database: TestDatabase;
let catalog: Catalog;
let nowMs: number;

beforeEach(async () => {
  nowMs = Date.now();
  ({ catalog, database } = await openTestCatalog({ clock: () => new Date(nowMs) }));
});

/** What the clock of the database does when it is set back: all that is written lies further ahead. */
const setBack = (ms: number) =>
  inDatabase(database.url, client =>
    client.query(
      `UPDATE run SET lease_until = lease_until + $1 * interval '1 millisecond',
         not_before = not_before + $1 * interval '1 millisecond'`,
      [ms],
    ),
  );
const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms));
const claim = (runId: string, attempt = 1) =>
  catalog.leases.claim(runId, { owner: 'a', leaseMs: LEASE_MS, attempt });
async function newRun(): Promise<string> {
  const id = randomUUID();
  await catalog.runs.create({ id, kind: 'backup', request: {} });
  return id;
}

test.each(JUMPS_MS)('a dead worker’s run is free a lease after a jump of %d ms back', async jumpMs => {
  const runId = await newRun();
  await claim(runId);
  await setBack(jumpMs);
  expect(await catalog.runs.takeOverExpired()).toEqual([]);
  await pause(LEASE_MS / 2);
  expect(await catalog.runs.takeOverExpired()).toEqual([]);
  await pause(LEASE_MS / 2 + 50);
  expect(await catalog.runs.takeOverExpired()).toEqual([{ id: runId, attempt: 2 }]);
  expect((await claim(runId, 2))?.lease.epoch).toBe(2);
});

test('a live worker keeps its run through a jump back', async () => {
  const runId = await newRun();
  const { lease } = (await claim(runId))!;
  await setBack(HOUR_MS);
  for (let round = 0; round < 6; round++) {
    expect(await catalog.runs.takeOverExpired()).toEqual([]);
    await pause(LEASE_MS / 4);
    await catalog.leases.renew(lease, LEASE_MS);
  }
});

test('another attempt comes when its delay has passed, however far the clock was set back', async () => {
  const runId = await newRun();
  await catalog.leases.handBack((await claim(runId))!.lease, { delayMs: 2_000 });
  await setBack(40 * 24 * HOUR_MS);
  await catalog.runs.takeOverExpired();
  expect(await catalog.runs.listDispatchable(10)).toEqual([]);
  await pause(2_050);
  expect(await catalog.runs.listDispatchable(10)).toMatchObject([{ id: runId, attempt: 2 }]);
});

async function newNode(): Promise<string> {
  const id = randomUUID();
  await catalog.storageNodes.create({ id, name: 'alpha', controlAddress: 'x:1' });
  return id;
}

test.each(JUMPS_MS)(
  'a schedule goes on after a jump of %d ms back, and starts nothing twice',
  async jumpMs => {
    const storageNodeId = await newNode();
    const end = (id: string) =>
      inDatabase(database.url, client =>
        client.query(`UPDATE run SET state = 'succeeded' WHERE id = $1`, [id]),
      );
    const ask = async () => {
      const run = {
        id: randomUUID(),
        kind: 'reconcile',
        storageNodeId,
        request: { cause: 'interval' },
      } as const;
      const made = await catalog.runs.createWhenDue(run, (newest, now) =>
        hasPassed(newest?.createdAt ?? new Date(0), HOUR_MS / 2, now),
      );
      if (made) await end(made.id);
      return made !== null;
    };
    // As Prisma writes it: by the clock of the process.
    const dated = (ms: number) =>
      inDatabase(database.url, client =>
        client.query(`UPDATE run SET created_at = created_at + $1 * interval '1 millisecond'`, [ms]),
      );
    expect(await ask()).toBe(true);
    expect(await ask()).toBe(false);
    await dated(jumpMs);
    expect([await ask(), await ask(), await ask()]).toEqual([true, false, false]);
  },
);

test('checkpoints and backups keep their order when the clock is set back', async () => {
  const storageNodeId = await newNode();
  const volumeId = randomUUID();
  const repositoryId = randomUUID();
  await catalog.volumes.create({ id: volumeId, name: 'disk', storageNodeId, sizeBytes: 4096, format: 'raw' });
  await catalog.repositories.create({ id: repositoryId, name: 'vault', storageNodeId, limitBytes: null });
  const ids: string[] = [];
  for (const name of ['monday', 'tuesday', 'wednesday']) {
    const checkpointId = randomUUID();
    await catalog.checkpoints.create({ id: checkpointId, volumeId, name });
    await catalog.checkpoints.markReady(checkpointId, new Date(nowMs), null);
    const backup = {
      ...{ id: randomUUID(), repositoryId, volumeId, volumeName: 'disk', checkpointId, checkpoint: name },
      ...{ parentId: null, reason: 'full: asked for', sizeBytes: 4096, compression: 'none' as const },
    };
    await catalog.backups.create(backup);
    await inDatabase(database.url, client =>
      client.query(`UPDATE backup SET state = 'available', point_in_time = $2 WHERE id = $1`, [
        backup.id,
        new Date(nowMs),
      ]),
    );
    ids.push(backup.id);
    nowMs -= HOUR_MS;
  }
  const names = (items: { name: string }[]) => items.map(({ name }) => name);
  expect(names((await catalog.checkpoints.list(volumeId)).items)).toEqual(['monday', 'tuesday', 'wednesday']);
  expect(names(await catalog.checkpoints.oldest(volumeId, 1))).toEqual(['monday']);
  expect((await catalog.backups.findBase(volumeId, repositoryId))?.id).toBe(ids[2]);
});

test('what an audit found counts against what was made before a jump back, and nothing made since', async () => {
  const storageNodeId = await newNode();
  const volumeId = randomUUID();
  await catalog.volumes.create({ id: volumeId, name: 'disk', storageNodeId, sizeBytes: 4096, format: 'raw' });
  const repositoryId = randomUUID();
  await catalog.repositories.create({ id: repositoryId, name: 'vault', storageNodeId, limitBytes: null });
  const backUp = (name: string) =>
    catalog.backups.create({
      ...{ id: randomUUID(), repositoryId, volumeId, volumeName: 'disk', checkpointId: randomUUID() },
      ...{ checkpoint: name, parentId: null, reason: 'r', sizeBytes: 4096, compression: 'none' as const },
    });
  const runId = await newRun();
  const before = await backUp('monday');
  await inDatabase(database.url, client =>
    client.query('UPDATE backup SET point_in_time = $1', [new Date(nowMs)]),
  );
  nowMs -= HOUR_MS;
  await catalog.volumes.markAudited(volumeId, { at: new Date(nowMs), result: 'different', data: {} }, runId);
  nowMs -= 40 * 24 * HOUR_MS;
  const after = await backUp('tuesday');
  expect(await catalog.backups.get(before.id)).toMatchObject({ distrusted: true });
  expect(await catalog.backups.get(after.id)).toMatchObject({ distrusted: false });
});
