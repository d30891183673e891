// Goal: a disk that is full, or becomes full while a backup is taken out of its chain, costs nothing: what stands on it
// is whole, and with room again the removal ends. Method: a state directory on a file system of 16 MiB.
import { spawnSync } from 'node:child_process';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { MiB, readBackup } from '../../src/testing/backups.ts';
import { ModelChain } from '../../src/testing/model-chain.ts';
import { expectSound, watchRemoval } from '../../src/testing/removals.ts';
import { newStep, RunningStorageNode } from '../../src/testing/running-storage-node.ts';
import { temporaryFolder } from '../../src/testing/temporary-folder.ts';

const CHUNK = Buffer.alloc(64 * 1024, 1);

/** Leaves about so many bytes of the file system. */
async function fill(path: string, leftBytes: number): Promise<void> {
  const file = await open(path, 'a');
  try {
    for (;;) await file.write(CHUNK);
  } catch (error) {
    expect(error).toMatchObject({ code: 'ENOSPC' });
    const { size } = await file.stat();
    await file.truncate(Math.max(0, size - leftBytes));
  } finally {
    await file.close();
  }
}

test('a removal refuses a full disk, and survives one that becomes full', async context => {
  const folder = await temporaryFolder();
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', folder]);
  context.skip(mounted.status !== 0, 'mounting a file system is not allowed here');
  onTestFinished(() => void spawnSync('umount', ['--lazy', folder]));
  const node = await RunningStorageNode.start(join(folder, 'state'));
  const chain = await ModelChain.start(node, { seed: 41 });
  await chain.add();
  const small = await chain.add({ changes: 1 });
  const increment = await chain.add({ changes: 24 });
  const { repositoryId } = chain;
  const request = { repositoryId, backupId: small.backupId };
  const backups = node.path('repositories', repositoryId, 'backups');
  const filler = join(folder, 'filler');
  const expectWhole = async () => {
    const read = await readBackup(node, { repositoryId, backupId: increment.backupId });
    expect(read.equals(increment.content)).toBe(true);
  };

  await fill(filler, MiB / 2);
  await expect(watchRemoval(node, request)).rejects.toThrow(
    /repository-full: .* bytes are needed for a while/,
  );
  await expectWhole();
  await rm(filler);

  const slow = { step: newStep(), ...request, speedBytesPerSecond: MiB };
  const { jobId } = await node.clients.repositories.startRemoval(slow);
  await expect.poll(async () => (await node.clients.jobs.getJob({ jobId })).currentBytes).toBeGreaterThan(0);
  await fill(filler, 0);
  await node.clients.jobs.setJobSpeed({ step: newStep(), jobId, speedBytesPerSecond: 0 });
  await expect
    .poll(async () => (await node.clients.jobs.getJob({ jobId })).error)
    .toMatchObject({
      code: 'repository-full',
      message: expect.stringContaining('became full while backup'),
    });
  await expectWhole();
  await rm(filler);
  await node.restart();
  await expectWhole();
  await watchRemoval(node, request);
  await expectWhole();
  await expectSound(backups, increment.backupId);
});
