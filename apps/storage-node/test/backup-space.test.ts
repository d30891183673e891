// Goal: a copy that will not fit is refused before it begins, what is set aside is nobody else's, and comes back.
// Method: repositories with limits, and one whose file system is asked for more than it has.
import { randomBytes, randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { prepare, publish } from '../src/testing/backup-chain.ts';
import { createRepository, MiB, planOf } from '../src/testing/backups.ts';
import { copyWithSums } from '../src/testing/damage.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';

const room = async (node: RunningStorageNode, repositoryId: string) => {
  const { usedBytes, availableBytes } = await node.clients.repositories.getRepository({ repositoryId });
  return { usedBytes, availableBytes };
};

test('what does not fit under the limit is refused, saying what is expected, what is there, what to do', async () => {
  const node = await RunningStorageNode.start();
  const repositoryId = await createRepository(node, 3 * MiB);
  const plan = { ...planOf(repositoryId, randomUUID()), expectedBytes: 4 * MiB };
  const refused = prepare(node, plan);
  await expect(refused).rejects.toMatchObject({ code: 'repository-full' });
  await expect(refused).rejects.toThrow(
    /expected to take 4\d{6} bytes, but 3145728 are available.*limit of 3145728.*raise/,
  );
  expect(await room(node, repositoryId)).toMatchObject({ usedBytes: 0 });
  await prepare(node, { ...plan, expectedBytes: 2 * MiB });
});

test('what is set aside for one backup is not there for another, and comes back with either end', async () => {
  const node = await RunningStorageNode.start();
  const repositoryId = await createRepository(node, 8 * MiB);
  const first = { ...planOf(repositoryId, randomUUID()), expectedBytes: 4 * MiB };
  const second = { ...planOf(repositoryId, randomUUID()), expectedBytes: 4 * MiB };
  const endpoint = await prepare(node, first);
  expect((await room(node, repositoryId)).usedBytes).toBeGreaterThan(4 * MiB);
  await expect(prepare(node, second)).rejects.toMatchObject({ code: 'repository-full' });
  await copyWithSums(endpoint, { data: [{ offset: 0, bytes: randomBytes(MiB) }] });
  const { storedBytes } = await publish(node, first);
  expect((await room(node, repositoryId)).usedBytes).toBe(storedBytes);
  expect(storedBytes).toBeLessThan(2 * MiB);
  await prepare(node, second);
  await node.clients.repositories.discardBackup({ step: newStep(), ...second });
  expect((await room(node, repositoryId)).usedBytes).toBe(storedBytes);
});

test('without a limit the file system decides, and all repositories on it share what it has', async () => {
  const node = await RunningStorageNode.start();
  const [one, other] = [await createRepository(node), await createRepository(node)];
  const { availableBytes } = await room(node, one);
  const sizeBytes = Math.floor((availableBytes * 0.7) / MiB) * MiB;
  const huge = (repositoryId: string) => ({
    ...planOf(repositoryId, randomUUID()),
    sizeBytes,
    expectedBytes: sizeBytes,
  });
  const first = huge(one);
  await prepare(node, first);
  const refused = prepare(node, huge(other));
  await expect(refused).rejects.toMatchObject({ code: 'repository-full' });
  await expect(refused).rejects.toThrow(/that nobody else waits for/);
  expect((await room(node, other)).availableBytes).toBeLessThan(availableBytes * 0.4);
  await node.clients.repositories.discardBackup({ step: newStep(), ...first });
  await prepare(node, huge(other));
});
