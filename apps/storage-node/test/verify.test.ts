// Goal: a verification finds every damage there can be, names exactly what is lost, and finds nothing in what is sound.
// Method: a chain in a real storage node, damaged file by file; what it says is compared with what was done.
import { readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { FileNode, fromSystemError } from '@tidemark/engine';
import type { JobStatus } from '@tidemark/proto';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { CLUSTER_BYTES } from '../src/sums/sums-format.ts';
import { type BackupChain, imageOf, makeChain } from '../src/testing/backup-chain.ts';
import { MiB, type Plan } from '../src/testing/backups.ts';
import { flipByte, overwrite, placesOf } from '../src/testing/damage.ts';
import { jobEnd } from '../src/testing/live-volume.ts';
import { ModelChain } from '../src/testing/model-chain.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';

const CLUSTER = CLUSTER_BYTES;

async function verify(
  node: RunningStorageNode,
  { repositoryId, backupId }: { repositoryId: string; backupId: string },
  options: { chain?: boolean } = {},
): Promise<{ end: JobStatus; ranges: [number, number][] }> {
  const { chain = true } = options;
  const { jobId } = await node.clients.repositories.startVerify({
    step: newStep(),
    repositoryId,
    backupId,
    chain,
  });
  const end = await jobEnd(node, jobId);
  const damage = await node.clients.jobs.getJobDamage({ jobId });
  expect(damage.bytes).toBe(end.damagedBytes);
  return { end, ranges: damage.ranges.map(({ offset, length }) => [offset / CLUSTER, length / CLUSTER]) };
}

const sumsOf = (node: RunningStorageNode, plan: Plan) => imageOf(node, plan).replace(/qcow2$/, 'sums');
const manifestOf = (node: RunningStorageNode, plan: Plan) => imageOf(node, plan).replace(/qcow2$/, 'json');

test.each(['none', 'zstd'])('a sound chain is sound, and all of it was read (%s)', async compression => {
  const node = await RunningStorageNode.start();
  const { increment } = await makeChain(node, { compression });
  const { end, ranges } = await verify(node, increment);
  expect(end).toMatchObject({ type: 'verify', state: 'concluded', error: undefined, damagedBytes: 0 });
  expect(ranges).toEqual([]);
  expect([end.currentBytes, end.totalBytes]).toEqual([8 * MiB, 8 * MiB]);
  expect(end.sentBytes).toBe(17 * CLUSTER);
});

interface Damage {
  readonly what: string;
  readonly of?: 'full' | 'increment';
  readonly chain?: boolean;
  readonly damage: (node: RunningStorageNode, chain: BackupChain) => Promise<void>;
  readonly says: RegExp;
  readonly ranges: [number, number][];
}

const clear = async (node: RunningStorageNode, plan: Plan, cluster: number) => {
  const { l2Entry } = await placesOf(imageOf(node, plan), cluster * CLUSTER);
  await overwrite(imageOf(node, plan), l2Entry, Buffer.alloc(8));
};

const DAMAGES: readonly Damage[] = [
  {
    what: 'a flipped byte of data in the parent',
    damage: async (node, { full }) => {
      const { data } = await placesOf(imageOf(node, full), 3 * CLUSTER);
      await flipByte(imageOf(node, full), data + 4711);
    },
    says: /at 196608, differs/,
    ranges: [[3, 1]],
  },
  {
    what: 'damage that the increment hides',
    damage: async (node, { full }) => {
      for (const cluster of [2, 5]) {
        const { data } = await placesOf(imageOf(node, full), cluster * CLUSTER);
        await flipByte(imageOf(node, full), data);
      }
    },
    says: /at 131072, differs.*at 327680, differs/,
    ranges: [],
  },
  {
    what: 'an entry of the map that is gone',
    damage: (node, { full }) => clear(node, full, 7),
    says: /the image is damaged|at 458752, missing/,
    ranges: [[7, 1]],
  },
  {
    what: 'a map of its own that is gone',
    chain: false,
    damage: (node, { increment }) => clear(node, increment, 2),
    says: /at 131072, missing/,
    ranges: [[2, 1]],
  },
  {
    what: 'a whole map that is rubbish',
    of: 'full',
    damage: async (node, { full }) => {
      const { l2Entry } = await placesOf(imageOf(node, full), 0);
      await overwrite(imageOf(node, full), l2Entry, Buffer.alloc(16 * 8, 0x7e));
    },
    says: /the image is damaged/,
    ranges: [[0, 16]],
  },
  {
    what: 'a parent whose image is gone',
    damage: (node, { full }) => rm(imageOf(node, full)),
    says: /no such file|ENOENT|cannot be opened|not found/i,
    ranges: [
      [0, 2],
      [3, 2],
      [6, 58],
    ],
  },
  {
    what: 'checksums that are cut short',
    of: 'full',
    damage: (node, { full }) => truncate(sumsOf(node, full), 100),
    says: /checksums are damaged/,
    ranges: [],
  },
  {
    what: 'a flipped bit of the checksums',
    of: 'full',
    damage: (node, { full }) => flipByte(sumsOf(node, full), 5 * 16),
    says: /checksums are damaged/,
    ranges: [],
  },
];

describe('what is damaged is named', () => {
  test.each(DAMAGES)('$what', async ({ of = 'increment', chain = true, damage, says, ranges }) => {
    const node = await RunningStorageNode.start();
    const made = await makeChain(node);
    await damage(node, made);
    const found = await verify(node, made[of], { chain });
    expect(found.end.error).toMatchObject({ code: 'backup-damaged', message: expect.stringMatching(says) });
    expect(found.ranges).toEqual(ranges);
  });

  test('a parent whose manifest is another one, or gone, is missing', async () => {
    const node = await RunningStorageNode.start();
    const { repositoryId, full, increment } = await makeChain(node);
    const kept = await readFile(manifestOf(node, full));
    await writeFile(manifestOf(node, full), await readFile(manifestOf(node, increment)));
    const { repositories } = node.clients;
    const report = await repositories.scanRepository({ repositoryId });
    expect(report.backups.map(backup => backup.backupId)).toEqual([increment.backupId]);
    expect(report.problems).toMatchObject([{ what: 'manifest-damaged', backupId: full.backupId }]);
    const { end, ranges } = await verify(node, increment);
    expect(end.error?.message).toMatch(new RegExp(`stands on ${full.backupId}, which is not there`));
    expect(ranges[0]).toEqual([0, 2]);
    await writeFile(manifestOf(node, full), kept);
    expect((await repositories.scanRepository({ repositoryId })).problems).toEqual([]);
    expect((await verify(node, increment)).end.error).toBeUndefined();
  });
});

describe('the job', () => {
  test('is not there where a removal is under way, and can be asked for again', async () => {
    const node = await RunningStorageNode.start();
    const { repositoryId, full, increment } = await makeChain(node);
    const { repositories, jobs } = node.clients;
    const slow = { repositoryId, backupId: full.backupId, speedBytesPerSecond: 1 };
    const { jobId: removal } = await repositories.startRemoval({ step: newStep(), ...slow });
    const request = { step: newStep(), repositoryId, backupId: increment.backupId, chain: true };
    for (let tries = 0; tries < 2; tries++) {
      await expect(repositories.startVerify(request)).rejects.toMatchObject({ code: 'backup-in-use' });
    }
    await jobs.cancelJob({ step: newStep(), jobId: removal });
    await jobEnd(node, removal);
    const { jobId } = await repositories.startVerify(request);
    expect((await jobEnd(node, jobId)).error).toBeUndefined();
  });

  test('is answered again for its run, pauses, keeps to its speed and is cancelled', async () => {
    const node = await RunningStorageNode.start();
    const { repositoryId, full } = await makeChain(node);
    const { repositories, jobs } = node.clients;
    const request = { step: newStep(), repositoryId, backupId: full.backupId, speedBytesPerSecond: CLUSTER };
    const { jobId } = await repositories.startVerify(request);
    expect(await repositories.startVerify(request)).toEqual({ jobId });
    await jobs.pauseJob({ step: newStep(), jobId });
    await expect.poll(async () => (await jobs.getJob({ jobId })).state).toBe('paused');
    await jobs.resumeJob({ step: newStep(), jobId });
    await jobs.cancelJob({ step: newStep(), jobId });
    expect((await jobEnd(node, jobId)).error).toMatchObject({ code: 'run-cancelled' });
  });
});

test('a repository that is away is no damage, and verifies again when it is back', async () => {
  const node = await RunningStorageNode.start();
  const { increment } = await makeChain(node);
  const folder = node.path('repositories', increment.repositoryId, 'backups');
  await rename(folder, `${folder}-away`);
  const { end, ranges } = await verify(node, increment);
  expect(end.error).toMatchObject({ code: 'io-error' });
  expect(end.error!.message).toMatch(/cannot be read: .* then verify again/);
  expect(ranges).toEqual([]);
  await rename(`${folder}-away`, folder);
  expect((await verify(node, increment)).end.error).toBeUndefined();
});

test.each(['EMFILE', 'EIO'])('files that cannot be opened for now (%s) are no damage', async code => {
  const node = await RunningStorageNode.start();
  const { increment } = await makeChain(node);
  const trouble = vi
    .spyOn(FileNode, 'open')
    .mockImplementation(path => Promise.reject(fromSystemError({ code }, { op: 'open', path })));
  onTestFinished(() => trouble.mockRestore());
  const { end, ranges } = await verify(node, increment);
  expect(end.error).toMatchObject({ code: 'io-error' });
  expect(ranges).toEqual([]);
});

test('a merge that ended early is no damage, also into a smaller disk', async () => {
  const node = await RunningStorageNode.start();
  const chain = await ModelChain.start(node, { seed: 12 });
  const a = await chain.add({ changes: 20 });
  const b = await chain.add({ sizeBytes: a.content.length + 3 * MiB, changes: 20 });
  const { repositoryId } = chain;
  const { repositories, jobs } = node.clients;
  const slow = { repositoryId, backupId: a.backupId, speedBytesPerSecond: 1 };
  const { jobId } = await repositories.startRemoval({ step: newStep(), ...slow });
  await expect.poll(async () => (await jobs.getJob({ jobId })).sentBytes).toBeGreaterThan(0);
  await jobs.cancelJob({ step: newStep(), jobId });
  await jobEnd(node, jobId);
  expect((await verify(node, { repositoryId, backupId: b.backupId })).end.error).toBeUndefined();
});

describe('a repository', () => {
  test('is scanned: what was put there is found, what was taken away is gone', async () => {
    const node = await RunningStorageNode.start();
    const { repositoryId, full, increment } = await makeChain(node);
    const { repositories } = node.clients;
    const away = `${manifestOf(node, increment)}.away`;
    await rename(manifestOf(node, increment), away);
    // Without its manifest it looks as if it had never been published; nothing is taken for that while files may be
    // on their way back.
    for (let scans = 0; scans < 2; scans++) {
      const report = await repositories.scanRepository({ repositoryId });
      expect(report.backups.map(backup => backup.backupId)).toEqual([full.backupId]);
      const missing = { what: 'manifest-missing', backupId: increment.backupId };
      expect(report.problems).toMatchObject([missing, missing]);
    }
    await rename(away, manifestOf(node, increment));
    const again = await repositories.scanRepository({ repositoryId });
    expect(again.backups.map(backup => backup.backupId)).toEqual([full.backupId, increment.backupId]);
    expect(again.problems).toEqual([]);
  });

  test('is deleted only when nothing is in it', async () => {
    const node = await RunningStorageNode.start();
    const { repositoryId, full, increment } = await makeChain(node);
    const { repositories } = node.clients;
    const remove = () => repositories.deleteRepository({ step: newStep(), repositoryId });
    await expect(remove()).rejects.toMatchObject({ code: 'repository-in-use', message: /holds 2 backups/ });
    for (const plan of [increment, full]) {
      for (const path of [manifestOf(node, plan), imageOf(node, plan), sumsOf(node, plan)]) await rm(path);
    }
    await repositories.scanRepository({ repositoryId });
    await remove();
    await remove();
    expect((await repositories.listRepositories({})).repositories).toEqual([]);
    await node.restart();
    expect((await node.clients.repositories.listRepositories({})).repositories).toEqual([]);
  });
});
