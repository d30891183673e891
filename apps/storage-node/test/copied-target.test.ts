// Goal: only the target that the whole copy went to is ever published, however often the repository's host restarts.
// Method: two whole storage nodes, and a copy that has ended before its target is lost.
import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
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
