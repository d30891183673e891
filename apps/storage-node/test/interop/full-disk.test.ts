// Goal: a disk that is really full ends the backup that filled it, and discarding it is possible and
// makes room again. Method: a state directory on a file system of 6 MiB.
import { spawnSync } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { NbdClient } from '@tidemark/nbd';
import { expect, onTestFinished, test } from 'vitest';
import { createRepository, MiB, planOf, publicationOf } from '../../src/testing/backups.ts';
import { newStep, RunningStorageNode } from '../../src/testing/running-storage-node.ts';
import { temporaryFolder } from '../../src/testing/temporary-folder.ts';

test('a full disk is ENOSPC to the writer and storage-full to the caller', async context => {
  const folder = await temporaryFolder();
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', folder]);
  context.skip(mounted.status !== 0, 'mounting a file system is not allowed here');
  onTestFinished(() => void spawnSync('umount', ['--lazy', folder]));
  const node = await RunningStorageNode.start(join(folder, 'state'));
  const { repositories } = node.clients;
  const repositoryId = await createRepository(node);
  const plan = { ...planOf(repositoryId, randomUUID()), sizeBytes: 32 * MiB };
  const { uri } = await repositories.prepareBackup({ step: newStep(), ...plan });
  const client = await NbdClient.connect({ uri });
  const fill = async () => {
    for (let offset = 0; ; offset += MiB / 4) await client.write(offset, randomBytes(MiB / 4));
  };
  await expect(fill()).rejects.toMatchObject({ errno: 'ENOSPC' });
  await client.disconnect();
  const other = { ...plan, backupId: randomUUID() };
  const publish = repositories.publishBackup({ step: newStep(), ...publicationOf(plan) });
  await expect(publish).rejects.toMatchObject({ code: 'storage-full' });
  // Room is set aside before anything is made.
  const prepare = repositories.prepareBackup({ step: newStep(), ...other });
  await expect(prepare).rejects.toMatchObject({ code: 'repository-full' });
  await repositories.discardBackup({ step: newStep(), ...plan });
  await repositories.prepareBackup({ step: newStep(), ...other });
  await repositories.publishBackup({ step: newStep(), ...publicationOf(other) });
  const { backups } = await repositories.listBackups({ repositoryId });
  expect(backups.map(backup => backup.backupId)).toEqual([other.backupId]);
});
