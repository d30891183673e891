// Goal: snapshots keep what a volume held, commits merge them, and whatever happens the guest finds its data. Method: a
// storage node over gRPC, a guest over NBD, images read as they lie on the disk.
import { randomUUID } from 'node:crypto';
import { copyFile, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { openImage } from '@tidemark/engine';
import { describe, expect, test } from 'vitest';
import { MiB } from '../src/testing/backups.ts';
import { fillDisk, slowDisk } from '../src/testing/disk-trouble.ts';
import { BackupPair, jobEnd } from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';
import { type Commit, Disk, firstBytes } from '../src/testing/snapshot-disk.ts';

/** Of a file as it lies there, while nobody has it open. */
async function imageContents({ node, volume }: Disk, name: string): Promise<number[]> {
  const format = name.endsWith('.raw') ? 'raw' : 'qcow2';
  const image = await openImage(node.path('volumes', volume.volumeId, name), { format, readOnly: true });
  const disk = Buffer.alloc(image.sizeBytes);
  await image.read(0, disk);
  await image.close();
  return firstBytes(disk);
}

async function filesOf({ node, volume }: Disk): Promise<string[]> {
  const names = await readdir(node.path('volumes', volume.volumeId));
  return names.filter(name => /\.(raw|qcow2)$/.test(name));
}

/** First MiB 1, then 2, then 3 with a snapshot after each but the last. */
async function diskWithTwoSnapshots(format = 'raw') {
  const disk = await Disk.make(await RunningStorageNode.start(), format);
  await disk.write(0, 1);
  await disk.write(3, 1);
  const one = await disk.snapshot('one');
  await disk.write(0, 2);
  await disk.write(1, 2);
  const two = await disk.snapshot('two');
  await disk.write(0, 3);
  await disk.write(2, 3);
  return { disk, one, two, after: [3, 2, 3, 1, 0, 0, 0, 0] };
}

describe('snapshots', () => {
  test.each(['raw', 'qcow2'])(
    'of a %s volume keep what it held, and outlive the storage node',
    async format => {
      const { disk, one, two, after } = await diskWithTwoSnapshots(format);
      expect(await disk.contents()).toEqual(after);
      expect(await disk.names()).toEqual(['one', 'two']);
      await disk.node.restart();
      expect(await disk.contents()).toEqual(after);
      expect(await disk.names()).toEqual(['one', 'two']);
      await disk.write(7, 7);
      await disk.node.stop();
      expect(await imageContents(disk, `disk.${format}`)).toEqual([1, 0, 0, 1, 0, 0, 0, 0]);
      expect(await imageContents(disk, `layer-${one}.qcow2`)).toEqual([2, 2, 0, 1, 0, 0, 0, 0]);
      expect(await imageContents(disk, `layer-${two}.qcow2`)).toEqual([3, 2, 3, 1, 0, 0, 0, 7]);
    },
  );

  test('are taken under a guest that writes: what it wrote before the call is in it, the rest goes on', async () => {
    const disk = await Disk.make(await RunningStorageNode.start());
    await disk.guest(async guest => {
      let written = 0;
      let going = true;
      const writing = (async () => {
        for (; going; written++)
          await guest.write(((written % 1024) * MiB) / 128, Buffer.alloc(8192, written % 251));
      })();
      for (const name of ['a', 'b', 'c']) await disk.snapshot(name);
      going = false;
      await writing;
      expect(written).toBeGreaterThan(10);
      await guest.flush();
    });
    const before = await disk.contents();
    await disk.node.restart();
    expect(await disk.contents()).toEqual(before);
  });

  test('leave the checkpoints what they were', async () => {
    const disk = await Disk.make(await RunningStorageNode.start());
    const { volumeId } = disk.volume;
    const { checkpoints } = disk.node.clients;
    await checkpoints.createCheckpoint({
      step: newStep(),
      volumeId,
      checkpointId: randomUUID(),
      name: 'monday',
    });
    await disk.write(1, 1);
    await disk.snapshot('s');
    await disk.write(2, 2);
    const { commitId, jobId } = await disk.commit({ active: true });
    await disk.ready(jobId);
    await disk.write(4, 4);
    await disk.finish(commitId, true);
    expect((await jobEnd(disk.node, jobId)).error).toBeUndefined();
    await disk.write(6, 6);
    const changed = async () =>
      (await disk.node.clients.checkpoints.listCheckpoints({ volumeId })).checkpoints.map(
        one => one.changedSinceBytes,
      );
    expect(await changed()).toEqual([4 * MiB]);
    await disk.node.restart();
    expect(await changed()).toEqual([4 * MiB]);
  });

  test('asked for once more are answered again, though the answer was never stored', async () => {
    const disk = await Disk.make(await RunningStorageNode.start());
    await disk.write(1, 1);
    const one = await disk.snapshot('one');
    await disk.write(2, 2);
    const { volumeId } = disk.volume;
    const again = { step: newStep(), volumeId, snapshotId: one, name: 'one' };
    const first = (await disk.node.clients.snapshots.listSnapshots({ volumeId })).snapshots[0];
    expect(await disk.node.clients.snapshots.createSnapshot(again)).toEqual(first);
    expect(await disk.names()).toEqual(['one']);
    // Its image is the guest's still when it is listed no more.
    const { jobId } = await disk.commit({ active: true, speedBytesPerSecond: 1 });
    await disk.node.clients.jobs.cancelJob({ step: newStep(), jobId });
    await jobEnd(disk.node, jobId);
    const later = { ...again, step: newStep() };
    await expect(disk.node.clients.snapshots.createSnapshot(later)).rejects.toMatchObject({
      code: 'invalid-request',
    });
    await disk.node.restart();
    expect(await disk.contents()).toEqual([0, 1, 2, 0, 0, 0, 0, 0]);
  });

  test('are deleted with a volume that could not be opened', async () => {
    const { disk } = await diskWithTwoSnapshots();
    const { volumeId } = disk.volume;
    await disk.node.stop();
    await writeFile(disk.node.path('volumes', volumeId, 'volume.json'), '{');
    await disk.node.begin();
    expect((await disk.node.clients.volumes.listVolumes({})).volumes).toEqual([]);
    await disk.node.clients.volumes.deleteVolume({ step: newStep(), volumeId });
    expect(await readdir(disk.node.path('volumes'))).toEqual([]);
  });

  test('a file that a crash left behind is removed', async () => {
    const { disk } = await diskWithTwoSnapshots();
    const folder = disk.node.path('volumes', disk.volume.volumeId);
    const files = await filesOf(disk);
    await disk.node.stop();
    await copyFile(`${folder}/disk.raw`, `${folder}/layer-${randomUUID()}.qcow2`);
    await disk.node.begin();
    expect(await filesOf(disk)).toEqual(files);
  });
});

describe('the commit of a snapshot', () => {
  test.each(['raw', 'qcow2'])('merges its image into the one below, in a %s volume', async format => {
    const { disk, one, two, after } = await diskWithTwoSnapshots(format);
    const { jobId, lost } = await disk.commit({ topSnapshotId: two });
    expect(lost).toEqual([one]);
    expect((await jobEnd(disk.node, jobId)).error).toBeUndefined();
    expect(await disk.names()).toEqual(['two']);
    expect(await disk.contents()).toEqual(after);
    expect((await filesOf(disk)).sort()).toEqual([`disk.${format}`, `layer-${two}.qcow2`]);
    await disk.write(5, 5);
    await disk.node.restart();
    expect(await disk.contents()).toEqual(after.with(5, 5));
    await disk.node.stop();
    expect(await imageContents(disk, `disk.${format}`)).toEqual([2, 2, 0, 1, 0, 0, 0, 0]);
    expect(await imageContents(disk, `layer-${two}.qcow2`)).toEqual(after.with(5, 5));
  });

  test('that is done merges no more when it is asked for again, also after a restart', async () => {
    const { disk, two, after } = await diskWithTwoSnapshots();
    const three = await disk.snapshot('three');
    const options = { topSnapshotId: three, shallow: true };
    const { commitId, jobId } = await disk.commit(options);
    expect((await jobEnd(disk.node, jobId)).error).toBeUndefined();
    expect(await disk.names()).toEqual(['one', 'three']);
    expect((await disk.startCommit(commitId, options)).lostSnapshotIds).toEqual([two]);
    await disk.node.restart();
    await expect(disk.startCommit(commitId, options)).rejects.toMatchObject({ code: 'commit-invalid' });
    expect(await disk.names()).toEqual(['one', 'three']);
    expect(await disk.contents()).toEqual(after);
  });

  test('whose end cannot be stored leaves a volume that can be used', async () => {
    const { disk, two, after } = await diskWithTwoSnapshots();
    const { volumeId } = disk.volume;
    const { jobId } = await disk.commit({ topSnapshotId: two, speedBytesPerSecond: 1 });
    const room = await fillDisk();
    await disk.node.clients.jobs.setJobSpeed({ step: newStep(), jobId, speedBytesPerSecond: 0 });
    expect((await jobEnd(disk.node, jobId)).error).toMatchObject({ code: 'storage-full' });
    room.mockRestore();
    expect((await disk.node.clients.volumes.getVolume({ volumeId })).allocatedBytes).toBeGreaterThan(0);
    expect(await disk.contents()).toEqual(after);
    await disk.snapshot('three');
    await disk.write(5, 5);
    await disk.node.restart();
    expect(await disk.names()).toEqual(['two', 'three']);
    expect(await disk.contents()).toEqual(after.with(5, 5));
    expect((await filesOf(disk)).length).toBe(3);
  });

  test('that was interrupted by a disk that is full does not keep the volume from its guest', async () => {
    const { disk, two, after } = await diskWithTwoSnapshots();
    const { volumeId } = disk.volume;
    await disk.commit({ topSnapshotId: two, speedBytesPerSecond: 1 });
    const file = disk.node.path('volumes', volumeId, 'volume.json');
    const interrupted = await readFile(file);
    await disk.node.stop();
    await writeFile(file, interrupted);
    const room = await fillDisk();
    await disk.node.begin();
    expect(await disk.contents()).toEqual(after);
    room.mockRestore();
    await disk.snapshot('three');
    expect(await disk.names()).toEqual(['two', 'three']);
  });

  test('leaves the guest what it wrote and never flushed', async () => {
    const { disk, two, after } = await diskWithTwoSnapshots();
    await disk.guest(async guest => {
      await guest.write(5 * MiB, Buffer.alloc(MiB, 5));
      const { jobId } = await disk.commit({ topSnapshotId: two });
      expect((await jobEnd(disk.node, jobId)).error).toBeUndefined();
      await guest.write(6 * MiB, Buffer.alloc(MiB, 6));
    });
    expect(await disk.contents()).toEqual(after.with(5, 5).with(6, 6));
    await disk.node.restart();
    expect(await disk.contents()).toEqual(after.with(5, 5).with(6, 6));
  });

  test('keeps the merged file where it is not to be deleted', async () => {
    const { disk, one, two } = await diskWithTwoSnapshots();
    const { jobId } = await disk.commit({ topSnapshotId: two, deleteFiles: false });
    await jobEnd(disk.node, jobId);
    const files = ['disk.raw', `layer-${two}.qcow2`, `merged-${one}.qcow2`];
    expect((await filesOf(disk)).sort()).toEqual(files);
    // As a crash leaves it that comes before it has its new name.
    await disk.node.stop();
    const folder = disk.node.path('volumes', disk.volume.volumeId);
    await rename(`${folder}/merged-${one}.qcow2`, `${folder}/layer-${one}.qcow2`);
    await disk.node.begin();
    expect((await filesOf(disk)).sort()).toEqual(files);
  });

  test('that is cancelled, or ends with its storage node, leaves the guest its data', async () => {
    const { disk, two, after } = await diskWithTwoSnapshots();
    const slow = { topSnapshotId: two, speedBytesPerSecond: 1 };
    const { jobId } = await disk.commit(slow);
    await expect(disk.snapshot('meanwhile')).rejects.toMatchObject({ code: 'volume-busy' });
    await disk.node.clients.jobs.cancelJob({ step: newStep(), jobId });
    expect((await jobEnd(disk.node, jobId)).error).toMatchObject({ code: 'run-cancelled' });
    expect(await disk.contents()).toEqual(after);
    expect(await disk.names()).toEqual(['two']);
    await disk.commit(slow);
    await disk.node.restart();
    expect(await disk.contents()).toEqual(after);
    await disk.snapshot('later');
    expect(await disk.names()).toEqual(['two', 'later']);
  });
});

describe('the commit of what the guest writes to', () => {
  test('waits when it is ready; pivoting then moves the guest to the base', async () => {
    const { disk, one, two, after } = await diskWithTwoSnapshots();
    const { commitId, jobId, lost } = await disk.commit({ active: true });
    expect(lost).toEqual([one, two]);
    expect((await disk.ready(jobId)).state).toBe('ready');
    await disk.write(4, 4);
    await disk.finish(commitId, true);
    await disk.finish(commitId, true);
    expect((await jobEnd(disk.node, jobId)).error).toBeUndefined();
    const now = after.with(4, 4);
    expect(await disk.contents()).toEqual(now);
    expect(await filesOf(disk)).toEqual(['disk.raw']);
    await disk.write(6, 6);
    await disk.node.restart();
    await disk.finish(commitId, true);
    await expect(disk.finish(commitId, false)).rejects.toMatchObject({ code: 'job-state' });
    expect(await disk.contents()).toEqual(now.with(6, 6));
    await disk.node.stop();
    expect(await imageContents(disk, 'disk.raw')).toEqual(now.with(6, 6));
  });

  test('pivots beside a checkpoint that is being added: the record has both', async () => {
    const { disk, after } = await diskWithTwoSnapshots();
    const { volumeId } = disk.volume;
    const { commitId, jobId } = await disk.commit({ active: true });
    await disk.ready(jobId);
    const slow = await slowDisk();
    const checkpointId = randomUUID();
    const { checkpoints } = disk.node.clients;
    const adding = checkpoints.createCheckpoint({ step: newStep(), volumeId, checkpointId, name: 'monday' });
    await expect.poll(() => slow.mock.calls.length).toBeGreaterThan(1);
    await disk.finish(commitId, true);
    await adding;
    expect((await jobEnd(disk.node, jobId)).error).toBeUndefined();
    await disk.node.restart();
    const listed = await disk.node.clients.checkpoints.listCheckpoints({ volumeId });
    expect(listed.checkpoints.map(one => one.checkpointId)).toEqual([checkpointId]);
    expect(await filesOf(disk)).toEqual(['disk.raw']);
    expect(await disk.contents()).toEqual(after);
  });

  test('can leave the guest where it is, and the base with a copy of that instant', async () => {
    const { disk, two, after } = await diskWithTwoSnapshots();
    const { commitId, jobId } = await disk.commit({ active: true, shallow: true });
    await disk.ready(jobId);
    await disk.write(4, 4);
    await disk.finish(commitId, false);
    expect((await jobEnd(disk.node, jobId)).error).toBeUndefined();
    await disk.write(5, 5);
    expect(await disk.contents()).toEqual(after.with(4, 4).with(5, 5));
    expect(await disk.names()).toEqual(['one']);
    await disk.node.restart();
    expect(await disk.contents()).toEqual(after.with(4, 4).with(5, 5));
    await disk.node.stop();
    const [base] = (await filesOf(disk)).filter(name => name.startsWith('layer-') && !name.includes(two));
    expect(await imageContents(disk, base!)).toEqual(after.with(4, 4));
  });

  test('is refused before it is ready, and is over with its storage node', async () => {
    const { disk, after } = await diskWithTwoSnapshots();
    const { commitId } = await disk.commit({ active: true, speedBytesPerSecond: 1 });
    await expect(disk.finish(commitId, true)).rejects.toMatchObject({ code: 'commit-not-ready' });
    await disk.node.restart();
    expect(await disk.contents()).toEqual(after);
    await expect(disk.finish(commitId, true)).rejects.toMatchObject({ code: 'commit-not-found' });
    const again = await disk.commit({ active: true });
    await disk.ready(again.jobId);
    await disk.finish(again.commitId, true);
    await jobEnd(disk.node, again.jobId);
    expect(await disk.contents()).toEqual(after);
  });
});

describe('beside a backup', () => {
  test('a commit is refused, and a backup beside the commit of a snapshot, not beside an active one', async () => {
    const [node, vault] = [await RunningStorageNode.start(), await RunningStorageNode.start()];
    const pair = await BackupPair.make(node, vault, { volume: { sizeBytes: 8 * MiB } });
    const disk = new Disk(node, pair.volume);
    await disk.write(0, 1);
    await disk.snapshot('one');
    for (const at of [4, 5, 6]) await disk.write(at, at);
    const two = await disk.snapshot('two');
    await disk.write(1, 2);
    const slow = await pair.start({ speedBytesPerSecond: 1 });
    await expect(disk.commit({ active: true })).rejects.toMatchObject({ code: 'volume-busy' });
    await disk.snapshot('three');
    await disk.write(2, 3);
    await node.clients.jobs.cancelJob({ step: newStep(), jobId: slow.jobId });
    await jobEnd(node, slow.jobId);
    const { jobId } = await disk.commit({ topSnapshotId: two, speedBytesPerSecond: 1 });
    await expect(pair.start()).rejects.toMatchObject({ code: 'volume-busy' });
    await node.clients.jobs.cancelJob({ step: newStep(), jobId });
    await jobEnd(node, jobId);
    const { backup } = await pair.backUp();
    expect(firstBytes(await pair.restored(backup))).toEqual([1, 2, 3, 0, 4, 5, 6, 0]);
    const active = await disk.commit({ active: true });
    await disk.ready(active.jobId);
    await disk.write(3, 4);
    const { backup: during } = await pair.backUp(backup);
    await disk.finish(active.commitId, true);
    expect((await jobEnd(node, active.jobId)).error).toBeUndefined();
    expect(firstBytes(await pair.restored(during))).toEqual([1, 2, 3, 4, 4, 5, 6, 0]);
    expect(await disk.contents()).toEqual([1, 2, 3, 4, 4, 5, 6, 0]);
  });
});

describe('commits that make no sense are refused, and nothing has changed', () => {
  test('each says why', async () => {
    const { disk, one, two, after } = await diskWithTwoSnapshots();
    const refused = async (options: Commit) => {
      const error = await disk.commit(options).then(
        () => undefined,
        (reason: { code: string; message: string }) => reason,
      );
      return [error?.code, error?.message];
    };
    expect(await refused({})).toEqual(['commit-invalid', expect.stringContaining("'active': true")]);
    expect(await refused({ topSnapshotId: two, active: true })).toEqual([
      'commit-invalid',
      expect.anything(),
    ]);
    expect(await refused({ topSnapshotId: one })).toEqual([
      'commit-invalid',
      expect.stringContaining('later'),
    ]);
    const reversed = { topSnapshotId: one, baseSnapshotId: two };
    expect(await refused(reversed)).toEqual(['commit-invalid', expect.stringContaining('not below')]);
    expect(await refused({ active: true, baseSnapshotId: one, shallow: true })).toEqual([
      'invalid-request',
      expect.anything(),
    ]);
    expect(await refused({ active: true, baseSnapshotId: 'x' })).toEqual([
      'snapshot-not-found',
      expect.anything(),
    ]);
    expect(await disk.names()).toEqual(['one', 'two']);
    expect(await disk.contents()).toEqual(after);
  });
});
