// Goal: a restore over a volume moves what differs and nothing else, is refused under a guest, and leaves bitmaps
// right; what of a backup is damaged ends no restore that may go on. Method: a whole storage node over gRPC, a backup's
// exports served by the test.
import { randomBytes, randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { StartRestoreRequest, Volume } from '@tidemark/proto';
import { RestoreVolume } from '@tidemark/proto';
import { describe, expect, it } from 'vitest';
import { BackupServer } from '../src/testing/backup-server.ts';
import { MiB } from '../src/testing/backups.ts';
import { BackupPair, createVolume, jobEnd, readDisk, withGuest } from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';

const CLUSTER = 64 * 1024;

type Target = NonNullable<StartRestoreRequest['target']>;

function restore(
  node: RunningStorageNode,
  server: BackupServer,
  options: {
    target: Target;
    sizeBytes: number;
    skipDamage?: boolean;
    speedBytesPerSecond?: number;
    sums?: boolean;
  },
) {
  const { target, sizeBytes, skipDamage = false, speedBytesPerSecond = 0, sums = true } = options;
  return node.clients.jobs.startRestore({
    step: newStep(),
    ...{ sourceUri: server.uri, sumsUri: sums ? server.sumsUri : '', sizeBytes },
    ...{ target, skipDamage, speedBytesPerSecond },
  });
}

const inPlace = (
  { volumeId }: Volume,
  options: { evenIfConnected?: boolean; checkpointId?: string } = {},
): Target => ({
  $case: 'inPlace',
  value: { volumeId, evenIfConnected: false, checkpointId: '', ...options },
});

async function addCheckpoint(
  node: RunningStorageNode,
  { volumeId }: Volume,
  name = 'monday',
): Promise<string> {
  const checkpointId = randomUUID();
  await node.clients.checkpoints.createCheckpoint({
    step: newStep(),
    volumeId,
    checkpointId,
    name,
    description: '',
  });
  return checkpointId;
}

const changedBytes = async (node: RunningStorageNode, { volumeId }: Volume) => {
  const { checkpoints } = await node.clients.checkpoints.listCheckpoints({ volumeId });
  return checkpoints.map(checkpoint => checkpoint.changedSinceBytes);
};

/** A volume of 16 MiB, half of it random, and its contents as a backup. */
async function disk(format = 'raw') {
  const node = await RunningStorageNode.start();
  const volume = await createVolume(node, { format });
  const { exportUri, sizeBytes } = volume;
  await withGuest(exportUri, guest => guest.write(MiB, randomBytes(8 * MiB)));
  const contents = await readDisk(exportUri);
  const server = await BackupServer.start(contents);
  return { node, volume, exportUri, sizeBytes, contents, server };
}

describe('a restore over a volume', () => {
  it.each(['raw', 'qcow2'])('moves only what differs, and records it (%s)', async format => {
    const { node, volume, exportUri, sizeBytes, contents, server } = await disk(format);
    await addCheckpoint(node, volume);
    await withGuest(exportUri, async guest => {
      await guest.write(2 * MiB + 5, randomBytes(10));
      await guest.write(12 * MiB, randomBytes(CLUSTER));
      await guest.writeZeroes(4 * MiB, 2 * CLUSTER);
      // Written, and the same as before.
      await guest.write(MiB, contents.subarray(MiB, MiB + CLUSTER));
    });
    await addCheckpoint(node, volume, 'tuesday');
    const { jobId, differingBytes } = await restore(node, server, { target: inPlace(volume), sizeBytes });
    expect(differingBytes).toBe(sizeBytes);
    const end = await jobEnd(node, jobId);
    expect(end).toMatchObject({ error: undefined, sentBytes: 3 * CLUSTER, totalBytes: 4 * CLUSTER });
    expect(server.readBytes).toBe(3 * CLUSTER);
    expect((await readDisk(exportUri)).equals(contents)).toBe(true);
    expect(await changedBytes(node, volume)).toEqual([5 * CLUSTER, 4 * CLUSTER]);
  });

  it('looks only at what changed where the volume still has the checkpoint', async () => {
    const { node, volume, exportUri, sizeBytes, contents, server } = await disk();
    const checkpointId = await addCheckpoint(node, volume);
    await withGuest(exportUri, guest => guest.write(3 * MiB, randomBytes(CLUSTER)));
    const target = inPlace(volume, { checkpointId });
    const started = await restore(node, server, { target, sizeBytes, sums: false });
    expect(started.differingBytes).toBe(CLUSTER);
    expect(await jobEnd(node, started.jobId)).toMatchObject({ error: undefined, sentBytes: CLUSTER });
    expect((await readDisk(exportUri)).equals(contents)).toBe(true);
  });

  it('sends about one percent of a disk of which that differs', async () => {
    const node = await RunningStorageNode.start();
    const volume = await createVolume(node, { sizeBytes: 256 * MiB });
    const contents = randomBytes(256 * MiB);
    const server = await BackupServer.start(contents);
    await withGuest(volume.exportUri, async guest => {
      for (let at = 0; at < contents.length; at += 16 * MiB)
        await guest.write(at, contents.subarray(at, at + 16 * MiB));
      for (let n = 0; n < 41; n++) await guest.write(n * 6 * MiB, randomBytes(CLUSTER));
    });
    const { sizeBytes } = volume;
    const { jobId } = await restore(node, server, { target: inPlace(volume), sizeBytes });
    expect(await jobEnd(node, jobId)).toMatchObject({ error: undefined, sentBytes: 41 * CLUSTER });
    expect(server.readBytes).toBe(41 * CLUSTER);
    expect((await readDisk(volume.exportUri)).equals(contents)).toBe(true);
  });

  it('is refused under a guest unless that is wanted, and keeps guests away meanwhile', async () => {
    const { node, volume, exportUri, sizeBytes, contents, server } = await disk();
    const target = inPlace(volume);
    await withGuest(exportUri, async guest => {
      expect((await node.clients.volumes.getVolume(volume)).connections).toBe(1);
      await expect(restore(node, server, { target, sizeBytes })).rejects.toMatchObject({
        code: 'volume-busy',
      });
      await guest.write(0, randomBytes(CLUSTER));
      const forced = inPlace(volume, { evenIfConnected: true });
      const { jobId } = await restore(node, server, { target: forced, sizeBytes });
      expect((await jobEnd(node, jobId)).error).toBeUndefined();
      const bytes = Buffer.alloc(CLUSTER);
      await guest.read(0, bytes);
      expect(bytes.equals(contents.subarray(0, CLUSTER))).toBe(true);
    });
    await withGuest(exportUri, guest => guest.write(0, randomBytes(4 * MiB)));
    const { jobId } = await restore(node, server, { target, sizeBytes, speedBytesPerSecond: 1 });
    await expect(readDisk(exportUri)).rejects.toThrow();
    await expect(addCheckpoint(node, volume)).rejects.toMatchObject({ code: 'volume-busy' });
    await expect(restore(node, server, { target, sizeBytes })).rejects.toMatchObject({ code: 'volume-busy' });
    const { volumeId } = volume;
    const moment = node.clients.jobs.startExport({ step: newStep(), volumeId, exportId: randomUUID() });
    await expect(moment).rejects.toMatchObject({ code: 'volume-busy' });
    await node.clients.jobs.cancelJob({ step: newStep(), jobId });
    expect((await jobEnd(node, jobId)).error).toMatchObject({ code: 'run-cancelled' });
    await readDisk(exportUri);
    await addCheckpoint(node, volume);
  });

  it('is refused during a backup and for another size', async () => {
    const pair = await BackupPair.make(await RunningStorageNode.start(), await RunningStorageNode.start());
    await withGuest(pair.volume.exportUri, guest => guest.write(0, randomBytes(MiB)));
    const server = await BackupServer.start(Buffer.alloc(pair.volume.sizeBytes));
    const target = inPlace(pair.volume);
    const small = restore(pair.source, await BackupServer.start(Buffer.alloc(MiB)), {
      target,
      sizeBytes: MiB,
    });
    await expect(small).rejects.toMatchObject({ code: 'invalid-request' });
    const backup = await pair.start({ speedBytesPerSecond: 1 });
    const refused = restore(pair.source, server, { target, sizeBytes: pair.volume.sizeBytes });
    await expect(refused).rejects.toMatchObject({ code: 'volume-busy' });
    await pair.source.clients.jobs.cancelJob({ step: newStep(), jobId: backup.jobId });
    await jobEnd(pair.source, backup.jobId);
  });
});

describe('damage of a backup', () => {
  const newVolume = (): { target: Target; volumeId: string; backupId: string } => {
    const [volumeId, backupId] = [randomUUID(), randomUUID()];
    const ids = { checkpointId: randomUUID(), checkpointName: 'monday', backupId };
    const value = RestoreVolume.fromPartial({
      volumeId,
      name: `restored-${volumeId}`,
      format: 'raw',
      ...ids,
    });
    return { target: { $case: 'volume', value }, volumeId, backupId };
  };
  const withHoles = (contents: Buffer, clusters: number[]) => {
    const holed = Buffer.from(contents);
    for (const cluster of clusters) holed.fill(0, cluster * CLUSTER, (cluster + 1) * CLUSTER);
    return holed;
  };

  it('leaves holes in a new volume, which count as changed since its checkpoint', async () => {
    const { node, sizeBytes, contents, server } = await disk();
    server.damage(20, 21, 100);
    const { target, volumeId, backupId } = newVolume();
    const { jobId } = await restore(node, server, { target, sizeBytes, skipDamage: true });
    expect(await jobEnd(node, jobId)).toMatchObject({ error: undefined, damagedBytes: 3 * CLUSTER });
    expect(await node.clients.jobs.getJobDamage({ jobId })).toEqual({
      bytes: 3 * CLUSTER,
      truncated: false,
      ranges: [
        { offset: 20 * CLUSTER, length: 2 * CLUSTER },
        { offset: 100 * CLUSTER, length: CLUSTER },
      ],
    });
    const volume = await node.clients.volumes.getVolume({ volumeId });
    expect((await readDisk(volume.exportUri)).equals(withHoles(contents, [20, 21, 100]))).toBe(true);
    expect(volume.checkpoints).toMatchObject([
      { name: 'monday', changedSinceBytes: 3 * CLUSTER, originBackupId: backupId },
    ]);
    await node.restart();
    expect(await changedBytes(node, volume)).toEqual([3 * CLUSTER]);
  });

  it('ends a restore that may not go on, which leaves nothing', async () => {
    const { node, sizeBytes, server } = await disk();
    server.damage(20);
    const { target, volumeId } = newVolume();
    const { jobId } = await restore(node, server, { target, sizeBytes });
    expect((await jobEnd(node, jobId)).error).toMatchObject({ code: 'backup-damaged' });
    await expect(node.clients.volumes.getVolume({ volumeId })).rejects.toMatchObject({
      code: 'volume-not-found',
    });
  });

  it('leaves holes in a file, and a volume as it was', async () => {
    const { node, volume, exportUri, sizeBytes, contents, server } = await disk();
    server.damage(20, 30);
    const file: Target = { $case: 'file', value: { name: 'disk.raw' } };
    const { jobId, filePath } = await restore(node, server, { target: file, sizeBytes, skipDamage: true });
    expect(await jobEnd(node, jobId)).toMatchObject({ error: undefined, damagedBytes: 2 * CLUSTER });
    expect((await readFile(filePath)).equals(withHoles(contents, [20, 30]))).toBe(true);

    const own = randomBytes(CLUSTER);
    await withGuest(exportUri, async guest => {
      await guest.write(20 * CLUSTER, own);
      await guest.write(40 * CLUSTER, own);
    });
    const over = await restore(node, server, { target: inPlace(volume), sizeBytes, skipDamage: true });
    // What is the same on the volume is not asked for.
    expect(await jobEnd(node, over.jobId)).toMatchObject({ error: undefined, damagedBytes: CLUSTER });
    own.copy(contents, 20 * CLUSTER);
    expect((await readDisk(exportUri)).equals(contents)).toBe(true);
  });
});
