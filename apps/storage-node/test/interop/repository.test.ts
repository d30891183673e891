// Goal: a backup is a standard qcow2 file that other tools read, check and convert, also from another
// place; and other NBD clients write and read through the exports. Method: qemu-img and nbdinfo.
import { randomBytes, randomUUID } from 'node:crypto';
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { createRepository, MiB, makeBackup, planOf, publicationOf } from '../../src/testing/backups.ts';
import { newStep, RunningStorageNode } from '../../src/testing/running-storage-node.ts';
import { temporaryFolder } from '../../src/testing/temporary-folder.ts';
import { runTool, testWith } from '../../src/testing/tools.ts';

testWith(['qemu-img'], 'a published chain is clean, relative, and converts to the disk', async () => {
  const node = await RunningStorageNode.start();
  const repositoryId = await createRepository(node);
  const volumeId = randomUUID();
  const full = planOf(repositoryId, volumeId);
  const increment = planOf(repositoryId, volumeId, full.backupId);
  const expected = Buffer.alloc(4 * MiB);
  const first = randomBytes(1_500_000);
  const second = randomBytes(200_000);
  await makeBackup(node, full, [{ offset: 70_000, bytes: first }]);
  await makeBackup(node, increment, [{ offset: MiB + 7, bytes: second }]);
  first.copy(expected, 70_000);
  second.copy(expected, MiB + 7);
  // The folder must be movable: nothing in it may hold its place.
  const moved = await temporaryFolder();
  await cp(node.path('repositories', repositoryId, 'backups'), moved, { recursive: true });
  for (const { backupId } of [full, increment]) {
    const report = await runTool('qemu-img', 'check', '--output=json', join(moved, `${backupId}.qcow2`));
    expect(JSON.parse(report)).toMatchObject({ 'check-errors': 0 });
    expect(JSON.parse(report)).not.toHaveProperty('leaks');
    expect(JSON.parse(report)).not.toHaveProperty('corruptions');
  }
  const tip = join(moved, `${increment.backupId}.qcow2`);
  const info = JSON.parse(await runTool('qemu-img', 'info', '--output=json', tip));
  expect(info).toMatchObject({
    format: 'qcow2',
    'virtual-size': 4 * MiB,
    'backing-filename': `${full.backupId}.qcow2`,
    'backing-filename-format': 'qcow2',
  });
  const raw = join(moved, 'disk.raw');
  await runTool('qemu-img', 'convert', '-O', 'raw', tip, raw);
  expect((await readFile(raw)).equals(expected)).toBe(true);
});

testWith(['qemu-img', 'nbdinfo'], 'qemu-img fills a prepared backup and compares an opened one', async () => {
  const node = await RunningStorageNode.start();
  const { repositories } = node.clients;
  const repositoryId = await createRepository(node);
  const plan = planOf(repositoryId, randomUUID());
  const disk = join(await temporaryFolder(), 'disk.raw');
  const content = Buffer.alloc(plan.sizeBytes);
  randomBytes(MiB).copy(content, 2 * MiB);
  await writeFile(disk, content);
  const target = await repositories.prepareBackup({ step: newStep(), ...plan });
  await runTool('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', disk, target.uri);
  await repositories.publishBackup({ step: newStep(), ...publicationOf(plan) });
  const { backupId } = plan;
  const source = await repositories.openBackup({ step: newStep(), repositoryId, backupId });
  const verdict = await runTool('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', disk, source.uri);
  expect(verdict).toContain('Images are identical');
  const info = JSON.parse(await runTool('nbdinfo', '--json', source.uri));
  expect(info.exports[0]).toMatchObject({ is_read_only: true, 'export-size': plan.sizeBytes });
  const map = JSON.parse(await runTool('nbdinfo', '--map', '--json', source.uri));
  expect(map).toEqual([
    { offset: 0, length: 2 * MiB, type: 3, description: 'hole,zero' },
    { offset: 2 * MiB, length: MiB, type: 0, description: 'data' },
    { offset: 3 * MiB, length: MiB, type: 3, description: 'hole,zero' },
  ]);
  // Unguessable and unlisted: who asks which exports there are is not told.
  const listed = JSON.parse(await runTool('nbdinfo', '--list', '--json', new URL('/', source.uri).href));
  expect(JSON.stringify(listed)).not.toContain(source.uri.split('/').at(-1));
});
