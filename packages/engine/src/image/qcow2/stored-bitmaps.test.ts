// Goal: bitmaps come back with the bits that they had, show every write, and are never believed where a writer
// did not end well. Method: an image in memory, opened and written again and again, and damaged directories.
import { describe, expect, test } from 'vitest';
import { DirtyBitmap } from '../../bitmap/dirty-bitmap.ts';
import { MemoryNode } from '../../testing/memory-node.ts';
import { SeededRandom } from '../../testing/seeded-random.ts';
import { GiB, KiB, MiB, TiB } from '../../units.ts';
import { checkQcow2 } from './check/check.ts';
import { formatQcow2 } from './create.ts';
import { HEADER } from './format.ts';
import { readQcow2Header } from './header.ts';
import { Qcow2Image } from './qcow2-image.ts';

const SIZE = 16 * MiB + 512;

async function formatted(clusterBytes: number, sizeBytes = SIZE): Promise<MemoryNode> {
  const file = new MemoryNode({ sizeBytes: 0 });
  await formatQcow2(file, { sizeBytes, clusterBytes });
  return file;
}

const open = (file: MemoryNode, readOnly = false) => Qcow2Image.open(file, { keepChildren: true, readOnly });

const bitmap = (name: string, granularityBytes: number, recording = true, sizeBytes = SIZE) =>
  new DirtyBitmap(sizeBytes, { name, granularityBytes, recording, persistent: true });

async function keep(file: MemoryNode, ...bitmaps: DirtyBitmap[]): Promise<void> {
  const image = await open(file);
  image.takeBitmaps();
  await image.storeBitmaps(bitmaps);
  await image.close();
}

async function assertClean(file: MemoryNode): Promise<void> {
  expect(await checkQcow2(file)).toMatchObject({ leaks: 0, corruptions: 0, findings: [] });
}

describe.each([512, 4 * KiB, 64 * KiB, 2 * MiB])('clusters of %i bytes', clusterBytes => {
  test.each([512, 64 * KiB, 2 * GiB])('bits of %i bytes come back', async granularityBytes => {
    const file = await formatted(clusterBytes);
    const random = new SeededRandom(clusterBytes + granularityBytes);
    const full = bitmap('full', granularityBytes);
    full.bits.setAll();
    const some = bitmap('some', granularityBytes, false);
    for (let run = 0; run < 20; run++) some.bits.set(random.int(0, SIZE - 1), random.int(1, 100_000));
    await keep(file, full, bitmap('none', granularityBytes), some);
    await assertClean(file);
    const image = await open(file, true);
    const [a, b, c] = image.takeBitmaps() as [DirtyBitmap, DirtyBitmap, DirtyBitmap];
    expect([a.name, b.name, c.name]).toEqual(['full', 'none', 'some']);
    expect([a.recording, b.recording, c.recording]).toEqual([true, true, false]);
    expect([a.readOnly, a.persistent, a.inconsistent]).toEqual([true, true, false]);
    expect(a.bits.equals(full.bits)).toBe(true);
    expect(b.bits.dirtyBytes).toBe(0);
    expect(c.bits.equals(some.bits)).toBe(true);
    await image.close();
  });
});

describe('an image that nobody takes the bitmaps of', () => {
  test('records what is written, and stores them', async () => {
    const file = await formatted(64 * KiB);
    await keep(file, bitmap('auto', 64 * KiB), bitmap('off', 64 * KiB, false));
    const image = await open(file);
    await image.write(MiB, Buffer.alloc(512, 1));
    await image.writeZeroes(2 * MiB, 512, { mayUnmap: true });
    await image.settle();
    await image.discard(4 * MiB, 64 * KiB);
    await image.writeCompressed(6 * MiB, Buffer.alloc(64 * KiB, 2));
    expect(image.storedBitmaps.map(each => each.inUse)).toEqual([true, true]);
    await image.resize(SIZE - MiB);
    await image.close();
    const again = await open(file, true);
    const [auto, off] = again.takeBitmaps() as [DirtyBitmap, DirtyBitmap];
    expect([...auto.bits.dirtyAreas()].map(({ offset }) => offset / MiB)).toEqual([1, 2, 4, 6]);
    expect(off.bits.dirtyBytes).toBe(0);
    expect(auto.bits.sizeBytes).toBe(SIZE - MiB);
    await assertClean(file);
  });

  test('refuses to go to a snapshot under them', async () => {
    const file = await formatted(64 * KiB);
    await keep(file, bitmap('b', 64 * KiB));
    const image = await open(file);
    await image.createSnapshot({ name: 's', dateNanoseconds: 0n });
    await expect(image.applySnapshot('s')).rejects.toThrow('Device has active dirty bitmaps');
    await image.close();
    await assertClean(file);
  });
});

describe('bitmaps that cannot be relied on', () => {
  test('were in use: they are inconsistent, stay so, and can be removed', async () => {
    const file = await formatted(64 * KiB);
    await keep(file, bitmap('b', 64 * KiB), bitmap('c', 64 * KiB));
    await open(file);
    for (let round = 0; round < 2; round++) {
      const image = await open(file);
      const found = image.takeBitmaps();
      expect(found.map(each => each.inconsistent)).toEqual([true, true]);
      await image.storeBitmaps(found);
      await image.close();
      await assertClean(file);
    }
    const image = await open(file);
    await image.storeBitmaps(image.takeBitmaps().slice(0, 1));
    await image.close();
    expect((await open(file, true)).storedBitmaps.map(each => each.name)).toEqual(['b']);
    await assertClean(file);
  });

  test('were overlooked by a writer who does not know bitmaps: they are gone', async () => {
    const file = await formatted(64 * KiB);
    await keep(file, bitmap('b', 64 * KiB));
    file.write(HEADER.autoclearFeatures, Buffer.alloc(8));
    expect((await open(file, true)).storedBitmaps).toEqual([]);
    const image = await open(file);
    expect(image.storedBitmaps).toEqual([]);
    await image.close();
    expect((await readQcow2Header(file)).extensions.map(({ type }) => type)).toEqual([0x6803f857]);
    await checkQcow2(file, { repair: 'leaks' });
    await assertClean(file);
  });

  test('have a table that does not fit the disk, or points nowhere: they are inconsistent', async () => {
    const file = await formatted(64 * KiB);
    const set = bitmap('b', 512);
    set.bits.setAll();
    await keep(file, set);
    const { bitmaps } = await readQcow2Header(file);
    const tableEntries = Buffer.alloc(4);
    file.read(bitmaps!.directoryOffset + 8, tableEntries);
    const entry = Buffer.alloc(8);
    file.read(bitmaps!.directoryOffset, entry);
    file.write(Number(entry.readBigUInt64BE()), Buffer.from([0, 0, 1, 0, 0, 0, 0, 0]));
    expect((await open(file, true)).takeBitmaps()[0]!.inconsistent).toBe(true);
    file.write(bitmaps!.directoryOffset + 8, Buffer.alloc(4));
    expect((await open(file, true)).takeBitmaps()[0]!.inconsistent).toBe(true);
  });

  test('are of a kind that is not known: they stay as they are', async () => {
    const file = await formatted(64 * KiB);
    await keep(file, bitmap('known', 64 * KiB), bitmap('other', 64 * KiB));
    const { bitmaps } = await readQcow2Header(file);
    const second = bitmaps!.directoryOffset + 32;
    file.write(second + 16, Buffer.from([7]));
    const image = await open(file);
    expect(image.takeBitmaps().map(({ name }) => name)).toEqual(['known']);
    await image.storeBitmaps([]);
    await image.close();
    expect((await open(file, true)).storedBitmaps).toMatchObject([{ name: 'other', inUse: false }]);
    await assertClean(file);
  });
});

test('a name that is no text stays as it is', async () => {
  const file = await formatted(64 * KiB);
  await keep(file, bitmap('bbb', 64 * KiB), bitmap('c', 64 * KiB));
  const { directoryOffset } = (await readQcow2Header(file)).bitmaps!;
  file.write(directoryOffset + 24, Buffer.from([0xff, 0xfe, 0xfd]));
  const image = await open(file);
  const name = Buffer.alloc(3);
  file.read(directoryOffset + 24, name);
  expect([...name]).toEqual([0xff, 0xfe, 0xfd]);
  expect(image.storedBitmaps.map(each => each.inUse)).toEqual([true, true]);
  await image.close();
  const { bitmaps } = await readQcow2Header(file);
  file.read(bitmaps!.directoryOffset + 24, name);
  expect([...name]).toEqual([0xff, 0xfe, 0xfd]);
  await assertClean(file);
});

describe('refusals', () => {
  test('of bitmaps that no image keeps', async () => {
    const wanted = { name: 'b', granularityBytes: 64 * KiB, others: 0 };
    const image = await open(await formatted(64 * KiB, 8 * TiB));
    expect(image.refusesBitmap(wanted)).toBeUndefined();
    expect(image.refusesBitmap({ ...wanted, name: 'é'.repeat(512) })).toMatch(/Name length exceeds/);
    expect(image.refusesBitmap({ ...wanted, granularityBytes: 2048 })).toBeUndefined();
    expect(image.refusesBitmap({ ...wanted, granularityBytes: 1024 })).toMatch(/Too much space/);
    expect(image.refusesBitmap({ ...wanted, others: 65_535 })).toMatch(/Maximum number/);
    const old = new MemoryNode({ sizeBytes: 0 });
    await formatQcow2(old, { sizeBytes: MiB, version: 2 });
    expect((await open(old)).refusesBitmap(wanted)).toMatch(/v2 files/);
  });

  test('of a directory that cannot be one, with its place', async () => {
    const file = await formatted(64 * KiB);
    await keep(file, bitmap('b', 64 * KiB), bitmap('c', 64 * KiB));
    const { directoryOffset } = (await readQcow2Header(file)).bitmaps!;
    const good = Buffer.alloc(64);
    file.read(directoryOffset, good);
    const damages: [number, Buffer, RegExp][] = [
      [0, Buffer.alloc(8, 0x11), /entry 0 has a bitmap table/],
      [12, Buffer.from([1, 0, 0, 0]), /entry 0 has reserved flags/],
      [17, Buffer.from([64]), /entry 0 has granularity_bits 64/],
      [18, Buffer.from([0, 0]), /entry 0 has no name/],
      [18, Buffer.from([255, 255]), /entry 0 reaches past the end/],
      [56, Buffer.from('b'), /entry 1 has the name of another one, 'b'/],
    ];
    for (const [at, bytes, text] of damages) {
      file.write(directoryOffset + at, bytes);
      await expect(open(file, true)).rejects.toThrow(text);
      await expect(open(file, true)).rejects.toThrow(`at byte ${directoryOffset + (at === 56 ? 32 : 0)}`);
      file.write(directoryOffset, good);
    }
    await (await open(file, true)).close();
  });
});
