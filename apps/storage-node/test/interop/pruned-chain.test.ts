// Goal: of a chain of 30 backups pruned to 7, each that is left is converted by plain qemu-img, from another place and
// without us, and has the hash that was recorded when it was made. Method: what retention plans, done by a storage
// node, then its folder moved away.
import { createHash } from 'node:crypto';
import { cp, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { MiB } from '../../src/testing/backups.ts';
import { type ChainBackup, ModelChain } from '../../src/testing/model-chain.ts';
import { expectSound, watchRemoval } from '../../src/testing/removals.ts';
import { RunningStorageNode } from '../../src/testing/running-storage-node.ts';
import { temporaryFolder } from '../../src/testing/temporary-folder.ts';
import { runTool, testWith } from '../../src/testing/tools.ts';

const BACKUPS = 30;
/** As last 3, and one of each "week" before: the newest one is among them, the full one is not. */
const KEPT = [4, 11, 18, 25, 27, 28, 29];
const TIMEOUT_MS = 120_000;

const hashOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

for (const compression of ['none', 'zstd']) {
  testWith(
    ['qemu-img'],
    `a chain of 30 pruned to 7, ${compression}`,
    () => prunedChain(compression),
    TIMEOUT_MS,
  );
}

async function prunedChain(compression: string): Promise<void> {
  const node = await RunningStorageNode.start();
  const chain = await ModelChain.start(node, { seed: 30, compression });
  for (let n = 0; n < BACKUPS; n++) {
    // Of these one grows the disk.
    const sizeBytes = n < 20 ? 2 * MiB : 2 * MiB + 192 * 1024 + 512;
    await chain.add({ sizeBytes, changes: 3 });
  }
  const recorded = new Map(chain.backups.map(({ backupId, content }) => [backupId, hashOf(content)]));
  const kept = KEPT.map(index => chain.backups[index]!);
  const { repositoryId } = chain;
  for (const backup of chain.backups) {
    if (!kept.includes(backup)) await watchRemoval(node, { repositoryId, backupId: backup.backupId });
  }
  const folder = node.path('repositories', repositoryId, 'backups');
  expect((await readdir(folder)).filter(name => name.endsWith('.qcow2'))).toHaveLength(kept.length);
  for (const { backupId } of kept) await expectSound(folder, backupId);
  const moved = await temporaryFolder();
  await cp(folder, moved, { recursive: true });
  await node.stop();
  await rm(node.stateDir, { recursive: true });
  for (const backup of kept) await expectConverted(moved, backup, recorded.get(backup.backupId)!);
}

async function expectConverted(folder: string, { backupId }: ChainBackup, hash: string): Promise<void> {
  const image = join(folder, `${backupId}.qcow2`);
  const report = JSON.parse(await runTool('qemu-img', 'check', '--output=json', image));
  expect(report).toMatchObject({ 'check-errors': 0 });
  expect(report).not.toHaveProperty('leaks');
  expect(report).not.toHaveProperty('corruptions');
  const raw = join(folder, 'disk.raw');
  await runTool('qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', image, raw);
  expect(hashOf(await readFile(raw))).toBe(hash);
  expect(await runTool('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', image, raw)).toContain('identical');
}
