// Goal: a guest that trims its filesystem dirties nearly all of its disk and costs its next increment nearly nothing:
// no payload but what ext4 itself wrote. Method: the real services, Debian's kernel in an emulated machine with ext4
// on a sparse volume of 32 GiB.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { RealGuest, whyNoGuest } from '../../../apps/storage-node/test/interop/real-guest.ts';
import { Operator } from '../testing/operator.ts';

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;
const DISK_GIB = 32;
const JOURNAL_MIB = 4;
/** Superblock, group descriptors, bitmaps, inodes and folders, each in a cluster of its own. */
const METADATA_MIB_MAX = 2;
const GONE_MIB = 24;
const run = promisify(execFile);

const tool = async (name: string, ...args: string[]) => (await run(name, args, { timeout: 120_000 })).stdout;

/** What a new volume of that size is filled with. */
async function makeFilesystem(folder: string, uri: string): Promise<void> {
  const fresh = join(folder, 'fresh.raw');
  await tool('truncate', '-s', `${DISK_GIB}G`, fresh);
  // Nothing that the kernel would write behind later on.
  const options = ['-E', 'lazy_itable_init=1,lazy_journal_init=1,nodiscard', '-J', `size=${JOURNAL_MIB}`];
  await tool('mkfs.ext4', '-q', ...options, fresh);
  await tool('nbdcopy', fresh, uri);
  rmSync(fresh);
}

test('30 GiB of fstrim cost the next increment no payload', { timeout: 600_000 }, async context => {
  const reason = whyNoGuest();
  if (reason !== undefined && process.env.CI) throw new Error(reason);
  context.skip(reason !== undefined, reason);
  const operator = await Operator.open({ disk: `${DISK_GIB}GiB` });
  onTestFinished(() => operator.close());
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-guest-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const uri = await operator.exportUri('disk');
  await makeFilesystem(folder, uri);

  const guest = await RealGuest.bootShell(folder, uri);
  const fill = (file: string, mib: number) =>
    guest.run(`dd if=/dev/urandom of=/mnt/${file} bs=1M count=${mib} conv=fsync`);
  const mount = () => guest.run('mount -t ext4 -o noinit_itable /dev/vda /mnt');
  await mount();
  await fill('kept', 2);
  const digest = await guest.run('sync; sha256sum /mnt/kept');
  await operator.backUp('disk', 'monday', 'full');
  await fill('gone', GONE_MIB);
  await guest.run('sync');
  const { backup: tuesday } = await operator.backUp('disk', 'tuesday', 'incremental');
  expect(tuesday.sentBytes).toBeGreaterThanOrEqual(GONE_MIB * MiB);
  await guest.run('rm /mnt/gone; sync');
  const trimmed = await guest.run('fstrim -v /mnt');
  expect(Number(/(\d+) bytes/.exec(trimmed)?.[1])).toBeGreaterThan(30 * GiB);
  await guest.run('umount /mnt');

  const { backup: wednesday } = await operator.backUp('disk', 'wednesday', 'incremental');
  expect(wednesday).toMatchObject({ kind: 'incremental', parentId: tuesday.id });
  expect(wednesday.dirtyBytes).toBeGreaterThan(30 * GiB);
  expect(wednesday.sentBytes).toBeLessThan((JOURNAL_MIB + METADATA_MIB_MAX) * MiB);
  const target = ['--storage-node', 'beta', '--to-file', 'wednesday.raw'];
  const { run: restore } = await operator.json('restore', '--backup', wednesday.id, ...target);
  const { filePath } = restore.result;
  expect(await tool('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', filePath, uri)).toContain('identical');
  await tool('e2fsck', '-fn', filePath);
  await mount();
  expect(await guest.run('sha256sum /mnt/kept; ls /mnt')).toBe(`${digest}\nkept\nlost+found`);
  await guest.run('umount /mnt');
  await guest.powerOff();
});
