// Goal: a backup's point in time stays as it was through whatever interrupts its copy, and costs the guest no more
// than a copy to a local, bounded scratch. Method: two whole storage nodes, with a line between them that is cut.
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { clusterDigest, RECORD_BYTES } from '../src/sums/sums-format.ts';
import { MiB } from '../src/testing/backups.ts';
import { CutLine } from '../src/testing/cut-line.ts';
import { BackupPair, jobEnd, readDisk, type StartedBackup, withGuest } from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';

const KiB = 1024;
const CLUSTER = 64 * KiB;
const SLOW = { speedBytesPerSecond: 1 };

async function makePair(options: { reconnectMs?: number; sizeBytes?: number } = {}): Promise<BackupPair> {
  const { reconnectMs = 0, sizeBytes = 16 * MiB } = options;
  const settings = { TIDEMARK_TARGET_RECONNECT_MS: String(reconnectMs) };
  const source = await RunningStorageNode.start(undefined, settings);
  return BackupPair.make(source, await RunningStorageNode.start(), { volume: { sizeBytes } });
}

/** A disk full of data, as it was before. */
async function fill(pair: BackupPair): Promise<Buffer> {
  await withGuest(pair.volume.exportUri, guest => guest.write(0, randomBytes(guest.sizeBytes)));
  return readDisk(pair.volume.exportUri);
}

async function overwrite(pair: BackupPair): Promise<void> {
  await withGuest(pair.volume.exportUri, async guest => {
    const places = Array.from({ length: 64 }, (_, index) => ((index * 7919) % 4000) * 4 * KiB);
    await Promise.all(places.map(offset => guest.write(offset, randomBytes(4 * KiB))));
    await guest.flush();
  });
}

async function goOn(pair: BackupPair, { jobId }: StartedBackup): Promise<void> {
  await pair.source.clients.jobs.setJobSpeed({ step: newStep(), jobId, speedBytesPerSecond: 0 });
}

async function scratchFiles(pair: BackupPair): Promise<string[]> {
  return readdir(pair.source.path('scratch'));
}

const moments = async (pair: BackupPair) => (await pair.source.clients.jobs.listMoments({})).moments;

describe('the frozen moment of a backup', () => {
  it('is kept in a local scratch until it is released, and then nothing of it is left', async () => {
    const pair = await makePair();
    const before = await fill(pair);
    const backup = await pair.start(SLOW);
    await overwrite(pair);
    const [moment] = await moments(pair);
    expect(moment).toMatchObject({ momentId: backup.checkpointId, kind: 'backup', broken: '' });
    expect(moment!.scratchBytes).toBeGreaterThan(32 * CLUSTER);
    expect(await scratchFiles(pair)).toEqual([`${backup.checkpointId}.qcow2`]);
    await goOn(pair, backup);
    expect((await jobEnd(pair.source, backup.jobId)).error).toBeUndefined();
    await overwrite(pair);
    await pair.publish(backup);
    await pair.release(backup);
    await pair.release(backup);
    expect(await scratchFiles(pair)).toEqual([]);
    expect(await moments(pair)).toEqual([]);
    expect((await pair.restored(backup)).equals(before)).toBe(true);
    const { volumeId } = pair.volume;
    await pair.source.clients.volumes.deleteVolume({ step: newStep(), volumeId });
  });

  it.each([true, false])(
    'covers what an attempt before has left at the target (direct: %s)',
    async direct => {
      const pair = await makePair();
      await withGuest(pair.volume.exportUri, guest => guest.write(MiB, randomBytes(MiB)));
      const ids = { backupId: randomUUID(), checkpointId: randomUUID() };
      const { uri, sumsUri } = await pair.prepare(ids);
      const old = randomBytes(CLUSTER);
      await withGuest(uri, target => target.write(5 * CLUSTER, old));
      await withGuest(sumsUri, sums => sums.write(5 * RECORD_BYTES, clusterDigest(old)));
      const started = await pair.source.clients.jobs.startBackup({
        ...{ step: newStep(), volumeId: pair.volume.volumeId, checkpointName: 'again', direct },
        ...{ checkpointId: ids.checkpointId, targetUri: uri, sumsUri },
      });
      expect((await jobEnd(pair.source, started.jobId)).error).toBeUndefined();
      const backup = { ...started, ...ids };
      await pair.publish(backup);
      const restored = await pair.restored(backup);
      expect(restored.equals(await readDisk(pair.volume.exportUri))).toBe(true);
    },
  );

  it('keeps of an increment only what has changed since its base', async () => {
    const pair = await makePair();
    await fill(pair);
    const { backup: parent } = await pair.backUp();
    await withGuest(pair.volume.exportUri, guest => guest.write(MiB, randomBytes(4 * MiB)));
    const before = await readDisk(pair.volume.exportUri);
    const backup = await pair.start({ parent, ...SLOW });
    expect(backup.dirtyBytes).toBe(4 * MiB);
    await withGuest(pair.volume.exportUri, guest => guest.write(5 * MiB, randomBytes(8 * MiB)));
    const [moment] = await moments(pair);
    expect(moment!.scratchBytes).toBeLessThan(MiB);
    await goOn(pair, backup);
    expect((await jobEnd(pair.source, backup.jobId)).error).toBeUndefined();
    await pair.publish(backup, parent);
    await pair.release(backup);
    expect((await pair.restored(backup)).equals(before)).toBe(true);
    const next = await pair.backUp(backup);
    expect(next.backup.dirtyBytes).toBe(8 * MiB);
  });

  it('is given up, and never the guest, when the scratch has reached its bound', async () => {
    const pair = await makePair();
    await fill(pair);
    const backup = await pair.start({ ...SLOW, scratchLimitBytes: MiB });
    await overwrite(pair);
    const { error } = await jobEnd(pair.source, backup.jobId);
    expect(error).toMatchObject({ code: 'moment-lost' });
    expect(error!.message).toContain('The scratch');
    const [moment] = await moments(pair);
    expect(moment!.broken).not.toBe('');
    expect(await scratchFiles(pair)).toEqual([]);
    await expect(pair.continue(backup)).rejects.toMatchObject({ code: 'moment-lost' });
    await pair.release(backup);
    expect(await moments(pair)).toEqual([]);
  });

  it('fails the guest instead where that was asked for', async () => {
    const pair = await makePair();
    const before = await fill(pair);
    const policy = { onCbwError: 'break-guest-write', scratchLimitBytes: MiB };
    const backup = await pair.start({ ...SLOW, ...policy });
    await expect(overwrite(pair)).rejects.toThrow();
    await goOn(pair, backup);
    expect((await jobEnd(pair.source, backup.jobId)).error).toBeUndefined();
    await pair.publish(backup);
    expect((await pair.restored(backup)).equals(before)).toBe(true);
    await expect(pair.start({ onCbwError: 'break-all' })).rejects.toMatchObject({ code: 'invalid-request' });
  });

  it('goes with a job that is cancelled, and with the process', async () => {
    const pair = await makePair();
    await fill(pair);
    const cancelled = await pair.start(SLOW);
    await pair.source.clients.jobs.cancelJob({ step: newStep(), jobId: cancelled.jobId });
    expect((await jobEnd(pair.source, cancelled.jobId)).error).toMatchObject({ code: 'run-cancelled' });
    expect(await moments(pair)).toEqual([]);
    expect(await scratchFiles(pair)).toEqual([]);
    const backup = await pair.start(SLOW);
    await pair.source.stop();
    expect(await scratchFiles(pair)).toEqual([]);
    await mkdir(pair.source.path('scratch'), { recursive: true });
    await writeFile(pair.source.path('scratch', 'left-over.qcow2'), 'of a process that was killed');
    await pair.source.begin();
    expect(await scratchFiles(pair)).toEqual([]);
    await expect(pair.continue(backup)).rejects.toMatchObject({ code: 'moment-lost' });
  });

  it('is not needed for a direct backup', async () => {
    const pair = await makePair();
    const before = await fill(pair);
    const backup = await pair.start({ ...SLOW, direct: true });
    await overwrite(pair);
    expect(await moments(pair)).toEqual([]);
    await goOn(pair, backup);
    expect((await jobEnd(pair.source, backup.jobId)).error).toBeUndefined();
    expect(await pair.continue(backup)).toMatchObject({ jobId: backup.jobId, continued: true });
    await pair.publish(backup);
    expect((await pair.restored(backup)).equals(before)).toBe(true);
  });
});

/** Who knows the name of a target's export may write to it. */
function expectPlaceOnly(error: { code: string; message: string } | undefined): void {
  expect(error).toMatchObject({ code: 'io-error' });
  expect(error?.message).toMatch(/to the repository at 127\.0\.0\.1:\d+ failed/);
  expect(JSON.stringify(error)).not.toMatch(/[0-9a-f]{16}/);
}

describe('a copy that fails', () => {
  it('is made again of the same point in time when the repository was restarted', async () => {
    const pair = await makePair();
    const before = await fill(pair);
    const backup = await pair.start(SLOW);
    await overwrite(pair);
    await pair.vault.restart();
    await goOn(pair, backup);
    expectPlaceOnly((await jobEnd(pair.source, backup.jobId)).error);
    const again = await pair.continue(backup);
    expect(again).toMatchObject({ continued: true });
    expect(again.jobId).not.toBe(backup.jobId);
    expect((await jobEnd(pair.source, again.jobId)).error).toBeUndefined();
    expect(await pair.continue(backup)).toEqual(again);
    await pair.publish(backup);
    await pair.release(backup);
    expect((await pair.restored(backup)).equals(before)).toBe(true);
  });

  it('goes on where it was when the line was cut for longer than it waits', async () => {
    const pair = await makePair({ reconnectMs: 200, sizeBytes: 32 * MiB });
    const before = await fill(pair);
    const { line, backup, continueOver } = await startOverLine(pair, { speedBytesPerSecond: 8 * MiB });
    await untilCopied(pair, backup, 4 * MiB);
    line.cut();
    await overwrite(pair);
    const failed = await jobEnd(pair.source, backup.jobId);
    expectPlaceOnly(failed.error);
    line.mend();
    const again = await continueOver();
    const end = await jobEnd(pair.source, again.jobId);
    expect(end.error).toBeUndefined();
    // Nothing that had arrived was sent again.
    expect(failed.sentBytes).toBeGreaterThanOrEqual(4 * MiB);
    expect(end.sentBytes).toBe(pair.volume.sizeBytes);
    expect(end.currentBytes).toBe(pair.volume.sizeBytes);
    await pair.publish(backup);
    await pair.release(backup);
    expect((await pair.restored(backup)).equals(before)).toBe(true);
  });

  it('does not even fail when the line is back soon', async () => {
    const pair = await makePair({ reconnectMs: 10_000 });
    const before = await fill(pair);
    const { line, backup } = await startOverLine(pair, { speedBytesPerSecond: 8 * MiB });
    await untilCopied(pair, backup, 2 * MiB);
    line.cut();
    await overwrite(pair);
    line.mend();
    await goOn(pair, backup);
    expect((await jobEnd(pair.source, backup.jobId)).error).toBeUndefined();
    await pair.publish(backup);
    expect((await pair.restored(backup)).equals(before)).toBe(true);
  });
});

it('lets guests write while the job is paused', async () => {
  const pair = await makePair();
  const before = await fill(pair);
  const { jobs } = pair.source.clients;
  const backup = await pair.start(SLOW);
  const { jobId } = backup;
  await jobs.pauseJob({ step: newStep(), jobId });
  await overwrite(pair);
  expect(await jobs.getJob({ jobId })).toMatchObject({ state: 'paused' });
  await goOn(pair, backup);
  await jobs.resumeJob({ step: newStep(), jobId });
  expect((await jobEnd(pair.source, jobId)).error).toBeUndefined();
  await pair.publish(backup);
  expect((await pair.restored(backup)).equals(before)).toBe(true);
});

it('sends no payload for what the guest has discarded or zeroed', async () => {
  const pair = await makePair({ sizeBytes: 1024 * MiB });
  await withGuest(pair.volume.exportUri, guest => guest.write(0, randomBytes(8 * MiB)));
  const { backup } = await pair.backUp();
  await withGuest(pair.volume.exportUri, async guest => {
    await guest.trim(0, 512 * MiB);
    await guest.writeZeroes(512 * MiB, 256 * MiB, { mayUnmap: true });
  });
  const increment = await pair.backUp(backup);
  expect(increment.backup.dirtyBytes).toBe(768 * MiB);
  expect(increment.end.sentBytes).toBe(0);
  const { storedBytes } = (await pair.vault.clients.repositories.listBackups(pair)).backups[1]!;
  expect(storedBytes).toBeLessThan(2 * MiB);
});

it('copies what was damaged in the parent although it has not changed', async () => {
  const pair = await makePair();
  await fill(pair);
  const { backup: parent } = await pair.backUp();
  const also = [{ offset: 3 * MiB, length: 100 }];
  const backup = await pair.start({ parent, also });
  expect(backup.dirtyBytes).toBe(CLUSTER);
  expect((await jobEnd(pair.source, backup.jobId)).sentBytes).toBe(CLUSTER);
});

/** The target's export, and that of its checksums, by way of a line. */
async function startOverLine(pair: BackupPair, options: { speedBytesPerSecond: number }) {
  const plan = { backupId: crypto.randomUUID() };
  const checkpointId = crypto.randomUUID();
  const { uri, sumsUri } = await pair.prepare(plan);
  const line = await CutLine.to(uri);
  const place = { targetUri: line.over(uri), sumsUri: line.over(sumsUri) };
  const { volumeId } = pair.volume;
  const { jobs } = pair.source.clients;
  const checkpoint = { volumeId, checkpointId, checkpointName: 'over the line' };
  const { jobId, dirtyBytes } = await jobs.startBackup({
    step: newStep(),
    ...checkpoint,
    baseCheckpointId: '',
    ...place,
    ...options,
  });
  const backup = { ...plan, jobId, checkpointId, dirtyBytes };
  const continueOver = () =>
    jobs.continueBackup({ step: newStep(), volumeId, checkpointId, ...place, speedBytesPerSecond: 0 });
  return { line, backup, continueOver };
}

async function untilCopied(pair: BackupPair, { jobId }: StartedBackup, bytes: number): Promise<void> {
  for await (const { currentBytes } of pair.source.clients.watchJob({ jobId })) {
    if (currentBytes >= bytes) return;
  }
}
