// Goal: a repository whose folder is away, or lacks files, says so by its name and says what to do; the others of its
// storage node do not notice. Method: folders of a real storage node are moved away under it.
import { rename, rm } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { createRepository, MiB, planOf } from '../src/testing/backups.ts';
import { ModelChain } from '../src/testing/model-chain.ts';
import { watchRemoval } from '../src/testing/removals.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';

const VOLUME = crypto.randomUUID();

test('a folder that is away is told by the name of its repository, and hides no other', async () => {
  const node = await RunningStorageNode.start();
  const [here, away] = [await createRepository(node), await createRepository(node)];
  const folder = node.path('repositories', away);
  await rename(folder, `${node.stateDir}/elsewhere`);
  const { repositories } = node.clients;
  const told = {
    code: 'io-error',
    message: expect.stringMatching(
      new RegExp(`repository '?.*${away}.* cannot be read .*Mend or mount its disk`),
    ),
  };
  await expect(repositories.getRepository({ repositoryId: away })).rejects.toMatchObject(told);
  const prepared = repositories.prepareBackup({ step: newStep(), ...planOf(away, VOLUME) });
  await expect(prepared).rejects.toMatchObject(told);
  const all = (await repositories.listRepositories({})).repositories;
  const spaceOf = (id: string) => all.find(({ repositoryId }) => repositoryId === id)?.availableBytes;
  expect(spaceOf(here)).toBeGreaterThan(MiB);
  expect(spaceOf(away)).toBe(0);
  await rename(`${node.stateDir}/elsewhere`, folder);
  expect((await repositories.getRepository({ repositoryId: away })).availableBytes).toBeGreaterThan(MiB);
});

test('a removal that cannot read an image names the backup, its repository and the next step', async () => {
  const node = await RunningStorageNode.start();
  const chain = await ModelChain.start(node);
  const [first, second] = [await chain.add(), await chain.add()];
  const { repositoryId } = chain;
  await rm(node.path('repositories', repositoryId, 'backups', `${second.backupId}.qcow2`));
  const removal = watchRemoval(node, { repositoryId, backupId: first.backupId });
  await expect(removal).rejects.toThrow(
    new RegExp(
      `Backup ${first.backupId} of repository .* could not be taken out of its chain: .*remove it again`,
    ),
  );
});

test('what cannot be prepared or discarded now says what can be done', async () => {
  const node = await RunningStorageNode.start();
  const chain = await ModelChain.start(node);
  const { backupId } = await chain.add();
  const { repositoryId } = chain;
  const discard = node.clients.repositories.discardBackup({ step: newStep(), repositoryId, backupId });
  await expect(discard).rejects.toThrow(/is published and can no longer be discarded\. Delete it/);
});
