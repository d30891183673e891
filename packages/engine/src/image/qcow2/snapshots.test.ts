// Goal: snapshots keep what the disk was, whatever is written afterwards, and counts and flags stay right.
// Method: random histories of writes and snapshots against a model of every snapshot, checked after each change.
import { describe, expect, test } from 'vitest';
import { MemoryNode } from '../../testing/memory-node.ts';
import { SeededRandom } from '../../testing/seeded-random.ts';
import { KiB, MiB } from '../../units.ts';
import { checkQcow2 } from './check/check.ts';
import { formatQcow2 } from './create.ts';
import { HEADER } from './format.ts';
import { Qcow2Image } from './qcow2-image.ts';

const SIZE = 3 * MiB + 512;

async function assertClean(file: MemoryNode, what: string): Promise<void> {
  const { leaks, corruptions, findings } = await checkQcow2(file);
  expect({ leaks, corruptions, findings }, what).toEqual({ leaks: 0, corruptions: 0, findings: [] });
}

async function readAll(image: Qcow2Image): Promise<Buffer> {
  const all = Buffer.alloc(image.sizeBytes, 0xee);
  await image.read(0, all);
  return all;
}

async function writeAtRandom(image: Qcow2Image, bytes: Buffer, random: SeededRandom): Promise<void> {
  for (let step = 0; step < 6; step++) {
    const offset = random.int(0, bytes.length / 512 - 1) * 512;
    const length = Math.min(random.int(1, 400) * 512, bytes.length - offset);
    const dice = random.int(0, 9);
    if (dice < 6) {
      random.bytes(length).copy(bytes, offset);
      await image.write(offset, bytes.subarray(offset, offset + length));
    } else if (dice < 8) {
      bytes.fill(0, offset, offset + length);
      await image.writeZeroes(offset, length, { mayUnmap: random.chance(0.5) });
    } else {
      const start = Math.ceil(offset / image.clusterSizeBytes) * image.clusterSizeBytes;
      const data = Buffer.alloc(image.clusterSizeBytes, random.int(1, 255));
      if (start + data.length > bytes.length) continue;
      data.copy(bytes, start);
      await image.writeCompressed(start, data);
    }
  }
}

describe.each([
  { clusterBytes: 512, version: 3 as const, refcountBits: 16 },
  { clusterBytes: 4 * KiB, version: 3 as const, refcountBits: 4 },
  { clusterBytes: 64 * KiB, version: 2 as const, refcountBits: 16 },
  { clusterBytes: 64 * KiB, version: 3 as const, refcountBits: 64 },
])('a random history: %o', options => {
  test('every snapshot is what the disk was', async () => {
    const random = new SeededRandom(options.clusterBytes + options.refcountBits);
    const file = new MemoryNode({ sizeBytes: 0 });
    await formatQcow2(file, { sizeBytes: SIZE, ...options });
    let image = await Qcow2Image.open(file, { keepChildren: true, l2CacheBytes: 0 });
    let bytes = Buffer.alloc(SIZE);
    const kept = new Map<string, Buffer>();
    for (let step = 0; step < 25; step++) {
      await writeAtRandom(image, bytes, random);
      const dice = random.int(0, 9);
      const ids = [...kept.keys()];
      if (dice < 5 && ids.length < 6) {
        const { id } = await image.createSnapshot({
          name: `at ${step}`,
          dateNanoseconds: 1_700_000_000_000_000_001n,
        });
        kept.set(id, Buffer.from(bytes));
      } else if (dice < 7 && ids.length > 0) {
        const id = random.pick(ids);
        await image.applySnapshot(id);
        bytes = Buffer.from(kept.get(id)!);
      } else if (ids.length > 0) {
        const id = random.pick(ids);
        await image.deleteSnapshot(id);
        kept.delete(id);
      }
      if (random.chance(0.3)) {
        await image.close();
        await assertClean(file, `step ${step}`);
        image = await Qcow2Image.open(file, { keepChildren: true, l2CacheBytes: 0 });
      }
      expect((await image.snapshots()).map(({ id }) => id)).toEqual([...kept.keys()]);
      expect((await readAll(image)).equals(bytes), `step ${step}`).toBe(true);
    }
    for (const [id, was] of kept) {
      await image.applySnapshot(id);
      expect((await readAll(image)).equals(was), `snapshot ${id}`).toBe(true);
    }
    for (const id of kept.keys()) await image.deleteSnapshot(id);
    await image.close();
    await assertClean(file, 'at the end');
    const header = Buffer.alloc(512);
    file.read(0, header);
    expect(header.readUInt32BE(HEADER.snapshotCount)).toBe(0);
  });
});

describe('sizes', () => {
  test('a snapshot brings its size back, down and up', async () => {
    const file = new MemoryNode({ sizeBytes: 0 });
    await formatQcow2(file, { sizeBytes: MiB, clusterBytes: 512 });
    const image = await Qcow2Image.open(file, { keepChildren: true });
    await image.write(MiB - 512, Buffer.alloc(512, 1));
    await image.createSnapshot({ name: 'small', dateNanoseconds: 0n });
    await image.resize(4 * MiB);
    await image.write(3 * MiB, Buffer.alloc(512, 2));
    await image.createSnapshot({ name: 'large', dateNanoseconds: 0n });
    await image.resize(512 * KiB);
    expect((await readAll(image)).every(byte => byte === 0)).toBe(true);
    await image.applySnapshot('large');
    expect(image.sizeBytes).toBe(4 * MiB);
    expect((await readAll(image)).readUInt8(3 * MiB)).toBe(2);
    await image.applySnapshot('small');
    expect((await readAll(image)).readUInt8(MiB - 1)).toBe(1);
    await image.resize(4 * MiB);
    expect((await readAll(image)).subarray(MiB).every(byte => byte === 0)).toBe(true);
    await image.close();
    await assertClean(file, 'resized');
  });
});

describe('refusals', () => {
  test('a refcount without room refuses the snapshot, and all is as before', async () => {
    const file = new MemoryNode({ sizeBytes: 0 });
    await formatQcow2(file, { sizeBytes: MiB, refcountBits: 1, clusterBytes: 4096 });
    const image = await Qcow2Image.open(file, { keepChildren: true });
    await image.write(0, Buffer.alloc(MiB, 7));
    await expect(image.createSnapshot({ name: 'x', dateNanoseconds: 0n })).rejects.toMatchObject({
      kind: 'unsupported',
      message: expect.stringContaining('refcount'),
    });
    expect(await image.snapshots()).toEqual([]);
    await image.close();
    await assertClean(file, 'refused');
  });

  test('ids are unique, and names are looked for', async () => {
    const file = new MemoryNode({ sizeBytes: 0 });
    await formatQcow2(file, { sizeBytes: MiB });
    const image = await Qcow2Image.open(file, { keepChildren: true });
    await image.createSnapshot({ id: 'a', name: 'n', dateNanoseconds: 0n });
    await expect(image.createSnapshot({ id: 'a', name: 'm', dateNanoseconds: 0n })).rejects.toMatchObject({
      kind: 'exists',
    });
    await expect(image.deleteSnapshot('m')).rejects.toMatchObject({ kind: 'not-found' });
    await image.close();
  });
});
