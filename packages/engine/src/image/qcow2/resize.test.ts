// Goal: a disk that grows and shrinks keeps its contents, shows zeroes where it is new, and leaves a good image
// even where power fails in between. Method: seeded histories against plain bytes; tiny clusters, so that the
// L1 table has to move; a node that loses unflushed sectors, cut off after a random number of its requests.
import { describe, expect, test } from 'vitest';
import { CrashingNode } from '../../testing/crashing-node.ts';
import { FaultyNode } from '../../testing/faulty-node.ts';
import { MemoryNode } from '../../testing/memory-node.ts';
import { checkImage } from '../../testing/qcow2-check.ts';
import { SeededRandom } from '../../testing/seeded-random.ts';
import { alignDown, KiB, MiB } from '../../units.ts';
import { checkQcow2 } from './check/check.ts';
import { formatQcow2 } from './create.ts';
import { Qcow2Image } from './qcow2-image.ts';

const SECTOR = 512;
const SIZE_MAX = 4 * MiB;

async function contents(image: Qcow2Image): Promise<Buffer> {
  const bytes = Buffer.alloc(image.sizeBytes);
  await image.read(0, bytes);
  return bytes;
}

function resized(bytes: Buffer, sizeBytes: number): Buffer {
  const next = Buffer.alloc(sizeBytes);
  bytes.copy(next, 0, 0, Math.min(bytes.length, sizeBytes));
  return next;
}

async function writeSomewhere(image: Qcow2Image, model: Buffer, random: SeededRandom): Promise<void> {
  if (model.length === 0) return;
  const offset = random.int(0, model.length / SECTOR - 1) * SECTOR;
  const length = Math.min(random.int(1, 200) * SECTOR, model.length - offset);
  const data = random.chance(0.8) ? random.bytes(length) : Buffer.alloc(length);
  data.copy(model, offset);
  await image.write(offset, data);
}

describe.each([SECTOR, 4 * KiB, 64 * KiB])('with clusters of %i bytes', clusterBytes => {
  test.each([false, true])('contents follow the size; over a backing image: %s', async overBacking => {
    for (let seed = 1; seed <= 6; seed++) {
      const random = new SeededRandom(seed);
      const file = new MemoryNode({ sizeBytes: 0 });
      let model: Buffer = Buffer.alloc(random.int(1, 1000) * SECTOR);
      await formatQcow2(file, { sizeBytes: model.length, clusterBytes });
      const backing = new MemoryNode({ sizeBytes: MiB });
      if (overBacking) {
        backing.write(0, random.bytes(MiB));
        backing.read(0, model);
      }
      const more = overBacking ? { backing } : {};
      let image = await Qcow2Image.open(file, { keepChildren: true, ...more });
      for (let step = 0; step < 12; step++) {
        await writeSomewhere(image, model, random);
        const sizeBytes = alignDown(random.int(0, SIZE_MAX), SECTOR);
        await image.resize(sizeBytes);
        model = resized(model, sizeBytes);
        await writeSomewhere(image, model, random);
        expect((await contents(image)).equals(model), `seed ${seed}, step ${step}`).toBe(true);
      }
      await image.close();
      expect((await checkImage(file)).errors).toEqual([]);
      image = await Qcow2Image.open(file, { keepChildren: true, readOnly: true, ...more });
      expect((await contents(image)).equals(model)).toBe(true);
    }
  });

  test('25 power cuts leave the old size or the new one, and a good image', async () => {
    const seen = new Set<number>();
    const sizes = [MiB, 24 * MiB, 512 * KiB];
    for (let seed = 1; seed <= 25; seed++) {
      const random = new SeededRandom(seed);
      const disk = new CrashingNode(0);
      await formatQcow2(disk, { sizeBytes: MiB, clusterBytes });
      const data = random.bytes(256 * KiB);
      const file = new FaultyNode(disk);
      for (const event of ['write', 'discard', 'flush'] as const)
        file.addRule({ event, errno: 'EIO', state: 2 });
      const image = await Qcow2Image.open(file, { keepChildren: true });
      await image.write(0, data);
      await image.flush();
      const cut = random.int(1, 40);
      let requests = 0;
      file.pause(event => {
        if (event !== 'read' && ++requests === cut) file.setState(2);
        return false;
      });
      await (async () => {
        for (const sizeBytes of sizes.slice(1)) await image.resize(sizeBytes);
      })().catch(() => undefined);
      const left = disk.crash(random);
      expect((await checkImage(left)).errors, `seed ${seed}, cut at ${cut}`).toEqual([]);
      const after = await Qcow2Image.open(left, { keepChildren: true });
      expect(sizes).toContain(after.sizeBytes);
      seen.add(after.sizeBytes);
      const start = Buffer.alloc(data.length);
      await after.read(0, start);
      expect(start.equals(data), `seed ${seed}, cut at ${cut}`).toBe(true);
    }
    expect(seen.size).toBeGreaterThan(1);
  });
});

test('sizes that no image can have are refused with nothing changed', async () => {
  const file = new MemoryNode({ sizeBytes: 0 });
  await formatQcow2(file, { sizeBytes: MiB, clusterBytes: SECTOR });
  const image = await Qcow2Image.open(file, { keepChildren: true });
  await expect(image.resize(1000)).rejects.toMatchObject({ kind: 'invalid-argument' });
  await expect(image.resize(2 ** 50)).rejects.toMatchObject({ kind: 'unsupported' });
  expect(image.sizeBytes).toBe(MiB);
});

test.each([16, 64])(
  'a new L1 table may be longer than what one block of %i-bit refcounts counts',
  async refcountBits => {
    const file = new MemoryNode({ sizeBytes: 0 });
    await formatQcow2(file, { sizeBytes: MiB, clusterBytes: 512, refcountBits });
    const image = await Qcow2Image.open(file, { keepChildren: true });
    const data = Buffer.alloc(64 * KiB, 7);
    await image.write(0, data);
    for (const sizeBytes of [512 * MiB, 4096 * MiB, 4097 * MiB]) {
      await image.resize(sizeBytes);
      await image.write(sizeBytes - data.length, data);
    }
    await image.createSnapshot({ name: 'large', dateNanoseconds: 0n });
    await image.close();
    expect(await checkQcow2(file)).toMatchObject({ leaks: 0, corruptions: 0, findings: [] });
    const again = await Qcow2Image.open(file, { keepChildren: true, readOnly: true });
    for (const at of [0, 512 * MiB - data.length, 4097 * MiB - data.length]) {
      const read = Buffer.alloc(data.length);
      await again.read(at, read);
      expect(read.equals(data)).toBe(true);
    }
  },
);
