// Goal: a power cut at any moment leaves an image whose metadata is right (clusters may leak) and that holds
// all data of the last flush. Method: seeded histories over a node that loses unflushed sectors at random,
// cut off after a random number of its requests.
import { expect, test } from 'vitest';
import { CrashingNode } from '../../testing/crashing-node.ts';
import { FaultyNode } from '../../testing/faulty-node.ts';
import { MemoryNode } from '../../testing/memory-node.ts';
import { checkImage } from '../../testing/qcow2-check.ts';
import { SeededRandom } from '../../testing/seeded-random.ts';
import { KiB, MiB } from '../../units.ts';
import { formatQcow2 } from './create.ts';
import { Qcow2Image } from './qcow2-image.ts';

const SIZE = 2 * MiB;

/** What the disk must hold, and since the last flush may hold otherwise: 1 where that is so. */
interface Expectation {
  bytes: Buffer;
  uncertain: Buffer;
}

async function changeAtRandom(image: Qcow2Image, expected: Expectation, random: SeededRandom): Promise<void> {
  const pending: Promise<unknown>[] = [];
  for (let position = random.int(0, 500) * 512; position < SIZE; ) {
    const length = Math.min(random.int(1, 100) * 512, SIZE - position);
    const data = random.chance(0.6) ? random.bytes(length) : Buffer.alloc(length);
    data.copy(expected.bytes, position);
    expected.uncertain.fill(1, position, position + length);
    const isZero = data.equals(Buffer.alloc(length));
    const request = isZero
      ? image.writeZeroes(position, length, { mayUnmap: random.chance(0.7) })
      : image.write(position, data);
    pending.push(Promise.resolve(request));
    position += length + random.int(0, 2500) * 512;
  }
  const results = await Promise.allSettled(pending);
  const failed = results.find(result => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}

async function runUntilCut(seed: number, clusterBytes: number): Promise<void> {
  const random = new SeededRandom(seed);
  const disk = new CrashingNode(0);
  const backing = new MemoryNode({ sizeBytes: MiB });
  backing.write(0, random.bytes(MiB));
  await formatQcow2(disk, { sizeBytes: SIZE, clusterBytes });
  await disk.flush();
  const delay = () => (random.chance(0.3) ? new Promise<void>(resolve => setImmediate(resolve)) : undefined);
  const file = new FaultyNode(disk, { delay });
  for (const event of ['write', 'discard', 'flush'] as const) file.addRule({ event, errno: 'EIO', state: 2 });
  const cut = random.int(1, clusterBytes === 512 ? 600 : 120);
  let requests = 0;
  file.pause(event => {
    if (event !== 'read' && ++requests === cut) file.setState(2);
    return false;
  });
  const image = await Qcow2Image.open(file, { backing, l2CacheBytes: 0, keepChildren: true });
  const expected: Expectation = { bytes: Buffer.alloc(SIZE), uncertain: Buffer.alloc(SIZE) };
  backing.read(0, expected.bytes.subarray(0, MiB));
  try {
    for (let step = 0; step < 12; step++) {
      // A flush that runs beside the changes proves nothing about them, but must do them no harm.
      const beside = random.chance(0.4) ? Promise.resolve(image.flush()) : undefined;
      beside?.catch(() => undefined);
      await changeAtRandom(image, expected, random);
      await beside;
      if (random.chance(0.4)) continue;
      await image.flush();
      expected.uncertain.fill(0);
    }
  } catch {
    // The cut came; everything since the last flush is uncertain.
  }
  const left = disk.crash(random);
  expect((await checkImage(left)).errors, `seed ${seed}, cut at ${cut}`).toEqual([]);
  const after = await Qcow2Image.open(left, { backing, keepChildren: true });
  const actual = Buffer.alloc(SIZE);
  await after.read(0, actual);
  let wrong = -1;
  for (let index = 0; index < SIZE && wrong < 0; index++) {
    if (actual[index] !== expected.bytes[index] && expected.uncertain[index] === 0) wrong = index;
  }
  expect(wrong, `seed ${seed}, cut at ${cut}: first wrong byte`).toBe(-1);
}

test.each([512, 4 * KiB, 64 * KiB])('25 power cuts with clusters of %i bytes', async clusterBytes => {
  for (let seed = 1; seed <= 25; seed++) await runUntilCut(seed, clusterBytes);
});

test('a cluster let go of is not used again before the disk knows that it was', async () => {
  const disk = new CrashingNode(0);
  await formatQcow2(disk, { sizeBytes: SIZE });
  await disk.flush();
  const file = new FaultyNode(disk);
  const image = await Qcow2Image.open(file, { keepChildren: true });
  await image.write(0, Buffer.alloc(64 * KiB, 1));
  await image.flush();
  await image.discard(0, 64 * KiB);
  file.pause(event => event === 'flush');
  const flushing = Promise.resolve(image.flush()).catch(() => undefined);
  await file.untilHeld(1);
  await new Promise(resolve => setImmediate(resolve));
  await image.write(MiB, Buffer.alloc(64 * KiB, 3));
  const left = disk.crash(new SeededRandom(1));
  const after = await Qcow2Image.open(left, { keepChildren: true });
  const data = Buffer.alloc(64 * KiB);
  await after.read(0, data);
  expect([...new Set(data)].filter(byte => byte !== 0 && byte !== 1)).toEqual([]);
  file.release();
  await flushing;
});
