// Internal snapshots between this engine and the real qemu-img and qemu-io, both ways.
import { afterAll, expect } from 'vitest';
import { FileNode } from '../../src/image/file-node.ts';
import { createQcow2 } from '../../src/image/qcow2/create.ts';
import { Qcow2Image } from '../../src/image/qcow2/qcow2-image.ts';
import { SeededRandom } from '../../src/testing/seeded-random.ts';
import { makeTemporaryFolder } from '../../src/testing/temporary-folder.ts';
import { MiB } from '../../src/units.ts';
import { countFindings, run, testWithTools } from './tools.ts';

const testWithIo = testWithTools(['qemu-img', 'qemu-io']);
const folder = makeTemporaryFolder();
afterAll(() => folder.remove());

const open = async (path: string, readOnly = false) =>
  Qcow2Image.open(await FileNode.open(path, { readOnly }));

async function change<T>(path: string, use: (image: Qcow2Image) => Promise<T>): Promise<T> {
  const image = await open(path);
  try {
    return await use(image);
  } finally {
    await image.close();
  }
}

for (const options of [
  'cluster_size=64k',
  'cluster_size=512',
  'cluster_size=4k,refcount_bits=8',
  'compat=0.10',
]) {
  testWithIo(`one history by two writers: ${options}`, async () => {
    const path = folder.file(`${options.replace(/\W/g, '-')}.qcow2`);
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, path, '8M');
    const random = new SeededRandom(options.length);
    const patterns = new Map<string, number[]>();
    // One byte of pattern for each 256 KiB.
    let disk = new Array<number>(32).fill(0);
    for (let step = 0; step < 20; step++) {
      const ours = random.chance(0.5);
      const slot = random.int(0, 31);
      const pattern = random.int(1, 255);
      const dice = random.int(0, 5);
      const names = [...patterns.keys()];
      const name = names.length > 0 ? random.pick(names) : '';
      if (dice < 3) {
        disk[slot] = pattern;
        if (ours) {
          await change(path, image =>
            Promise.resolve(image.write(slot * 256 * 1024, Buffer.alloc(256 * 1024, pattern))),
          );
        } else run('qemu-io', '-f', 'qcow2', '-c', `write -q -P ${pattern} ${slot * 256}k 256k`, path);
      } else if (dice === 3 || names.length === 0) {
        const next = `at ${step}`;
        if (ours) await change(path, image => image.createSnapshot({ name: next, dateNanoseconds: 1n }));
        else run('qemu-img', 'snapshot', '-c', next, path);
        patterns.set(next, [...disk]);
      } else if (dice === 4) {
        if (ours) await change(path, image => image.applySnapshot(name));
        else run('qemu-img', 'snapshot', '-a', name, path);
        disk = [...patterns.get(name)!];
      } else {
        if (ours) await change(path, image => image.deleteSnapshot(name));
        else run('qemu-img', 'snapshot', '-d', name, path);
        patterns.delete(name);
      }
      expect(countFindings(path), `step ${step}, ${ours ? 'ours' : 'theirs'}, ${dice}`).toBe(0);
      const list = run('qemu-img', 'snapshot', '-l', path);
      for (const each of patterns.keys()) expect(list).toContain(each);
      const image = await open(path, true);
      expect((await image.snapshots()).map(each => each.name)).toEqual([...patterns.keys()]);
      const all = Buffer.alloc(8 * MiB);
      await image.read(0, all);
      await image.close();
      expect(disk.map((_, at) => all[at * 256 * 1024 + 777])).toEqual(disk);
    }
    const reads = disk.flatMap((pattern, at) => ['-c', `read -q -P ${pattern} ${at * 256}k 256k`]);
    run('qemu-io', '-r', '-f', 'qcow2', ...reads, path);
  });
}

testWithIo('what qemu-img says of a snapshot made here, and its size comes back', async () => {
  const path = folder.file('size.qcow2');
  await createQcow2(path, { sizeBytes: 4 * MiB });
  await change(path, async image => {
    await image.createSnapshot({ name: 'before', dateNanoseconds: 1_700_000_000_123_000_000n });
    await image.resize(6 * MiB);
  });
  const info = JSON.parse(run('qemu-img', 'info', '--output=json', path));
  expect(info.snapshots).toMatchObject([
    { id: '1', name: 'before', 'date-sec': 1_700_000_000, 'date-nsec': 123_000_000, 'vm-state-size': 0 },
  ]);
  run('qemu-img', 'snapshot', '-a', 'before', path);
  const image = await open(path, true);
  expect(image.sizeBytes).toBe(4 * MiB);
  await image.close();
  expect(countFindings(path)).toBe(0);
});
