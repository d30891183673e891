// Goal: a kernel does not notice that its disk is snapshotted and committed under its feet, and its filesystem is whole
// afterwards. Method: Debian's kernel in an emulated machine writes files to ext4 on a qcow2 volume, all through.
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { MiB } from '../../src/testing/backups.ts';
import { createVolume, jobEnd } from '../../src/testing/live-volume.ts';
import { RunningStorageNode } from '../../src/testing/running-storage-node.ts';
import { Disk } from '../../src/testing/snapshot-disk.ts';
import { temporaryFolder } from '../../src/testing/temporary-folder.ts';
import { runTool } from '../../src/testing/tools.ts';
import { RealGuest, whyNoGuest } from './real-guest.ts';

const VOLUME_BYTES = 64 * MiB;
/** Files of 256 KiB between one thing and the next. */
const FILES = 15;

test('a guest kernel writes through snapshots and commits', { timeout: 600_000 }, async context => {
  const reason = whyNoGuest();
  if (reason !== undefined && process.env.CI) throw new Error(reason);
  context.skip(reason !== undefined, reason);
  const folder = await temporaryFolder();
  const node = await RunningStorageNode.start();
  const volume = await createVolume(node, { format: 'qcow2', sizeBytes: VOLUME_BYTES });
  const disk = new Disk(node, volume);
  const fresh = join(folder, 'fresh.raw');
  await runTool('truncate', '-s', String(VOLUME_BYTES), fresh);
  await runTool('mkfs.ext4', '-q', fresh);
  await runTool('nbdcopy', fresh, volume.exportUri);

  const guest = await RealGuest.boot(folder, volume.exportUri);
  await guest.writes(FILES);
  await disk.snapshot('one');
  await guest.writes(FILES);
  const two = await disk.snapshot('two');
  await guest.writes(FILES);
  const { jobId } = await disk.commit({ topSnapshotId: two });
  await guest.writes(FILES);
  expect((await jobEnd(node, jobId)).error).toBeUndefined();
  const active = await disk.commit({ active: true });
  expect((await disk.ready(active.jobId)).state).toBe('ready');
  await guest.writes(FILES);
  await disk.finish(active.commitId, true);
  expect((await jobEnd(node, active.jobId)).error).toBeUndefined();
  await guest.writes(FILES);
  expect(await guest.stop()).toEqual(['all files are whole', 'done']);

  const after = join(folder, 'after.raw');
  await runTool('nbdcopy', volume.exportUri, after);
  await runTool('e2fsck', '-fn', after);
  await node.stop();
  const image = node.path('volumes', volume.volumeId, 'disk.qcow2');
  await runTool('qemu-img', 'check', '-q', image);
  await runTool('qemu-img', 'compare', '-q', '-f', 'qcow2', '-F', 'raw', image, after);
});
