// Goal: a live volume of one storage node is backed up to another, incrementally, and comes back equal.
// Method: two whole storage nodes over gRPC and NBD, guests as NBD clients.
import { randomBytes, randomUUID } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { NbdClient } from '@tidemark/nbd';
import { describe, expect, it } from 'vitest';
import { MiB } from '../src/testing/backups.ts';
import { BackupPair, createVolume, jobEnd, readDisk, withGuest } from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';

const KiB = 1024;
const CLUSTER = 64 * KiB;

async function makePair(options: Parameters<typeof BackupPair.make>[2] = {}): Promise<BackupPair> {
  return BackupPair.make(await RunningStorageNode.start(), await RunningStorageNode.start(), options);
}

describe('backup of a live volume', () => {
  it.each(['raw', 'qcow2'])(
    'chains increments of a %s volume that restore to their instants',
    async format => {
      const pair = await makePair({ volume: { format } });
      const uri = pair.volume.exportUri;
      await withGuest(uri, guest => guest.write(1 * MiB, randomBytes(3 * MiB)));
      const monday = await readDisk(uri);
      const full = await pair.backUp();
      expect(full.end).toMatchObject({ state: 'concluded', currentBytes: pair.volume.sizeBytes });
      expect(full.end.sentBytes).toBeLessThan(4 * MiB);

      await withGuest(uri, guest => guest.write(10 * MiB + 5, randomBytes(100)));
      await withGuest(uri, guest => guest.writeZeroes(2 * MiB, CLUSTER));
      const tuesday = await readDisk(uri);
      const increment = await pair.backUp(full.backup);
      expect(increment.backup.dirtyBytes).toBe(2 * CLUSTER);
      expect(increment.end.sentBytes).toBeLessThanOrEqual(2 * CLUSTER);

      await withGuest(uri, guest => guest.trim(12 * MiB, CLUSTER));
      const differential = await pair.backUp(full.backup);
      expect(differential.backup.dirtyBytes).toBe(3 * CLUSTER);

      expect((await pair.restored(full.backup)).equals(monday)).toBe(true);
      expect((await pair.restored(increment.backup)).equals(tuesday)).toBe(true);
      expect((await pair.restored(differential.backup)).equals(await readDisk(uri))).toBe(true);
    },
  );

  it('freezes the instant while the guest writes everywhere', async () => {
    const pair = await makePair();
    const uri = pair.volume.exportUri;
    await withGuest(uri, guest => guest.write(0, randomBytes(pair.volume.sizeBytes)));
    const before = await readDisk(uri);
    const backup = await pair.start({ speedBytesPerSecond: 8 * MiB });
    await withGuest(uri, async guest => {
      const writes = Array.from({ length: 200 }, (_, i) =>
        guest.write(((i * 7919) % 4000) * 4 * KiB, randomBytes(4 * KiB)),
      );
      await Promise.all(writes);
    });
    await pair.source.clients.jobs.setJobSpeed({
      step: newStep(),
      jobId: backup.jobId,
      speedBytesPerSecond: 0,
    });
    expect((await jobEnd(pair.source, backup.jobId)).error).toBeUndefined();
    await pair.publish(backup);
    expect((await pair.restored(backup)).equals(before)).toBe(true);
  });

  it('restores to a plain file that appears only when it is complete', async () => {
    const pair = await makePair();
    await withGuest(pair.volume.exportUri, guest => guest.write(0, randomBytes(MiB)));
    const { backup } = await pair.backUp();
    const place = { step: newStep(), repositoryId: pair.repositoryId, backupId: backup.backupId };
    const { uri, sizeBytes } = await pair.vault.clients.repositories.openBackup(place);
    const restore = (name: string) =>
      pair.source.clients.jobs.startRestore({
        step: newStep(),
        sourceUri: uri,
        sizeBytes,
        speedBytesPerSecond: 0,
        target: { $case: 'file', value: { name } },
      });
    const { jobId, filePath } = await restore('disk.raw');
    expect((await jobEnd(pair.source, jobId)).error).toBeUndefined();
    expect((await readFile(filePath)).equals(await readDisk(pair.volume.exportUri))).toBe(true);
    await expect(restore('disk.raw')).rejects.toMatchObject({ code: 'file-exists' });
    await expect(restore('../disk.raw')).rejects.toMatchObject({ code: 'invalid-name' });
  });

  it('ends with repository-full when the repository has no room, and leaves the guest alone', async () => {
    const pair = await makePair({ limitBytes: 4 * MiB });
    const uri = pair.volume.exportUri;
    await withGuest(uri, guest => guest.write(0, randomBytes(8 * MiB)));
    const backup = await pair.start();
    const end = await jobEnd(pair.source, backup.jobId);
    expect(end.error).toMatchObject({ code: 'repository-full' });
    await withGuest(uri, guest => guest.write(0, randomBytes(MiB)));
    const place = { step: newStep(), repositoryId: pair.repositoryId, backupId: backup.backupId };
    await pair.vault.clients.repositories.discardBackup(place);
    const { volumeId } = pair.volume;
    const { checkpointId } = backup;
    await pair.source.clients.checkpoints.deleteCheckpoint({ step: newStep(), volumeId, checkpointId });
    expect(await pair.checkpoints()).toEqual([]);
    const { usedBytes } = await pair.vault.clients.repositories.getRepository(pair);
    expect(usedBytes).toBe(0);
  });

  it('refuses to delete a volume under backup, and lets it go after cancel', async () => {
    const pair = await makePair();
    const { volumeId, exportUri } = pair.volume;
    await withGuest(exportUri, guest => guest.write(0, randomBytes(8 * MiB)));
    const backup = await pair.start({ speedBytesPerSecond: 1 });
    const { volumes, jobs } = pair.source.clients;
    await expect(volumes.deleteVolume({ step: newStep(), volumeId })).rejects.toMatchObject({
      code: 'volume-busy',
    });
    await expect(jobs.dismissJob({ step: newStep(), jobId: backup.jobId })).rejects.toMatchObject({
      code: 'job-state',
    });
    await jobs.cancelJob({ step: newStep(), jobId: backup.jobId });
    expect((await jobEnd(pair.source, backup.jobId)).error).toMatchObject({ code: 'run-cancelled' });
    await jobs.dismissJob({ step: newStep(), jobId: backup.jobId });
    await volumes.deleteVolume({ step: newStep(), volumeId });
    await expect(volumes.getVolume({ volumeId })).rejects.toMatchObject({ code: 'volume-not-found' });
  });

  it('answers a repeated start with the job that runs, and says when that ended with its storage node', async () => {
    const pair = await makePair();
    await withGuest(pair.volume.exportUri, guest => guest.write(0, randomBytes(8 * MiB)));
    const backup = await pair.start({ speedBytesPerSecond: 1 });
    const repeat = () =>
      pair.source.clients.jobs.startBackup({
        step: newStep(),
        volumeId: pair.volume.volumeId,
        checkpointId: backup.checkpointId,
        checkpointName: 'again',
        baseCheckpointId: '',
        targetUri: 'nbd://127.0.0.1:1/none',
        speedBytesPerSecond: 1,
      });
    expect(await repeat()).toMatchObject({ jobId: backup.jobId, dirtyBytes: backup.dirtyBytes });
    await pair.source.restart();
    await expect(repeat()).rejects.toMatchObject({ code: 'job-interrupted' });
  });

  it('says what is wrong when the target stays away for longer than it waits', async () => {
    const source = await RunningStorageNode.start(undefined, { TIDEMARK_TARGET_RECONNECT_MS: '500' });
    const pair = await BackupPair.make(source, await RunningStorageNode.start());
    await withGuest(pair.volume.exportUri, guest => guest.write(0, randomBytes(8 * MiB)));
    const backup = await pair.start({ speedBytesPerSecond: MiB });
    await pair.vault.stop();
    const end = await jobEnd(pair.source, backup.jobId);
    expect(end.error).toMatchObject({ code: 'io-error' });
    expect(end.error?.message).toMatch(/to the repository at 127\.0\.0\.1:\d+ failed/);
    await withGuest(pair.volume.exportUri, guest => guest.write(0, randomBytes(MiB)));
  });
});

describe('checkpoints', () => {
  it('survive an orderly restart with their bits, and serve as a base afterwards', async () => {
    const pair = await makePair();
    await withGuest(pair.volume.exportUri, guest => guest.write(0, randomBytes(2 * MiB)));
    const { backup } = await pair.backUp();
    await withGuest(pair.volume.exportUri, guest => guest.write(5 * MiB, randomBytes(CLUSTER)));
    await pair.source.restart();
    const [checkpoint] = await pair.checkpoints();
    expect(checkpoint).toMatchObject({ changedSinceBytes: CLUSTER, recording: true, inconsistent: false });
    const { exportUri } = await pair.source.clients.volumes.getVolume(pair.volume);
    await withGuest(exportUri, guest => guest.write(7 * MiB, randomBytes(CLUSTER)));
    const increment = await pair.backUp(backup);
    expect(increment.backup.dirtyBytes).toBe(2 * CLUSTER);
    expect((await pair.restored(increment.backup)).equals(await readDisk(exportUri))).toBe(true);
  });

  it('are flagged, never trusted, when the write-intent log is gone', async () => {
    const pair = await makePair();
    const { backup } = await pair.backUp();
    await pair.source.stop();
    await rm(pair.source.path('volumes', pair.volume.volumeId, 'intents'));
    await pair.source.begin();
    expect(await pair.checkpoints()).toMatchObject([{ inconsistent: true, recording: true }]);
    await expect(pair.start({ parent: backup })).rejects.toMatchObject({ code: 'checkpoint-inconsistent' });
    const full = await pair.backUp();
    const { exportUri } = await pair.source.clients.volumes.getVolume(pair.volume);
    await withGuest(exportUri, guest => guest.write(0, randomBytes(CLUSTER)));
    const increment = await pair.backUp(full.backup);
    expect(increment.backup.dirtyBytes).toBe(CLUSTER);
  });

  it('hand their bits to the predecessor when they are deleted', async () => {
    const pair = await makePair();
    const { volumeId, exportUri } = pair.volume;
    const { checkpoints } = pair.source.clients;
    const ids: string[] = [];
    for (const offset of [0, 1, 2]) {
      const checkpointId = randomUUID();
      ids.push(checkpointId);
      const request = { step: newStep(), volumeId, checkpointId, name: `c${offset}` };
      await checkpoints.createCheckpoint(request);
      await withGuest(exportUri, guest => guest.write(offset * MiB, randomBytes(CLUSTER)));
    }
    const changed = async () => (await pair.checkpoints()).map(c => [c.name, c.changedSinceBytes / CLUSTER]);
    expect(await changed()).toEqual([
      ['c0', 3],
      ['c1', 2],
      ['c2', 1],
    ]);
    await checkpoints.deleteCheckpoint({ step: newStep(), volumeId, checkpointId: ids[1]! });
    expect(await changed()).toEqual([
      ['c0', 3],
      ['c2', 1],
    ]);
    await checkpoints.deleteCheckpoint({ step: newStep(), volumeId, checkpointId: ids[2]! });
    await withGuest(exportUri, guest => guest.write(9 * MiB, randomBytes(1)));
    expect(await changed()).toEqual([['c0', 4]]);
    await pair.source.restart();
    expect(await changed()).toEqual([['c0', 4]]);
  });

  it('show what changed since each of them over NBD', async () => {
    const pair = await makePair();
    const { backup } = await pair.backUp();
    await withGuest(pair.volume.exportUri, guest => guest.write(1 * MiB, randomBytes(2 * CLUSTER)));
    const context = `qemu:dirty-bitmap:${backup.checkpointId}`;
    const client = await NbdClient.connect({ uri: pair.volume.exportUri }, { contexts: [context] });
    const extents = await client.blockStatus(context, 0, pair.volume.sizeBytes);
    await client.disconnect();
    expect(extents.filter(extent => extent.flags === 1)).toEqual([
      { offset: 1 * MiB, length: 2 * CLUSTER, flags: 1 },
    ]);
  });
});

describe('volumes', () => {
  it('refuse sizes and names that cannot be, and leave nothing behind', async () => {
    const node = await RunningStorageNode.start();
    for (const sizeBytes of [0, 511, 513]) {
      await expect(createVolume(node, { sizeBytes })).rejects.toMatchObject({ code: 'invalid-volume-size' });
    }
    await createVolume(node, { name: 'disk' });
    await expect(createVolume(node, { name: 'disk' })).rejects.toMatchObject({ code: 'volume-name-taken' });
    expect((await node.clients.volumes.listVolumes({})).volumes).toHaveLength(1);
  });

  it('come back with their contents after a restart', async () => {
    const node = await RunningStorageNode.start();
    const volume = await createVolume(node, { format: 'qcow2', name: 'disk' });
    const bytes = randomBytes(300 * KiB);
    await withGuest(volume.exportUri, guest => guest.write(12345, bytes));
    await node.restart();
    const { volumes } = await node.clients.volumes.listVolumes({});
    expect(volumes).toMatchObject([{ name: 'disk', format: 'qcow2' }]);
    const disk = await readDisk(volumes[0]!.exportUri);
    expect(disk.subarray(12345, 12345 + bytes.length).equals(bytes)).toBe(true);
  });
});
