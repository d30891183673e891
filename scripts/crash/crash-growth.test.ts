// Goal: a storage node that is killed under its guest costs no change and no full backup, and the next increment says
// how many bytes it copies only because the crash left them in doubt: never more than the regions that the write-intent
// log named. Method: the real services, a guest whose every write is known, the log read between stop and kill.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { decodeLog } from '../../apps/storage-node/src/volume/intent-slots.ts';
import type { Window } from './disk-model.ts';
import { BLOCKS_OF_A_GRANULE, DISK_BYTES, GRANULE_BYTES } from './limits.ts';
import { OneDisk } from './testing/one-disk.ts';
import { kill, pidOf } from './victims.ts';

/** Changes of the guest: several of each kind, in all of its zones. */
const CHANGES = 300;
const PATIENCE = { timeout: 60_000 };

let disk: OneDisk;
beforeAll(async () => {
  disk = await OneDisk.open();
});
afterAll(() => disk?.close());

async function guestChanges(): Promise<void> {
  const { model } = disk.guest;
  const goal = model.now() + CHANGES;
  await expect.poll(() => model.now(), PATIENCE).toBeGreaterThan(goal);
}

/** Of the storage node that owns the disk. What its log named, in bytes. */
async function killAlpha(volumeId: string): Promise<number> {
  const { stateDir } = disk.stack.nodes.find(({ name }) => name === 'alpha')!;
  const pid = pidOf(disk, 'alpha')!;
  process.kill(pid, 'SIGSTOP');
  const stopped = () => /^State:\s+T/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  await expect.poll(stopped, PATIENCE).toBe(true);
  const file = readFileSync(join(stateDir, 'volumes', volumeId, 'intents'));
  kill(disk, 'alpha');
  const log = decodeLog(file, { volumeId, sizeBytes: DISK_BYTES })!;
  const regions = log.slot.regions.reduce(
    (sum, byte) => sum + byte.toString(2).replaceAll('0', '').length,
    0,
  );
  await expect.poll(() => ![null, undefined, pid].includes(pidOf(disk, 'alpha')), PATIENCE).toBe(true);
  return regions * log.scope.regionBytes;
}

/** With the window that its point in time lies in. */
async function backUp(checkpoint: string, kind: string) {
  const from = disk.guest.model.now();
  const { status, body } = await disk.backUp(checkpoint, { kind });
  expect(status, JSON.stringify(body)).toBe(201);
  return { ...body, window: { from, to: disk.guest.model.now() } as Window };
}

test('an increment after a kill holds every change, and states what the crash added', async () => {
  await disk.furnish({ vaultOn: 'beta' });
  const { id } = await disk.rest.read('volumes/disk');
  await guestChanges();
  const monday = await backUp('monday', 'full');
  await guestChanges();
  const namedBytes = await killAlpha(id);
  await disk.guest.rest();
  expect([disk.guest.faults, disk.guest.losses]).toEqual([[], 1]);

  // Null while the api does not reach the storage node.
  let [inconsistent, grownBytes]: [boolean | null, number] = [null, 0];
  const look = async () => {
    ({ inconsistent, grownBytes } = await disk.rest.read('volumes/disk/checkpoints/monday'));
    return inconsistent;
  };
  await expect.poll(look, PATIENCE).toBe(false);
  expect(grownBytes).toBeGreaterThan(0);
  expect(grownBytes).toBeLessThanOrEqual(namedBytes);
  const changed = disk.guest.model.changedSince(monday.window);
  const changedBytes =
    new Set(changed.map(block => Math.floor(block / BLOCKS_OF_A_GRANULE))).size * GRANULE_BYTES;

  const tuesday = await backUp('tuesday', 'incremental');
  expect(tuesday.backup).toMatchObject({ kind: 'incremental', parentId: monday.backup.id });
  const reason = `incremental: since checkpoint 'monday'; ${grownBytes} bytes in doubt since a crash are copied, too`;
  expect([tuesday.run.reason, tuesday.backup.reason]).toEqual([reason, reason]);
  expect(tuesday.backup.dirtyBytes).toBeGreaterThanOrEqual(changedBytes);
  const { stateDir } = disk.stack.nodes.find(({ name }) => name === 'beta')!;
  const image = await disk.backupPath(stateDir, tuesday.backup.id);
  expect(await disk.faultOf(image, tuesday.window)).toBeUndefined();
  const target = { file: { storageNode: 'beta', name: 'tuesday.raw' } };
  const { run } = await disk.rest.make('restores', { backup: tuesday.backup.id, target });
  expect(await disk.faultOf(run.result.filePath, tuesday.window)).toBeUndefined();

  // Once only: the bytes in doubt are in the increment now.
  const wednesday = await backUp('wednesday', 'incremental');
  expect(wednesday.backup).toMatchObject({
    reason: "incremental: since checkpoint 'tuesday'",
    dirtyBytes: 0,
  });
});
