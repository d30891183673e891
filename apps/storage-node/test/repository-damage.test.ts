// Goal: one damaged or missing file costs a repository what is in that file alone. Method: files of a real storage
// node are damaged or moved away between two of its lives.
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { makeChain } from '../src/testing/backup-chain.ts';
import { readBackup } from '../src/testing/backups.ts';
import { fillDisk } from '../src/testing/disk-trouble.ts';
import { withGuest } from '../src/testing/live-volume.ts';
import { ModelChain } from '../src/testing/model-chain.ts';
import { watchRemoval } from '../src/testing/removals.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';

test('an image that a kept one stands on stays, though manifests of two below are gone', async () => {
  const node = await RunningStorageNode.start();
  const chain = await ModelChain.start(node);
  const backups = [await chain.add(), await chain.add(), await chain.add(), await chain.add()];
  const { repositoryId } = chain;
  const folder = node.path('repositories', repositoryId, 'backups');
  for (const { backupId } of backups.slice(0, 3)) await rm(`${folder}/${backupId}.json`);
  await node.restart();
  const top = backups.at(-1)!;
  const read = await readBackup(node, { repositoryId, backupId: top.backupId });
  expect(read.equals(top.content)).toBe(true);
  expect((await readdir(folder)).filter(name => name.endsWith('.qcow2'))).toHaveLength(4);
});

test('damaged names of exports and a damaged intent leave the repository there', async () => {
  const node = await RunningStorageNode.start();
  const chain = await ModelChain.start(node);
  const [a, b, c] = [await chain.add(), await chain.add(), await chain.add()];
  const { repositoryId } = chain;
  const folder = node.path('repositories', repositoryId);
  await writeFile(`${folder}/exports.json`, '{"version":');
  await writeFile(`${folder}/backups/.removal-${a.backupId}.json`, '{"version":');
  await writeFile(`${folder}/backups/.removal-${a.backupId}.sums`, 'merged');
  await node.restart();
  const read = await readBackup(node, { repositoryId, backupId: c.backupId });
  expect(read.equals(c.content)).toBe(true);
  expect(await readFile(`${folder}/exports.damaged.json`, 'utf8')).toBe('{"version":');
  expect(await readFile(`${folder}/backups/.removal-${a.backupId}.sums`, 'utf8')).toBe('merged');
  for (const { backupId } of [a, b]) {
    await expect(watchRemoval(node, { repositoryId, backupId })).rejects.toMatchObject({
      code: 'backup-in-use',
    });
  }
  // Its image is there: the removal had changed nothing.
  await rm(`${folder}/backups/.removal-${a.backupId}.json`);
  await node.restart();
  await watchRemoval(node, { repositoryId, backupId: a.backupId });
  const later = await readBackup(node, { repositoryId, backupId: c.backupId });
  expect(later.equals(c.content)).toBe(true);
});

test('an export whose files were away at the start is opened by a scan, under its name', async () => {
  const node = await RunningStorageNode.start(undefined, { TIDEMARK_NBD_LISTEN: '127.0.0.1:0' });
  const { increment } = await makeChain(node);
  const { repositories } = node.clients;
  const step = newStep();
  const { uri } = await repositories.openBackup({ step, ...increment, durable: true });
  const image = node.path('repositories', increment.repositoryId, 'backups', `${increment.backupId}.qcow2`);
  await rename(image, `${image}-away`);
  await node.restart();
  await rename(`${image}-away`, image);
  const other = await node.clients.repositories.openBackup({ step: newStep(), ...increment });
  const name = new URL(uri).pathname;
  const again = new URL(other.uri);
  again.pathname = name;
  const read = () => withGuest(again.href, async guest => guest.sizeBytes);
  await expect(read()).rejects.toThrow();
  const { repositoryId } = increment;
  expect((await node.clients.repositories.scanRepository({ repositoryId })).problems).toEqual([]);
  expect(await read()).toBeGreaterThan(0);
});

test('an export whose end could not be written down is ended for good by the repeat', async () => {
  const node = await RunningStorageNode.start();
  const { increment } = await makeChain(node);
  const step = newStep();
  for (const run of [step, newStep()]) {
    await node.clients.repositories.openBackup({ step: run, ...increment, durable: true });
  }
  const close = () => node.clients.repositories.closeBackup({ step, ...increment });
  const full = await fillDisk();
  await expect(close()).rejects.toThrow();
  full.mockRestore();
  await close();
  await node.restart();
  const { repositoryId } = increment;
  const { open } = await node.clients.repositories.listRepositoryWork({ repositoryId });
  expect(open.map(({ runId }) => runId)).not.toContain(step.runId);
});
