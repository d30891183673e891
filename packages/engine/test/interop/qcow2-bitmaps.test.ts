// Persistent bitmaps between this engine and the real qemu-img and qemu-io, both ways.
import { spawnSync } from 'node:child_process';
import { afterAll, expect } from 'vitest';
import { DirtyBitmap } from '../../src/bitmap/dirty-bitmap.ts';
import { FileNode } from '../../src/image/file-node.ts';
import { createQcow2 } from '../../src/image/qcow2/create.ts';
import { Qcow2Image } from '../../src/image/qcow2/qcow2-image.ts';
import { makeTemporaryFolder } from '../../src/testing/temporary-folder.ts';
import { KiB, MiB } from '../../src/units.ts';
import { countFindings, run, testWithTools } from './tools.ts';

const testWithIo = testWithTools(['qemu-img', 'qemu-io', 'qemu-nbd', 'nbdinfo']);
const folder = makeTemporaryFolder();
afterAll(() => folder.remove());

const open = async (path: string, readOnly = false) =>
  Qcow2Image.open(await FileNode.open(path, { readOnly }));

interface ListedBitmap {
  name: string;
  granularity: number;
  flags: string[];
}

function listed(path: string): ListedBitmap[] {
  const info = JSON.parse(run('qemu-img', 'info', '--output=json', path));
  return info['format-specific'].data.bitmaps ?? [];
}

/** The dirty runs of a bitmap as an NBD client of QEMU's sees them. */
function dirtyRuns(path: string, name: string): { offset: number; length: number }[] {
  const map = run(
    'nbdinfo',
    '--json',
    `--map=qemu:dirty-bitmap:${name}`,
    '--',
    '[',
    'qemu-nbd',
    '-r',
    '-f',
    'qcow2',
    '-B',
    name,
    path,
    ']',
  );
  return (JSON.parse(map) as { offset: number; length: number; type: number }[])
    .filter(({ type }) => (type & 1) !== 0)
    .map(({ offset, length }) => ({ offset, length }));
}

for (const clusterBytes of [512, 64 * KiB, 2 * MiB]) {
  testWithIo(
    `stored here, read by QEMU, written on, and read here again (clusters of ${clusterBytes})`,
    async () => {
      const path = folder.file(`ours-${clusterBytes}.qcow2`);
      const sizeBytes = 20 * MiB;
      await createQcow2(path, { sizeBytes, clusterBytes });
      const fine = new DirtyBitmap(sizeBytes, { name: 'fine', granularityBytes: 512, persistent: true });
      const off = new DirtyBitmap(sizeBytes, {
        name: 'off',
        granularityBytes: 2 ** 20,
        recording: false,
        persistent: true,
      });
      fine.bits.set(1024, 512);
      fine.bits.set(7 * MiB + 512, 3 * MiB);
      off.bits.set(3 * MiB, 1);
      const image = await open(path);
      await image.storeBitmaps([fine, off]);
      await image.close();
      expect(countFindings(path)).toBe(0);
      expect(listed(path)).toEqual([
        { name: 'fine', granularity: 512, flags: ['auto'] },
        { name: 'off', granularity: 2 ** 20, flags: [] },
      ]);
      expect(dirtyRuns(path, 'fine')).toEqual([
        { offset: 1024, length: 512 },
        { offset: 7 * MiB + 512, length: 3 * MiB },
      ]);
      expect(dirtyRuns(path, 'off')).toEqual([{ offset: 3 * MiB, length: MiB }]);
      run('qemu-io', '-f', 'qcow2', '-c', 'write -q 15M 64k', path);
      run('qemu-img', 'bitmap', '--enable', path, 'off');
      run('qemu-img', 'bitmap', '--add', '-g', '4k', path, 'theirs');
      run('qemu-img', 'bitmap', '--merge', 'off', path, 'theirs');
      expect(countFindings(path)).toBe(0);
      const again = await open(path);
      const [first, second, third] = again.takeBitmaps() as [DirtyBitmap, DirtyBitmap, DirtyBitmap];
      expect([first.name, second.name, third.name]).toEqual(['fine', 'off', 'theirs']);
      expect([second.recording, third.recording]).toEqual([true, true]);
      expect([...first.bits.dirtyAreas()].map(({ offset }) => offset)).toEqual([
        1024,
        7 * MiB + 512,
        15 * MiB,
      ]);
      expect([...third.bits.dirtyAreas()]).toEqual([{ offset: 3 * MiB, length: MiB }]);
      await again.storeBitmaps([third]);
      await again.close();
      expect(countFindings(path)).toBe(0);
      expect(listed(path)).toEqual([{ name: 'theirs', granularity: 4096, flags: ['auto'] }]);
      run('qemu-img', 'bitmap', '--remove', path, 'theirs');
      const last = await open(path);
      expect(last.takeBitmaps()).toEqual([]);
      await last.close();
      expect(countFindings(path)).toBe(0);
    },
  );
}

testWithIo('a writer who was killed leaves bitmaps in use, whoever it was', async () => {
  const path = folder.file('killed.qcow2');
  run('qemu-img', 'create', '-q', '-f', 'qcow2', path, '8M');
  run('qemu-img', 'bitmap', '--add', path, 'b');
  spawnSync('qemu-io', ['-f', 'qcow2', '-c', 'write -q 1M 64k', '-c', 'abort', path]);
  const image = await open(path);
  expect(image.takeBitmaps().map(each => each.inconsistent)).toEqual([true]);
  await image.storeBitmaps([]);
  await image.close();
  run('qemu-img', 'bitmap', '--add', path, 'c');
  // Ours, not closed.
  const file = await FileNode.open(path);
  const left = await Qcow2Image.open(file, { keepChildren: true });
  await left.write(MiB, Buffer.alloc(512, 1));
  await left.flush();
  await file.close();
  expect(listed(path)).toEqual([{ name: 'c', granularity: 65536, flags: ['in-use', 'auto'] }]);
  run('qemu-img', 'bitmap', '--remove', path, 'c');
  run('qemu-img', 'check', '-q', '-r', 'leaks', path);
  expect(countFindings(path)).toBe(0);
});

testWithIo('resized here with bitmaps inside, QEMU finds them as long as the disk', async () => {
  const path = folder.file('resized.qcow2');
  run('qemu-img', 'create', '-q', '-f', 'qcow2', path, '8M');
  run('qemu-img', 'bitmap', '--add', path, 'b');
  run('qemu-io', '-f', 'qcow2', '-c', 'write -q 7M 1M', path);
  for (const sizeBytes of [64 * MiB, 7 * MiB + 512 * KiB, 4 * MiB]) {
    const image = await open(path);
    await image.resize(sizeBytes);
    await image.close();
    expect(countFindings(path)).toBe(0);
    expect(listed(path)).toEqual([{ name: 'b', granularity: 65536, flags: ['auto'] }]);
    expect(dirtyRuns(path, 'b')).toEqual(
      sizeBytes > 7 * MiB ? [{ offset: 7 * MiB, length: Math.min(MiB, sizeBytes - 7 * MiB) }] : [],
    );
  }
});
