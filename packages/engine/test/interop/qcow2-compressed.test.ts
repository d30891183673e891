// Goal: clusters that the engine stores compressed read back here and in QEMU, also after they were overwritten
// and let go of. Method: a seeded history of requests beside a model, checked and converted by qemu-img.
import fs from 'node:fs';
import { afterAll, describe, expect } from 'vitest';
import { openImage } from '../../src/image/open-image.ts';
import { createQcow2 } from '../../src/image/qcow2/create.ts';
import type { BlockNode } from '../../src/node/block-node.ts';
import { ModelDisk } from '../../src/testing/model-disk.ts';
import { SeededRandom } from '../../src/testing/seeded-random.ts';
import { makeTemporaryFolder } from '../../src/testing/temporary-folder.ts';
import { KiB, MiB } from '../../src/units.ts';
import { countFindings, run, testWithTools } from './tools.ts';

const testWithImg = testWithTools(['qemu-img']);
const folder = makeTemporaryFolder();
afterAll(() => folder.remove());

const CLUSTER = 64 * KiB;

/** Noise and repetition in turn: comes to about half its size. */
function compressible(random: SeededRandom, length: number): Buffer {
  const data = Buffer.alloc(length, random.int(1, 255));
  for (let at = 0; at + 8 <= length; at += 8) random.bytes(4).copy(data, at);
  return data;
}

/** Disjoint requests at once: compressed clusters, plain writes, zeroes and discards. */
async function scribble(image: BlockNode, model: ModelDisk, random: SeededRandom): Promise<void> {
  const pending: Promise<unknown>[] = [];
  for (let position = 0; position < image.sizeBytes; ) {
    const length = Math.min(random.int(1, 5) * CLUSTER, image.sizeBytes - position);
    const kind = random.int(0, 5);
    if (kind <= 2) {
      const data = random.chance(0.2) ? random.bytes(length) : compressible(random, length);
      model.write(position, data);
      pending.push(Promise.resolve(image.writeCompressed!(position, data)));
    } else if (kind === 3) {
      const data = random.bytes(Math.min(random.int(1, 40_000), length));
      model.write(position, data);
      pending.push(Promise.resolve(image.write(position, data)));
    } else if (kind === 4) {
      model.writeZeroes(position, length);
      pending.push(Promise.resolve(image.discard(position, length)));
    }
    position += length;
  }
  await Promise.all(pending);
}

describe('compressed clusters', () => {
  for (const seed of [1, 2, 3, 4]) {
    testWithImg(`read back, survive overwriting and leave a clean image (seed ${seed})`, async () => {
      const path = folder.file(`compressed-${seed}.qcow2`);
      const size = 6 * MiB + 4096;
      await createQcow2(path, { sizeBytes: size });
      const model = new ModelDisk(size);
      const random = new SeededRandom(seed);
      for (let round = 0; round < 4; round++) {
        const image = await openImage(path, { format: 'qcow2' });
        await scribble(image, model, random);
        if (round % 2 === 0) await image.flush();
        await scribble(image, model, random);
        const all = Buffer.alloc(size, 0xee);
        await image.read(0, all);
        model.assertEqual(0, all, `round ${round}`);
        await image.close();
        expect(countFindings(path)).toBe(0);
      }
      const converted = folder.file(`compressed-${seed}.raw`);
      run('qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', path, converted);
      model.assertEqual(0, fs.readFileSync(converted), 'read by qemu-img');
    });
  }

  testWithImg('take about the space that their contents are worth', async () => {
    const path = folder.file('half.qcow2');
    await createQcow2(path, { sizeBytes: 16 * MiB });
    const image = await openImage(path, { format: 'qcow2' });
    const random = new SeededRandom(7);
    for (let at = 0; at < 16 * MiB; at += MiB) await image.writeCompressed!(at, compressible(random, MiB));
    await image.close();
    expect(countFindings(path)).toBe(0);
    expect(fs.statSync(path).size).toBeLessThan(11 * MiB);
  });
});
