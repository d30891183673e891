// Goal: a repository whose file system fills up in the middle of a backup ends that backup, the guest does not notice,
// nothing is left, and with room again work goes on. Method: the real services, the repository's storage node on a
// file system of its own that somebody else fills while the backup copies.
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { OneDisk, temporaryHome } from '../testing/one-disk.ts';

const END_MS_MAX = 60_000;

/** Until nothing more goes into the file system; others write to it meanwhile. */
async function fillUp(path: string): Promise<void> {
  const page = Buffer.alloc(4096, 1);
  await using file = await open(path, 'w');
  for (;;) {
    try {
      await file.write(page);
    } catch (error) {
      expect(error).toMatchObject({ code: 'ENOSPC' });
      return;
    }
  }
}

test('a backup whose repository fills up fails and is undone, and the next one succeeds with room', async context => {
  const home = temporaryHome();
  const betaDir = join(home, 'nodes', 'beta');
  mkdirSync(betaDir, { recursive: true });
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=48m', 'tmpfs', betaDir]);
  context.skip(mounted.status !== 0, 'mounting a file system is not allowed here');
  const unmount = () => void spawnSync('umount', ['--lazy', betaDir]);
  const disk = await OneDisk.open({ home }).catch(error => {
    unmount();
    throw error;
  });
  onTestFinished(async () => {
    await disk.stack.stop();
    unmount();
    await disk.close();
  });
  await disk.furnish({ vaultOn: 'beta' });
  await delay(2_000);
  const { status, body } = await disk.backUp('monday', { speedBytesPerSecond: 128 * 1024 }, 'checkpoint');
  expect(status, JSON.stringify(body)).toBe(202);
  await fillUp(join(betaDir, 'ballast'));
  const run = await disk.end(body.run.id, END_MS_MAX);
  expect(run).toMatchObject({ state: 'failed', error: { code: expect.stringMatching(/full/) } });
  expect(await disk.rest.list('backups')).toEqual([]);
  expect(await disk.rest.list('volumes/disk/checkpoints')).toEqual([]);
  rmSync(join(betaDir, 'ballast'));
  const [repository] = await disk.rest.list('repositories');
  const backups = join(betaDir, 'repositories', repository.id, 'backups');
  await expect.poll(() => readdir(backups), { timeout: END_MS_MAX }).toEqual([]);
  const from = disk.guest.model.now();
  const next = await disk.backUp('tuesday');
  expect(next.status, JSON.stringify(next.body)).toBe(201);
  const window = { from, to: disk.guest.model.now() };
  await disk.guest.rest();
  expect([disk.guest.faults, disk.guest.losses]).toEqual([[], 0]);
  expect(await disk.faultOf(await disk.backupPath(betaDir, next.body.backup.id), window)).toBeUndefined();
});
