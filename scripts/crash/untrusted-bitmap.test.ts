// Goal: a bitmap that cannot be trusted is shown, never used, and makes the next backup of its disk full, which says
// so; no other disk pays for it. Method: the real services, two disks, one byte of one bitmap's file turned over while
// nothing runs.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { NbdClient } from '@tidemark/nbd';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import { DiskModel } from './disk-model.ts';
import { Guest } from './guest.ts';
import { BLOCK_BYTES, DISK_BLOCKS, DISK_BYTES } from './limits.ts';
import { OneDisk } from './testing/one-disk.ts';

const PATIENCE = { timeout: 60_000 };

let disk: OneDisk;
let other: Guest;
beforeAll(async () => {
  disk = await OneDisk.open();
});
afterAll(async () => {
  await other?.close();
  await disk.close();
});

const stateDirOf = (node: string) => disk.stack.nodes.find(({ name }) => name === node)!.stateDir;

async function backUp(volume: string, checkpoint: string, kind: string) {
  const { status, body } = await disk.backUp(checkpoint, { volume, kind });
  expect(status, JSON.stringify(body)).toBe(201);
  return body;
}

async function flagsOf(volume: string): Promise<(boolean | null)[]> {
  return (await disk.rest.list(`volumes/${volume}/checkpoints`)).map(({ inconsistent }) => inconsistent);
}

/** In the middle of the bits, which are what the file ends with. */
function damageBitmap(volumeId: string, checkpointId: string): void {
  const folder = join(stateDirOf('alpha'), 'volumes', volumeId, 'bitmaps');
  expect(readdirSync(folder)).toEqual([checkpointId]);
  const file = join(folder, checkpointId);
  const bytes = readFileSync(file);
  bytes[bytes.length - 10]! ^= 4;
  writeFileSync(file, bytes);
}

/** With guests at rest. */
async function expectEqual(guest: Guest, backupId: string): Promise<void> {
  const now = guest.model.now();
  const path = await disk.backupPath(stateDirOf('beta'), backupId);
  expect(await disk.faultOf(path, { from: now, to: now }, guest)).toBeUndefined();
}

test('a damaged bitmap costs its own disk one full backup, and no other anything', async () => {
  await disk.furnish({ vaultOn: 'beta' });
  const wanted = { name: 'other', storageNode: 'alpha', sizeBytes: DISK_BYTES };
  const { volume } = await disk.rest.make('volumes', wanted);
  const model = new DiskModel(DISK_BLOCKS);
  other = new Guest({ uri: volume.exportUri, model, random: new SeededRandom(6) });
  other.move();
  await other.start();
  const { id } = await disk.rest.read('volumes/disk');
  const monday = await backUp('disk', 'monday', 'full');
  const otherMonday = await backUp('other', 'other-monday', 'full');
  for (const guest of [disk.guest, other]) {
    const goal = guest.model.now() + 100;
    await expect.poll(() => guest.model.now(), PATIENCE).toBeGreaterThan(goal);
    await guest.rest();
    await guest.close();
  }

  await disk.stack.stop();
  damageBitmap(id, monday.backup.checkpointId);
  await disk.startServices();
  await expect
    .poll(async () => [...(await flagsOf('disk')), ...(await flagsOf('other'))], PATIENCE)
    .toEqual([true, false]);

  const tuesday = await backUp('disk', 'tuesday', 'incremental');
  expect(tuesday.backup).toMatchObject({ kind: 'full', parentId: null });
  const reason = /^full: the changes since the base checkpoint are not known \(.*monday.*\)$/;
  expect([tuesday.run.reason, tuesday.backup.reason]).toEqual([
    expect.stringMatching(reason),
    tuesday.run.reason,
  ]);
  const otherTuesday = await backUp('other', 'other-tuesday', 'incremental');
  expect(otherTuesday.backup).toMatchObject({
    kind: 'incremental',
    parentId: otherMonday.backup.id,
    reason: "incremental: since checkpoint 'other-monday'",
  });
  await expectEqual(disk.guest, tuesday.backup.id);
  await expectEqual(other, otherTuesday.backup.id);

  await expect.poll(() => flagsOf('disk'), PATIENCE).toEqual([true, false]);
  const { exportUri } = await disk.rest.read('volumes/disk');
  const client = await NbdClient.connect({ uri: exportUri });
  await client.write(0, Buffer.alloc(BLOCK_BYTES, 1));
  await client.disconnect();
  const wednesday = await backUp('disk', 'wednesday', 'incremental');
  expect(wednesday.backup).toMatchObject({
    kind: 'incremental',
    parentId: tuesday.backup.id,
    reason: "incremental: since checkpoint 'tuesday'",
  });
  expect(wednesday.backup.sentBytes).toBeLessThan(tuesday.backup.sentBytes);
});
