// Goal: an audit of bitmaps that are right finds nothing, however fast the guest writes; one bit that is missing is
// found; whatever comes of it, nothing is left behind.
// Method: two storage nodes, a volume with a full backup and increments; bits are lost by writing past the bitmaps.
import { randomBytes, randomUUID } from 'node:crypto';
import { open } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { CLUSTER_BYTES } from '../src/sums/sums-format.ts';
import { MiB } from '../src/testing/backups.ts';
import {
  BackupPair,
  jobEnd,
  type StartedBackup,
  VOLUME_BYTES,
  withGuest,
} from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';

async function makePair(): Promise<BackupPair> {
  return BackupPair.make(await RunningStorageNode.start(), await RunningStorageNode.start());
}

/** Ports are other ones after a restart. */
async function write(
  { source, volume: { volumeId } }: BackupPair,
  offset: number,
  bytes: Buffer,
): Promise<void> {
  const { exportUri } = await source.clients.volumes.getVolume({ volumeId });
  await withGuest(exportUri, guest => guest.write(offset, bytes));
}

async function startAudit(pair: BackupPair, { backupId, checkpointId }: StartedBackup, sampleBytes = 0) {
  const step = newStep();
  const { repositories } = pair.vault.clients;
  const { sumsUri } = await repositories.openBackup({ step, repositoryId: pair.repositoryId, backupId });
  const { volumeId } = pair.volume;
  const wanted = { step, volumeId, baseCheckpointId: checkpointId, sumsUri, sampleBytes, seed: 7 };
  return { wanted, started: await pair.source.clients.jobs.startAudit(wanted) };
}

async function audit(pair: BackupPair, backup: StartedBackup, sampleBytes = 0) {
  const { started } = await startAudit(pair, backup, sampleBytes);
  const end = await jobEnd(pair.source, started.jobId);
  const damage = await pair.source.clients.jobs.getJobDamage({ jobId: started.jobId });
  expect((await pair.source.clients.jobs.listMoments({})).moments).toEqual([]);
  return { ...started, end, ranges: damage.ranges };
}

/** What the guest would see, changed so that no bitmap knows. */
async function writePastBitmaps(pair: BackupPair, offset: number, bytes: Buffer): Promise<void> {
  await pair.source.stop();
  const file = await open(pair.source.path('volumes', pair.volume.volumeId, 'disk.raw'), 'r+');
  await file.write(bytes, 0, bytes.length, offset);
  await file.close();
  await pair.source.begin();
}

describe('of bitmaps that are right', () => {
  test('everything that is called unchanged is compared, zeroes too', async () => {
    const pair = await makePair();
    await write(pair, MiB, randomBytes(3 * MiB));
    const { backup } = await pair.backUp();
    await write(pair, 2 * MiB, randomBytes(5 * CLUSTER_BYTES));
    const { end, cleanBytes, ranges } = await audit(pair, backup);
    const clean = VOLUME_BYTES - 5 * CLUSTER_BYTES;
    expect([cleanBytes, end.currentBytes, end.type, end.error, ranges]).toEqual([
      clean,
      clean,
      'audit',
      undefined,
      [],
    ]);
  });

  test('with the checksums of a chain', async () => {
    const pair = await makePair();
    await write(pair, 0, randomBytes(4 * MiB));
    const { backup: full } = await pair.backUp();
    await write(pair, MiB, randomBytes(MiB));
    await withGuest(pair.volume.exportUri, guest => guest.writeZeroes(3 * MiB, MiB));
    const { backup: increment } = await pair.backUp(full);
    await write(pair, 8 * MiB, randomBytes(MiB));
    for (const backup of [full, increment]) expect((await audit(pair, backup)).end.error).toBeUndefined();
  });

  test('while the guest writes as fast as it can, and to more and more of the disk', async () => {
    const source = await RunningStorageNode.start();
    const volume = { sizeBytes: 4 * VOLUME_BYTES };
    const pair = await BackupPair.make(source, await RunningStorageNode.start(), { volume });
    await write(pair, 0, randomBytes(volume.sizeBytes));
    const { backup } = await pair.backUp();
    const clusters = volume.sizeBytes / CLUSTER_BYTES;
    const bytes = randomBytes(4096);
    let writes = 0;
    let isOver = false;
    const guest = withGuest(pair.volume.exportUri, async client => {
      for (; !isOver; writes++) {
        // Most go to what is dirty already; some to the next cluster, which was clean until now.
        const cluster = writes % 8 === 0 ? Math.min(64 + writes / 8, clusters - 1) : writes % 64;
        await client.write(cluster * CLUSTER_BYTES + (writes % 16) * bytes.length, bytes);
      }
    });
    const ends = [];
    for (let round = 0; round < 5; round++) ends.push(await audit(pair, backup, round < 3 ? 0 : 4 * MiB));
    isOver = true;
    await guest;
    expect(ends.map(({ end }) => end.error)).toEqual(ends.map(() => undefined));
    expect(ends[0]!.end.currentBytes).toBeGreaterThan(MiB);
    expect(ends[0]!.cleanBytes).toBeGreaterThan(ends[4]!.cleanBytes);
  });

  test('a sample reads no more than was asked for', async () => {
    const pair = await makePair();
    const { backup } = await pair.backUp();
    const { end, cleanBytes } = await audit(pair, backup, 10 * CLUSTER_BYTES);
    expect([end.currentBytes, end.totalBytes, cleanBytes]).toEqual([
      10 * CLUSTER_BYTES,
      10 * CLUSTER_BYTES,
      VOLUME_BYTES,
    ]);
  });
});

describe('of bitmaps that are wrong', () => {
  test('one lost bit is found, and its place is told', async () => {
    const pair = await makePair();
    await write(pair, 0, randomBytes(4 * MiB));
    const { backup } = await pair.backUp();
    await write(pair, 9 * MiB, randomBytes(MiB));
    await writePastBitmaps(pair, 2 * MiB + 1000, Buffer.from('lost'));
    const { end, ranges } = await audit(pair, backup);
    expect(end.error).toMatchObject({ code: 'audit-failed' });
    expect(end.error!.message).toContain(`nothing was written at ${2 * MiB} since the checkpoint`);
    expect([end.damagedBytes, ranges]).toEqual([CLUSTER_BYTES, [{ offset: 2 * MiB, length: CLUSTER_BYTES }]]);
    // Known as written, it is no business of the audit.
    await write(pair, 2 * MiB, randomBytes(512));
    expect((await audit(pair, backup)).end.error).toBeUndefined();
  });

  test('data where the backup has zeroes is found', async () => {
    const pair = await makePair();
    const { backup } = await pair.backUp();
    await writePastBitmaps(pair, 5 * MiB, Buffer.from('new'));
    const { end, ranges } = await audit(pair, backup);
    expect([end.error?.code, ranges[0]?.offset]).toEqual(['audit-failed', 5 * MiB]);
  });
});

describe('whatever comes of it', () => {
  test('repeated by its run it is the same job, and the verbs of jobs hold', async () => {
    const pair = await makePair();
    const { backup } = await pair.backUp();
    const { wanted, started } = await startAudit(pair, backup);
    const { jobs } = pair.source.clients;
    expect(await jobs.startAudit(wanted)).toEqual(started);
    const end = await jobEnd(pair.source, started.jobId);
    expect(end.state).toBe('concluded');
    await jobs.dismissJob({ step: newStep(), jobId: started.jobId });
    expect((await jobs.listJobs({})).jobs.filter(({ type }) => type === 'audit')).toEqual([]);
  });

  test('it can be cancelled, and the volume is free again', async () => {
    const pair = await makePair();
    const { backup } = await pair.backUp();
    const { started } = await startAudit(pair, backup);
    const { jobs, volumes } = pair.source.clients;
    const step = newStep();
    await jobs
      .setJobSpeed({ step, jobId: started.jobId, speedBytesPerSecond: CLUSTER_BYTES })
      .catch(() => undefined);
    await jobs.cancelJob({ step, jobId: started.jobId }).catch(() => undefined);
    expect((await jobEnd(pair.source, started.jobId)).state).toBe('concluded');
    expect((await jobs.listMoments({})).moments).toEqual([]);
    await volumes.deleteVolume({ step, volumeId: pair.volume.volumeId });
  });

  test('what cannot begin leaves nothing', async () => {
    const pair = await makePair();
    const { backup } = await pair.backUp();
    const { jobs } = pair.source.clients;
    const wanted = {
      volumeId: pair.volume.volumeId,
      baseCheckpointId: backup.checkpointId,
      sampleBytes: 0,
      seed: 1,
    };
    const unknown = { ...wanted, baseCheckpointId: randomUUID(), sumsUri: 'nbd://127.0.0.1:1/none' };
    await expect(jobs.startAudit({ step: newStep(), ...unknown })).rejects.toMatchObject({
      code: 'checkpoint-not-found',
    });
    const nowhere = { ...wanted, sumsUri: 'nbd://127.0.0.1:1/none' };
    await expect(jobs.startAudit({ step: newStep(), ...nowhere })).rejects.toMatchObject({
      code: 'io-error',
    });
    expect((await jobs.listMoments({})).moments).toEqual([]);
    await pair.source.clients.volumes.deleteVolume({ step: newStep(), volumeId: pair.volume.volumeId });
  });
});
