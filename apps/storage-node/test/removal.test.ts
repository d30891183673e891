// Goal: a backup leaves its chain, and whatever is read of the others at any moment, before, meanwhile and after, is
// what they held. Method: chains of random backups with models beside; readers that never rest.

import { readdir, readFile, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { openImage } from '@tidemark/engine';
import { beforeEach, describe, expect, test } from 'vitest';
import { MiB, planOf, readBackup } from '../src/testing/backups.ts';
import { failSync } from '../src/testing/disk-trouble.ts';
import { type ChainBackup, ModelChain } from '../src/testing/model-chain.ts';
import { expectSound, watchRemoval } from '../src/testing/removals.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';

let node: RunningStorageNode;
beforeEach(async () => {
  node = await RunningStorageNode.start();
});

async function expectContents(chain: ModelChain, backups: readonly ChainBackup[]): Promise<void> {
  for (const { backupId, content } of backups) {
    const read = await readBackup(node, { repositoryId: chain.repositoryId, backupId });
    expect(read.equals(content)).toBe(true);
    await expectSound(node.path('repositories', chain.repositoryId, 'backups'), backupId);
  }
}

const listed = async ({ repositoryId }: ModelChain) =>
  (await node.clients.repositories.listBackups({ repositoryId })).backups;
const files = async ({ repositoryId }: ModelChain) =>
  (await readdir(node.path('repositories', repositoryId, 'backups'))).sort();
const filesOf = (backups: readonly ChainBackup[]) =>
  backups.flatMap(({ backupId }) => ['json', 'qcow2', 'sums'].map(end => `${backupId}.${end}`)).sort();
const remove = (chain: ModelChain, { backupId }: ChainBackup, speedBytesPerSecond = 0) =>
  watchRemoval(node, { repositoryId: chain.repositoryId, backupId, speedBytesPerSecond });
const start = (chain: ModelChain, { backupId }: ChainBackup, speedBytesPerSecond = 0) =>
  node.clients.repositories.startRemoval({
    step: newStep(),
    repositoryId: chain.repositoryId,
    backupId,
    speedBytesPerSecond,
  });

describe.each(['none', 'zstd'])('compressed: %s', compression => {
  test('one in the middle goes into what follows it, and the others read as before', async () => {
    const chain = await ModelChain.start(node, { seed: 3, compression });
    for (let n = 0; n < 4; n++) await chain.add();
    const [a, b, c, d] = chain.backups as [ChainBackup, ChainBackup, ChainBackup, ChainBackup];
    await remove(chain, b);
    const left = [a, c, d];
    await expectContents(chain, left);
    expect(
      (await listed(chain)).map(({ backupId, parentBackupId, kind }) => [backupId, parentBackupId, kind]),
    ).toEqual(
      expect.arrayContaining([
        [a.backupId, '', 'full'],
        [c.backupId, a.backupId, 'incremental'],
        [d.backupId, c.backupId, 'incremental'],
      ]),
    );
    expect(await files(chain)).toEqual(filesOf(left));
    await node.restart();
    await expectContents(chain, left);
  });

  test('the full one goes, and its increment is full from then on and says why', async () => {
    const chain = await ModelChain.start(node, { seed: 4, compression });
    const full = await chain.add();
    const increment = await chain.add({ sizeBytes: 5 * MiB + 512 });
    const next = await chain.add();
    await remove(chain, full);
    await expectContents(chain, [increment, next]);
    const found = (await listed(chain)).find(({ backupId }) => backupId === increment.backupId);
    expect(found).toMatchObject({ kind: 'full', parentBackupId: '', hasSums: true });
    expect(found?.reason).toMatch(
      /^full: took over the backups it stood on, .*before: incremental: asked for/,
    );
    expect(await files(chain)).toEqual(filesOf([increment, next]));
  });
});

test('data that was compressed stays so in the image it is merged into', async () => {
  const sizes: number[] = [];
  for (const compression of ['none', 'zstd']) {
    const chain = await ModelChain.start(node, { seed: 6, compression });
    const full = await chain.add({ changes: 2 });
    await chain.add({ changes: 30 });
    await remove(chain, full);
    sizes.push((await listed(chain))[0]!.storedBytes);
  }
  expect(sizes[1]!).toBeLessThan(sizes[0]! * 0.8);
});

test('what nobody stands on goes with its files, and again means the same', async () => {
  const chain = await ModelChain.start(node, { seed: 5 });
  const a = await chain.add();
  const b = await chain.add();
  const before = (await node.clients.repositories.getRepository(chain)).usedBytes;
  const { storedBytes } = (await listed(chain)).find(({ backupId }) => backupId === b.backupId)!;
  await remove(chain, b);
  await remove(chain, b);
  expect((await node.clients.repositories.getRepository(chain)).usedBytes).toBe(before - storedBytes);
  expect(await files(chain)).toEqual(filesOf([a]));
  await expectContents(chain, [a]);
  await node.restart();
  await expect(start(chain, b)).rejects.toMatchObject({ code: 'backup-not-found' });
});

test('a parent of two is hidden, also after a restart, and goes once one is left', async () => {
  const chain = await ModelChain.start(node, { seed: 7 });
  const root = await chain.add();
  const parent = await chain.add();
  const left = await chain.add();
  const right = await chain.add({ parent });
  await expect(start(chain, parent)).rejects.toMatchObject({ code: 'backup-in-use' });
  await node.restart();
  const { repositoryId } = chain;
  expect((await listed(chain)).filter(({ hidden }) => hidden).map(({ backupId }) => backupId)).toEqual([
    parent.backupId,
  ]);
  const { repositories } = node.clients;
  const opening = repositories.openBackup({ step: newStep(), repositoryId, backupId: parent.backupId });
  await expect(opening).rejects.toMatchObject({ code: 'backup-not-usable' });
  const building = repositories.prepareBackup({
    step: newStep(),
    ...planOf(repositoryId, chain.volumeId, parent.backupId),
  });
  await expect(building).rejects.toMatchObject({ code: 'backup-not-usable' });
  await expectContents(chain, [root, left, right]);
  await remove(chain, right);
  await remove(chain, parent);
  await expectContents(chain, [root, left]);
  expect(await files(chain)).toEqual(filesOf([root, left]));
});

test('whoever reads a backup or writes over it holds it and its parent', async () => {
  const chain = await ModelChain.start(node, { seed: 8 });
  const [a, b] = [await chain.add(), await chain.add()];
  const { repositories } = node.clients;
  const { repositoryId } = chain;
  const step = newStep();
  await repositories.openBackup({ step, repositoryId, backupId: b.backupId });
  await expect(start(chain, b)).rejects.toThrow(/is used by a run that reads it/);
  // Not hidden: somebody was there first.
  expect((await listed(chain)).map(({ hidden }) => hidden)).toEqual([false, false]);
  await expect(start(chain, a)).rejects.toThrow(/stays while its child .* is used by a run that reads it/);
  await repositories.closeBackup({ step, repositoryId, backupId: b.backupId });
  const plan = planOf(repositoryId, chain.volumeId, b.backupId);
  await repositories.prepareBackup({ step: newStep(), ...plan });
  await expect(start(chain, b)).rejects.toThrow(/is used by backup .* which is being written over it/);
  await expect(start(chain, a)).rejects.toMatchObject({ code: 'backup-in-use' });
  await repositories.discardBackup({ step: newStep(), repositoryId, backupId: plan.backupId });
  await remove(chain, a);
  await expectContents(chain, [b]);
});

test('a child whose manifest is damaged keeps what it stands on', async () => {
  const chain = await ModelChain.start(node, { seed: 11 });
  const [a, b] = [await chain.add(), await chain.add()];
  const manifest = node.path('repositories', chain.repositoryId, 'backups', `${b.backupId}.json`);
  const good = await readFile(manifest);
  await writeFile(manifest, '{"version":2');
  await node.restart();
  expect((await listed(chain)).map(({ backupId }) => backupId)).toEqual([a.backupId]);
  await expect(start(chain, a)).rejects.toThrow(/stands on it, which has no sound manifest/);
  await writeFile(manifest, good);
  await node.restart();
  await expectContents(chain, [b]);
  await remove(chain, a);
  await expectContents(chain, [b]);
});

test('two removals do not meet in one backup', async () => {
  const chain = await ModelChain.start(node, { seed: 9 });
  const [a, b, c, d] = [await chain.add(), await chain.add(), await chain.add(), await chain.add()];
  const { jobId } = await start(chain, b, 1);
  await expect(start(chain, c)).rejects.toThrow(/is used by another removal/);
  await expect(start(chain, a)).rejects.toThrow(/child .* is used by another removal/);
  expect(await start(chain, b, 1)).toEqual({ jobId });
  await node.clients.jobs.cancelJob({ step: newStep(), jobId });
  await expect.poll(async () => (await node.clients.jobs.getJob({ jobId })).state).toBe('concluded');
  await remove(chain, b);
  await remove(chain, c);
  await expectContents(chain, [d]);
  await remove(chain, a);
  await expectContents(chain, [d]);
});

test('neighbours that begin to leave at once do not both go on', async () => {
  const chain = await ModelChain.start(node, { seed: 12 });
  const [a, b, c, d] = [await chain.add(), await chain.add(), await chain.add(), await chain.add()];
  const begun = await Promise.allSettled([start(chain, b, 1), start(chain, c, 1)]);
  expect(begun.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  const refused = begun.find(({ status }) => status === 'rejected') as PromiseRejectedResult;
  expect(refused.reason).toMatchObject({ code: 'backup-in-use' });
  await node.restart();
  await remove(chain, b);
  await remove(chain, c);
  await expectContents(chain, [a, d]);
});

test.each([1, 2, 3, 4, 5])(
  'a removal whose disk fails after its intent is ended by the next one (%i)',
  async nth => {
    const chain = await ModelChain.start(node, { seed: 13 });
    const [a, b, c, d] = [await chain.add(), await chain.add(), await chain.add(), await chain.add()];
    const { usedBytes } = await node.clients.repositories.getRepository(chain);
    // Of the syncs that follow the intent, the nth one fails.
    const disk = await failSync({ after: `.removal-${b.backupId}.json`, nth });
    await expect(remove(chain, b)).rejects.toThrow(/EIO/);
    disk.mockRestore();
    await expect(start(chain, c)).rejects.toThrow(/is used by another removal/);
    await expect(start(chain, a)).rejects.toThrow(/child .* is used by another removal/);
    expect((await listed(chain)).find(({ backupId }) => backupId === b.backupId)).toMatchObject({
      hidden: true,
    });
    await remove(chain, b);
    expect(await files(chain)).toEqual(filesOf([a, c, d]));
    await expectContents(chain, [c, d]);
    await remove(chain, c);
    await remove(chain, a);
    await expectContents(chain, [d]);
    expect((await node.clients.repositories.getRepository(chain)).usedBytes).toBeLessThan(usedBytes);
    await node.restart();
    await expectContents(chain, [d]);
    expect(await files(chain)).toEqual(filesOf([d]));
  },
);

test('pause, speed and cancel: a cancelled removal leaves the child whole and can be done again', async () => {
  const chain = await ModelChain.start(node, { seed: 10 });
  const a = await chain.add();
  const b = await chain.add({ changes: 40 });
  const { jobs } = node.clients;
  const { jobId } = await start(chain, a, 1);
  await jobs.pauseJob({ step: newStep(), jobId });
  await expect.poll(async () => (await jobs.getJob({ jobId })).state).toBe('paused');
  await expectContents(chain, [b]);
  await jobs.resumeJob({ step: newStep(), jobId });
  await jobs.setJobSpeed({ step: newStep(), jobId, speedBytesPerSecond: 2 });
  expect(await jobs.getJob({ jobId })).toMatchObject({ type: 'removal', speedBytesPerSecond: 2 });
  await jobs.cancelJob({ step: newStep(), jobId });
  await expect.poll(async () => (await jobs.getJob({ jobId })).error?.code).toBe('run-cancelled');
  await expectContents(chain, [b]);
  expect((await listed(chain)).map(({ backupId, hidden }) => [backupId, hidden])).toEqual(
    expect.arrayContaining([
      [a.backupId, true],
      [b.backupId, false],
    ]),
  );
  await node.restart();
  await remove(chain, a);
  await expectContents(chain, [b]);
  expect(await files(chain)).toEqual(filesOf([b]));
});

test('readers along the chain, and a backup on top of it, see nothing of all removals', async () => {
  const chain = await ModelChain.start(node, { seed: 11 });
  for (let n = 0; n < 8; n++) await chain.add({ changes: 6, ...(n === 0 && { sizeBytes: 2 * MiB }) });
  const folder = node.path('repositories', chain.repositoryId, 'backups');
  const kept = [chain.backups[3]!, chain.backups[7]!];
  const keptIds = new Set(kept.map(({ backupId }) => backupId));
  let isOver = false;
  const looks: number[] = [];
  // One keeps its images open all the time, one opens anew each time, as a restore and a new export do.
  const keeps = async ({ backupId, content }: ChainBackup, reader: number) => {
    const image = await openImage(`${folder}/${backupId}.qcow2`, { readOnly: true });
    try {
      while (!isOver) await look(image, content, reader);
    } finally {
      await image.close();
    }
  };
  const opens = async ({ backupId, content }: ChainBackup, reader: number) => {
    while (!isOver) {
      const image = await openImage(`${folder}/${backupId}.qcow2`, { readOnly: true });
      await look(image, content, reader).finally(() => image.close());
    }
  };
  type Image = { read(offset: number, buffer: Buffer): unknown };
  const look = async (image: Image, content: Buffer, reader: number) => {
    const read = Buffer.alloc(content.length);
    await image.read(0, read);
    if (!read.equals(content)) throw new Error('a reader saw something else');
    looks[reader] = (looks[reader] ?? 0) + 1;
    await sleep(3);
  };
  const readers = Promise.all(
    [keeps, opens].flatMap((read, n) => kept.map((one, m) => read(one, 2 * n + m))),
  );
  readers.catch(() => undefined);
  // So that each of them sees what every step leaves; one that saw something else ends the test here.
  const allLooked = async () => {
    const before = [...looks];
    const isWaiting = () => [0, 1, 2, 3].some(reader => (looks[reader] ?? 0) < (before[reader] ?? 0) + 2);
    while (isWaiting()) await Promise.race([readers, sleep(3)]);
  };
  for (const backup of chain.backups.filter(({ backupId }) => !keptIds.has(backupId))) {
    await allLooked();
    await remove(chain, backup);
  }
  const onTop = await chain.add();
  await allLooked();
  isOver = true;
  await readers;
  await expectContents(chain, [...kept, onTop]);
});
