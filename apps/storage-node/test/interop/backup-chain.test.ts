// Goal: plain qemu-img is a way out, whatever mixture of plain and compressed backups a chain has. Method: a chain of
// both, its folder moved away, checked, converted and compared by qemu-img alone.
import { randomBytes, randomUUID } from 'node:crypto';
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { CLUSTER_BYTES } from '../../src/sums/sums-format.ts';
import { prepare, publish } from '../../src/testing/backup-chain.ts';
import { createRepository, MiB, planOf } from '../../src/testing/backups.ts';
import { copyWithSums } from '../../src/testing/damage.ts';
import { RunningStorageNode } from '../../src/testing/running-storage-node.ts';
import { temporaryFolder } from '../../src/testing/temporary-folder.ts';
import { runTool, testWith } from '../../src/testing/tools.ts';

const TEXT = Buffer.alloc(MiB, 'It was the best of times, it was the worst of times. ');

testWith(['qemu-img'], 'a chain of plain and zstd backups is checked, converted and compared', async () => {
  const node = await RunningStorageNode.start();
  const repositoryId = await createRepository(node);
  const volumeId = randomUUID();
  const disk = Buffer.alloc(4 * MiB);
  const made: { backupId: string; expected: Buffer; compression: string; storedBytes: number }[] = [];
  for (const compression of ['zstd', 'none', 'zstd', 'zstd', 'none']) {
    const round = made.length;
    const plan = planOf(repositoryId, volumeId, made.at(-1)?.backupId);
    const data = [
      {
        offset: round === 0 ? 0 : round * 3 * CLUSTER_BYTES,
        bytes: round === 0 ? TEXT : TEXT.subarray(0, 4 * CLUSTER_BYTES),
      },
      { offset: 2 * MiB + round * CLUSTER_BYTES, bytes: randomBytes(2 * CLUSTER_BYTES) },
    ];
    const zeroes = [{ offset: 3 * MiB + round * CLUSTER_BYTES, length: CLUSTER_BYTES }];
    await copyWithSums(await prepare(node, { ...plan, compression }), { data, zeroes });
    const { storedBytes } = await publish(node, plan);
    for (const { offset, bytes } of data) bytes.copy(disk, offset);
    for (const { offset, length } of zeroes) disk.fill(0, offset, offset + length);
    made.push({ backupId: plan.backupId, expected: Buffer.from(disk), compression, storedBytes });
  }
  const moved = await temporaryFolder();
  await cp(node.path('repositories', repositoryId, 'backups'), moved, { recursive: true });
  for (const { backupId, expected, compression } of made) {
    const image = join(moved, `${backupId}.qcow2`);
    const report = JSON.parse(await runTool('qemu-img', 'check', '--output=json', image));
    expect(report).toMatchObject({ 'check-errors': 0 });
    expect([report.leaks, report.corruptions]).toEqual([undefined, undefined]);
    if (compression === 'zstd') expect(report['compressed-clusters']).toBeGreaterThan(0);
    const info = JSON.parse(await runTool('qemu-img', 'info', '--output=json', image));
    expect(info['format-specific'].data['compression-type']).toBe(compression === 'zstd' ? 'zstd' : 'zlib');
    const raw = join(moved, `${backupId}.raw`);
    await runTool('qemu-img', 'convert', '-O', 'raw', image, raw);
    expect((await readFile(raw)).equals(expected)).toBe(true);
    await writeFile(raw, expected);
    expect(await runTool('qemu-img', 'compare', '-F', 'raw', image, raw)).toContain('Images are identical');
  }
  // A MiB of text in a few clusters.
  expect(made[0]!.storedBytes).toBeLessThan(700 * 1024);
});
