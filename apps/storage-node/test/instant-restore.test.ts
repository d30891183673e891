// Goal: a volume of an instant restore serves its guest from the first moment, loses nothing and marks nothing while
// its backup is pulled, outlives its backup's host and its own, and stands alone in the end. Method: a whole storage
// node over gRPC, guests as NBD clients, a backup's exports served by the test.
import { randomBytes, randomUUID } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { NbdClient } from '@tidemark/nbd';
import { RestoreInstant } from '@tidemark/proto';
import { describe, expect, it } from 'vitest';
import { BackupServer } from '../src/testing/backup-server.ts';
import { MiB } from '../src/testing/backups.ts';
import { BackupPair, jobEnd, readDisk, withGuest } from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';
import { runTool, testWith } from '../src/testing/tools.ts';

const CLUSTER = 64 * 1024;
const SIZE = 16 * MiB;

/** Data in places, and holes. */
function someContents(): Buffer {
  const contents = Buffer.alloc(SIZE);
  randomBytes(5 * MiB).copy(contents, MiB);
  randomBytes(2 * MiB).copy(contents, 10 * MiB);
  return contents;
}

async function world(options: { contents?: Buffer; speedBytesPerSecond?: number } = {}) {
  const { contents = someContents(), speedBytesPerSecond = 0 } = options;
  const node = await RunningStorageNode.start();
  const server = await BackupServer.start(contents);
  const [volumeId, backupId, checkpointId] = [randomUUID(), randomUUID(), randomUUID()];
  const ids = { volumeId, backupId, checkpointId, checkpointName: 'monday' };
  const value = RestoreInstant.fromPartial({ ...ids, name: `instant-${volumeId}`, format: 'qcow2' });
  const runId = randomUUID();
  const start = (change: Partial<RestoreInstant> = {}) =>
    node.clients.jobs.startRestore({
      step: newStep({ runId }),
      ...{ sourceUri: server.uri, sizeBytes: SIZE, speedBytesPerSecond, skipDamage: true },
      target: { $case: 'instant', value: { ...value, ...change } },
    });
  const volume = () => node.clients.volumes.getVolume({ volumeId });
  const file = () => node.path('volumes', volumeId, 'disk.qcow2');
  return { node, server, contents, start, volume, volumeId, backupId, file };
}

const setSpeed = (node: RunningStorageNode, jobId: string, speedBytesPerSecond: number) =>
  node.clients.jobs.setJobSpeed({ step: newStep(), jobId, speedBytesPerSecond });

describe('a volume of an instant restore', () => {
  it('is there at once, takes writes while it is filled, and then stands alone', async () => {
    const { node, server, contents, start, volume, volumeId, backupId } = await world({
      speedBytesPerSecond: 1,
    });
    const { jobId } = await start();
    expect(jobId).toBe(`stream-${volumeId}`);
    const early = await volume();
    expect(early).toMatchObject({ format: 'qcow2', source: { backupId, uri: server.uri }, sizeBytes: SIZE });
    expect(early.source!.leftBytes).toBeGreaterThan(8 * MiB);
    expect(early.checkpoints).toMatchObject([
      {
        name: 'monday',
        originBackupId: backupId,
        recording: true,
        changedSinceBytes: 0,
        inconsistent: false,
      },
    ]);
    expect((await readDisk(early.exportUri)).equals(contents)).toBe(true);
    await withGuest(early.exportUri, async guest => {
      const bytes = randomBytes(3 * CLUSTER);
      await guest.write(4 * MiB + 100, bytes);
      bytes.copy(contents, 4 * MiB + 100);
      await guest.trim(11 * MiB, 2 * CLUSTER);
      contents.fill(0, 11 * MiB, 11 * MiB + 2 * CLUSTER);
    });
    await setSpeed(node, jobId, 0);
    expect((await jobEnd(node, jobId)).error).toBeUndefined();
    await server.stop();
    const late = await volume();
    expect(late.source).toBeUndefined();
    // What was pulled is no change; what the guest did is.
    expect(late.checkpoints).toMatchObject([{ changedSinceBytes: 6 * CLUSTER }]);
    expect((await readDisk(late.exportUri)).equals(contents)).toBe(true);
    await node.restart();
    expect((await readDisk((await volume()).exportUri)).equals(contents)).toBe(true);
    expect(await start()).toMatchObject({ jobId });
  });

  it('lets guests wait for a backup that is away, and go on when it is back', async () => {
    const { node, server, contents, start, volume } = await world({ speedBytesPerSecond: 1 });
    const { jobId } = await start();
    const guest = await NbdClient.connect({ uri: (await volume()).exportUri });
    await server.stop();
    const bytes = Buffer.alloc(CLUSTER);
    let answered = false;
    const waiting = guest.read(10 * MiB, bytes).then(() => {
      answered = true;
    });
    // What is its own is served meanwhile, other places wait.
    await guest.write(14 * MiB, randomBytes(CLUSTER));
    await new Promise(resolve => setTimeout(resolve, 500));
    expect(answered).toBe(false);
    await server.start();
    await waiting;
    expect(bytes.equals(contents.subarray(10 * MiB, 10 * MiB + CLUSTER))).toBe(true);
    await guest.disconnect();
    await setSpeed(node, jobId, 0);
    expect((await jobEnd(node, jobId)).error).toBeUndefined();
  });

  it('comes up with its storage node though the backup is away, and is filled when that is back', async () => {
    const { node, server, contents, start, volume, volumeId } = await world({ speedBytesPerSecond: 1 });
    const { jobId } = await start();
    await withGuest((await volume()).exportUri, async guest => {
      await guest.write(0, Buffer.alloc(CLUSTER, 7));
      contents.fill(7, 0, CLUSTER);
    });
    await server.stop();
    await node.restart();
    const { exportUri, checkpoints } = await volume();
    expect(checkpoints).toMatchObject([{ changedSinceBytes: CLUSTER, inconsistent: false }]);
    const bytes = Buffer.alloc(CLUSTER);
    await withGuest(exportUri, guest => guest.read(0, bytes));
    expect(bytes.equals(contents.subarray(0, CLUSTER))).toBe(true);
    const reading = readDisk(exportUri);
    // It stops in order while a guest waits, too.
    reading.catch(() => undefined);
    await new Promise(resolve => setTimeout(resolve, 200));
    // The backup comes back only afterwards: a stop that waited for the guest would never end.
    await node.restart();
    await server.start();
    await setSpeed(node, jobId, 0);
    expect((await jobEnd(node, `stream-${volumeId}`)).error).toBeUndefined();
    await server.stop();
    expect((await readDisk((await volume()).exportUri)).equals(contents)).toBe(true);
  });

  it('lets its stream be cancelled while that waits for a backup that is away', async () => {
    const { node, server, start, volume, volumeId } = await world({ speedBytesPerSecond: 1 });
    const { jobId } = await start();
    await server.stop();
    await node.restart();
    await setSpeed(node, jobId, 0);
    await new Promise(resolve => setTimeout(resolve, 300));
    await node.clients.jobs.cancelJob({ step: newStep(), jobId });
    // The backup does not come back: a stream that first waited for it would never end.
    expect((await jobEnd(node, jobId)).error).toMatchObject({ code: 'run-cancelled' });
    // Nothing of the backup counts as lost: it is read as before once it is back.
    expect(await volume()).toMatchObject({ source: {}, checkpoints: [{ changedSinceBytes: 0 }] });
    await node.clients.volumes.deleteVolume({ step: newStep(), volumeId });
    await expect(volume()).rejects.toMatchObject({ code: 'volume-not-found' });
  });

  it('can be deleted while its backup is away and a guest waits', async () => {
    const { node, server, start, volume, volumeId } = await world({ speedBytesPerSecond: 1 });
    await start();
    const { exportUri } = await volume();
    await server.stop();
    const reading = readDisk(exportUri);
    reading.catch(() => undefined);
    await new Promise(resolve => setTimeout(resolve, 100));
    await node.clients.volumes.deleteVolume({ step: newStep(), volumeId });
    await expect(reading).rejects.toThrow();
    await expect(volume()).rejects.toMatchObject({ code: 'volume-not-found' });
    expect((await node.clients.jobs.listJobs({})).jobs).toEqual([]);
    await node.restart();
    await expect(volume()).rejects.toMatchObject({ code: 'volume-not-found' });
  });

  it('can be deleted while a checkpoint waits for its guest, who waits for the backup', async () => {
    const { node, server, start, volume, volumeId } = await world({ speedBytesPerSecond: 1 });
    await start();
    const { exportUri } = await volume();
    await server.stop();
    const reading = readDisk(exportUri);
    reading.catch(() => undefined);
    await new Promise(resolve => setTimeout(resolve, 100));
    const names = { checkpointId: randomUUID(), name: 'tuesday', description: '' };
    const checkpoint = node.clients.checkpoints.createCheckpoint({ step: newStep(), volumeId, ...names });
    checkpoint.catch(() => undefined);
    await new Promise(resolve => setTimeout(resolve, 300));
    await node.clients.volumes.deleteVolume({ step: newStep(), volumeId });
    await expect(reading).rejects.toThrow();
    await expect(volume()).rejects.toMatchObject({ code: 'volume-not-found' });
  });

  it('has zeroes where its backup is damaged, which count as changed', async () => {
    const { node, server, contents, start, volume } = await world();
    server.damage(16, 17, 40, 170);
    const { jobId } = await start();
    const end = await jobEnd(node, jobId);
    expect(end).toMatchObject({ error: undefined, damagedBytes: 4 * CLUSTER });
    for (const cluster of [16, 17, 40, 170]) contents.fill(0, cluster * CLUSTER, (cluster + 1) * CLUSTER);
    const { exportUri, checkpoints } = await volume();
    expect((await readDisk(exportUri)).equals(contents)).toBe(true);
    expect(checkpoints).toMatchObject([{ changedSinceBytes: 4 * CLUSTER }]);
    expect((await node.clients.jobs.getJobDamage({ jobId })).ranges).toEqual([
      { offset: 16 * CLUSTER, length: 2 * CLUSTER },
      { offset: 40 * CLUSTER, length: CLUSTER },
      { offset: 170 * CLUSTER, length: CLUSTER },
    ]);
  });

  it('goes on reading from a backup of which nothing can be read for a while, and loses none of it', async () => {
    const { node, server, contents, start, volume } = await world();
    server.damage(...Array.from({ length: SIZE / CLUSTER }, (_, cluster) => cluster));
    const { jobId } = await start();
    const end = await jobEnd(node, jobId);
    expect(end.error?.message).toMatch(/nothing of the backup can be read/i);
    expect(await volume()).toMatchObject({ source: {}, checkpoints: [{ changedSinceBytes: 0 }] });
    server.repair();
    expect((await readDisk((await volume()).exportUri)).equals(contents)).toBe(true);
    await start();
    expect(await jobEnd(node, jobId)).toMatchObject({ error: undefined, damagedBytes: 0 });
    const { exportUri, source } = await volume();
    expect(source).toBeUndefined();
    expect((await readDisk(exportUri)).equals(contents)).toBe(true);
  });

  it('is refused where it cannot be, and leaves nothing', async () => {
    const { node, server, start } = await world();
    await expect(start({ format: 'raw' })).rejects.toMatchObject({ code: 'invalid-request' });
    await server.stop();
    await expect(start()).rejects.toMatchObject({ code: 'io-error' });
    expect((await node.clients.volumes.listVolumes({})).volumes).toEqual([]);
  });

  it('can be backed up before it stands alone, guests writing and the stream going on', async () => {
    const { node, contents, start, volume } = await world({ speedBytesPerSecond: MiB });
    const { jobId } = await start();
    const { exportUri, checkpoints } = await volume();
    const own = randomBytes(3 * CLUSTER);
    await withGuest(exportUri, guest => guest.write(2 * MiB + 5, own));
    own.copy(contents, 2 * MiB + 5);
    const pair = await BackupPair.of(node, await RunningStorageNode.start(), await volume());
    const backup = await pair.start();
    await withGuest(exportUri, async guest => {
      await guest.write(10 * MiB, randomBytes(MiB));
      await guest.trim(MiB, MiB);
    });
    expect((await jobEnd(node, backup.jobId)).error).toBeUndefined();
    await pair.release(backup);
    await pair.publish(backup);
    expect((await pair.restored(backup)).equals(contents)).toBe(true);
    const now = await readDisk(exportUri);
    await setSpeed(node, jobId, 0);
    expect((await jobEnd(node, jobId)).error).toBeUndefined();
    expect((await readDisk(exportUri)).equals(now)).toBe(true);
    expect((await volume()).checkpoints).toHaveLength(checkpoints.length + 1);
  });

  it('takes no snapshot before it stands alone', async () => {
    const { node, start, volumeId } = await world({ speedBytesPerSecond: 1 });
    const { jobId } = await start();
    const snapshot = () =>
      node.clients.snapshots.createSnapshot({
        step: newStep(),
        volumeId,
        snapshotId: randomUUID(),
        name: 'now',
      });
    await expect(snapshot()).rejects.toMatchObject({ code: 'volume-busy' });
    await setSpeed(node, jobId, 0);
    await jobEnd(node, jobId);
    await snapshot();
  });

  testWith(['qemu-img'], 'leaves a file that QEMU calls whole and equal', async () => {
    const { node, server, contents, start, volume, file } = await world({ speedBytesPerSecond: MiB });
    const { jobId } = await start();
    await withGuest((await volume()).exportUri, async guest => {
      for (const at of [2 * MiB + 7, 9 * MiB, 15 * MiB]) {
        const bytes = randomBytes(100_000);
        await guest.write(at, bytes);
        bytes.copy(contents, at);
      }
    });
    await setSpeed(node, jobId, 0);
    expect((await jobEnd(node, jobId)).error).toBeUndefined();
    await server.stop();
    await node.stop();
    const original = node.path('original.raw');
    await writeFile(original, contents);
    await runTool('qemu-img', 'check', '-f', 'qcow2', file());
    const info = JSON.parse(await runTool('qemu-img', 'info', '--output=json', file())) as object;
    expect(info).not.toHaveProperty('backing-filename');
    await runTool('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', original, file());
    expect((await readFile(original)).length).toBe(SIZE);
  });
});
