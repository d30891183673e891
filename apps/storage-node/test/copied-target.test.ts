// Goal: only the target that the whole copy went to is ever published, however often the repository's host restarts.
// Method: two whole storage nodes, and a copy that has ended before its target is lost.
import { randomBytes, randomUUID } from 'node:crypto';
import { NbdClient, NbdOptionError } from '@tidemark/nbd';
import { expect, it } from 'vitest';
import { freePort } from '../../../scripts/process/ports.mjs';
import { MiB } from '../src/testing/backups.ts';
import { BackupPair, jobEnd, readDisk, withGuest } from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';

it('an empty or half-copied target is refused, and stays to be copied to', async () => {
  const source = await RunningStorageNode.start();
  const vault = await RunningStorageNode.start();
  const pair = await BackupPair.make(source, vault, { volume: { sizeBytes: 8 * MiB } });
  const content = randomBytes(8 * MiB);
  await withGuest(pair.volume.exportUri, guest => guest.write(0, content));
  const backup = await pair.start();
  const { uri: lost } = await pair.prepare(backup);
  expect((await jobEnd(source, backup.jobId)).error).toBeUndefined();
  await vault.restart();
  const notCopied = { code: 'backup-not-found' };
  await expect(pair.publish(backup, undefined, lost)).rejects.toMatchObject(notCopied);
  const { uri, sumsUri } = await pair.prepare(backup);
  await expect(pair.publish(backup, undefined, lost), 'empty').rejects.toMatchObject(notCopied);

  const { volumeId } = pair.volume;
  const { checkpointId } = backup;
  const place = { volumeId, checkpointId, targetUri: uri, sumsUri };
  const start = { step: newStep(), ...place, checkpointName: 'again' };
  const repeated = await source.clients.jobs.startBackup(start);
  expect(repeated, 'of then').toMatchObject({ jobId: backup.jobId, targetUri: lost });
  const slow = { step: newStep(), ...place, speedBytesPerSecond: 1 };
  const again = await source.clients.jobs.continueBackup(slow);
  expect(again.targetUri).toBe(uri);
  await expect(pair.publish(backup, undefined, lost), 'half').rejects.toMatchObject(notCopied);
  const { backups } = await vault.clients.repositories.listBackups({ repositoryId: pair.repositoryId });
  expect(backups).toEqual([]);

  const { jobId } = again;
  await source.clients.jobs.setJobSpeed({ step: newStep(), jobId, speedBytesPerSecond: 0 });
  expect((await jobEnd(source, jobId)).error).toBeUndefined();
  await pair.publish(backup, undefined, uri);
  await pair.release(backup);
  expect((await pair.restored(backup)).equals(content)).toBe(true);
  expect((await readDisk(pair.volume.exportUri)).equals(content)).toBe(true);
});

it('a name that its host does not know any more is worth another try', async () => {
  const source = await RunningStorageNode.start();
  const vault = await RunningStorageNode.start();
  const pair = await BackupPair.make(source, vault, { volume: { sizeBytes: MiB } });
  const { backup } = await pair.backUp();
  const name = randomBytes(16).toString('hex');
  const dead = (await pair.prepare({ backupId: randomUUID() })).uri.replace(/[^/]+$/, name);
  const { jobs } = source.clients;
  const { volumeId, sizeBytes } = pair.volume;
  const ids = { volumeId, checkpointId: randomUUID(), checkpointName: 'tuesday' };
  const start = jobs.startBackup({ step: newStep(), ...ids, targetUri: dead });
  await expect(start).rejects.toMatchObject({ code: 'io-error' });
  const target = { $case: 'file' as const, value: { name: 'disk.raw', format: 'raw' } };
  const restore = jobs.startRestore({ step: newStep(), sourceUri: dead, sizeBytes, target });
  await expect(restore).rejects.toMatchObject({ code: 'io-error' });
  const base = { volumeId, baseCheckpointId: backup.checkpointId, sumsUri: dead };
  await expect(jobs.startAudit({ step: newStep(), ...base })).rejects.toMatchObject({ code: 'io-error' });
  expect(await pair.checkpoints()).toHaveLength(1);
});

it('whoever connects while a storage node starts is never told that a lasting name is unknown', async () => {
  const source = await RunningStorageNode.start();
  const nbd = { TIDEMARK_NBD_LISTEN: `127.0.0.1:${await freePort()}` };
  const vault = await RunningStorageNode.start(undefined, nbd);
  const pair = await BackupPair.make(source, vault, { volume: { sizeBytes: MiB } });
  const { backup } = await pair.backUp();
  const { backupId } = backup;
  const place = { step: newStep(), repositoryId: pair.repositoryId, backupId };
  const { uri } = await vault.clients.repositories.openBackup({ ...place, durable: true });
  await vault.stop();
  const beginning = vault.begin();
  const refusals: unknown[] = [];
  for (;;) {
    try {
      await (await NbdClient.connect({ uri })).disconnect();
      break;
    } catch (error) {
      refusals.push(error);
    }
  }
  await beginning;
  expect(refusals.filter(error => error instanceof NbdOptionError)).toEqual([]);
  expect((await vault.clients.repositories.openBackup({ ...place, durable: true })).uri).toBe(uri);
});
