// Goal: the storage node may die at any moment of a removal: whatever is kept reads as it did, at the next start and
// after the removal is asked for again; nothing half-removed is listed, and in the end no file is left over. Method:
// at every durable step, and between copies, the folder as it is at that moment is put aside; each is started from.
import { cpSync, readdirSync } from 'node:fs';
import { cp, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { openImage } from '@tidemark/engine';
import { expect, test } from 'vitest';
import { NbdExports } from '../src/exports/nbd-exports.ts';
import { StateStore } from '../src/host/state-store.ts';
import { repositorySchema } from '../src/repository/manifest.ts';
import { Repository } from '../src/repository/repository.ts';
import type { RepositoryProblem } from '../src/repository/repository-scan.ts';
import { SharedSpace } from '../src/repository/space-reservation.ts';
import { MiB } from '../src/testing/backups.ts';
import { type ChainBackup, ModelChain } from '../src/testing/model-chain.ts';
import { expectSound } from '../src/testing/removals.ts';
import { RunningStorageNode } from '../src/testing/running-storage-node.ts';
import { temporaryFolder } from '../src/testing/temporary-folder.ts';

interface World {
  readonly folder: string;
  readonly repositoryId: string;
  readonly going: ChainBackup;
  readonly kept: readonly ChainBackup[];
}

async function makeWorld(compression: string, choose: (chain: ModelChain) => ChainBackup): Promise<World> {
  const node = await RunningStorageNode.start();
  const chain = await ModelChain.start(node, { seed: 21, compression });
  await chain.add({ sizeBytes: MiB });
  await chain.add();
  await chain.add({ sizeBytes: MiB + 4096 });
  await chain.add();
  const going = choose(chain);
  await node.stop();
  const folder = await temporaryFolder();
  await cp(node.path('repositories'), join(folder, 'repositories'), { recursive: true });
  const kept = chain.backups.filter(backup => backup !== going);
  return { folder, repositoryId: chain.repositoryId, going, kept };
}

/** A life of the process on the folder. */
async function live(folder: string, repositoryId: string, pass?: (point: string) => void) {
  const store = new StateStore({ folder, pass });
  const record = await store.read(`repositories/${repositoryId}/repository.json`, repositorySchema);
  const problems: RepositoryProblem[] = [];
  const exports = new NbdExports({
    listen: { host: '127.0.0.1', port: 0 },
    advertise: undefined,
    report: () => {},
  });
  const options = { store, exports, shared: new SharedSpace(), now: () => 0 };
  const repository = await Repository.load(record!, {
    ...options,
    report: problem => problems.push(problem),
  });
  return { repository, problems };
}

async function expectKept({ repositoryId, kept }: World, folder: string): Promise<void> {
  const backups = join(folder, 'repositories', repositoryId, 'backups');
  for (const { backupId, content } of kept) {
    const image = await openImage(join(backups, `${backupId}.qcow2`), { readOnly: true });
    const read = Buffer.alloc(content.length);
    await Promise.resolve(image.read(0, read)).finally(() => image.close());
    expect(read.equals(content)).toBe(true);
  }
}

async function removeIn(world: World, folder: string, atPoint: (point: string) => void): Promise<void> {
  const { repository } = await live(folder, world.repositoryId, atPoint);
  const removal = await repository.beginRemoval(world.going.backupId);
  const progress = { currentBytes: 0, totalBytes: 0, sentBytes: 0 };
  const pace = async () => atPoint('between copies');
  await removal.run({ progress, pace }).finally(() => removal.release());
}

/** Every moment at which the process may die, with the folder as it is then. */
async function momentsOf(world: World): Promise<Map<string, string>> {
  const moments = new Map<string, string>();
  const copies = await temporaryFolder();
  const worked = join(copies, 'worked');
  await cp(world.folder, worked, { recursive: true });
  await removeIn(world, worked, point => {
    const name = `${moments.size} ${point}`;
    const copy = join(copies, String(moments.size));
    cpSync(worked, copy, { recursive: true });
    moments.set(name, copy);
  });
  return moments;
}

const middle = (chain: ModelChain) => chain.backups[1]!;
const lowest = (chain: ModelChain) => chain.backups[0]!;
const newest = (chain: ModelChain) => chain.backups[3]!;

test.each([
  ['from the middle', 'none', middle],
  ['from the middle, compressed', 'zstd', middle],
  ['the full one', 'none', lowest],
  ['the newest', 'none', newest],
])('%s: no moment to die at does harm', { timeout: 120_000 }, async (_what, compression, choose) => {
  const world = await makeWorld(compression, choose);
  const moments = await momentsOf(world);
  expect(moments.size).toBeGreaterThan(10);
  let rolledForward = 0;
  for (const [name, folder] of moments) {
    await expectKept(world, folder);
    const { repository, problems } = await live(folder, world.repositoryId);
    expect([name, problems]).toEqual([name, []]);
    await expectKept(world, folder);
    const listed = repository.list().map(({ backupId }) => backupId);
    const isThere = listed.includes(world.going.backupId);
    if (!isThere) rolledForward++;
    expect(listed.filter(id => id !== world.going.backupId).sort()).toEqual(
      world.kept.map(({ backupId }) => backupId).sort(),
    );
    if (isThere) await removeIn(world, folder, () => {});
    await expectWholeEnd(world, folder);
  }
  // Dying late enough the removal ends at the next start by itself.
  expect(rolledForward).toBeGreaterThan(5);
});

async function expectWholeEnd(world: World, folder: string): Promise<void> {
  await expectKept(world, folder);
  const backups = join(folder, 'repositories', world.repositoryId, 'backups');
  const expected = world.kept.flatMap(({ backupId }) =>
    ['json', 'qcow2', 'sums'].map(end => `${backupId}.${end}`),
  );
  // What a write had begun is swept away when the state folder is opened.
  const found = (await readdir(backups)).filter(name => !name.endsWith('.tmp'));
  expect(found.sort()).toEqual(expected.sort());
  const manifests = await Promise.all(world.kept.map(({ backupId }) => expectSound(backups, backupId)));
  const ids = new Set(world.kept.map(({ backupId }) => backupId));
  for (const { parentBackupId, kind } of manifests) {
    expect(parentBackupId === '' ? kind === 'full' : ids.has(parentBackupId)).toBe(true);
  }
  expect(readdirSync(join(folder, 'repositories'))).toEqual([world.repositoryId]);
}
