// Goal: chains of 1 to 40 images mean the same to this engine and to QEMU's tools. Method: one chain that grows, each
// image made and written by either in turn, over a raw one or a qcow2 one; looked at by both on the way.
import fs from 'node:fs';
import { afterAll, expect } from 'vitest';
import { openImage } from '../../src/image/open-image.ts';
import { createQcow2 } from '../../src/image/qcow2/create.ts';
import { ModelDisk } from '../../src/testing/model-disk.ts';
import { SeededRandom } from '../../src/testing/seeded-random.ts';
import { makeTemporaryFolder } from '../../src/testing/temporary-folder.ts';
import { KiB, MiB } from '../../src/units.ts';
import { countFindings, run, testWithTools } from './tools.ts';

const folder = makeTemporaryFolder();
afterAll(() => folder.remove());

const LAYERS = 40;
const SIZE = 4 * MiB;
/** Looked at whole by both; every image is checked. */
const LOOKED_AT = new Set([1, 2, 3, 5, 10, 20, 30, LAYERS]);
const CLUSTERS = [512, 4 * KiB, 64 * KiB, 256 * KiB];

interface Request {
  readonly zero: boolean;
  readonly offset: number;
  readonly length: number;
  readonly byte: number;
}

function requestsOf(random: SeededRandom): Request[] {
  return Array.from({ length: 6 }, () => {
    const offset = random.int(0, SIZE / 512 - 1) * 512;
    const length = Math.min(random.int(1, 200) * 512, SIZE - offset);
    return { zero: random.chance(0.3), offset, length, byte: random.int(1, 255) };
  });
}

async function writeHere(path: string, requests: readonly Request[]): Promise<void> {
  const image = await openImage(path, { format: 'qcow2' });
  for (const { zero, offset, length, byte } of requests) {
    if (zero) await image.writeZeroes(offset, length, { mayUnmap: true });
    else await image.write(offset, Buffer.alloc(length, byte));
  }
  await image.close();
}

function writeByQemu(path: string, requests: readonly Request[]): void {
  const commands = requests.flatMap(({ zero, offset, length, byte }) => [
    '-c',
    `write ${zero ? '-z -u' : `-P ${byte}`} ${offset} ${length}`,
  ]);
  run('qemu-io', '-f', 'qcow2', ...commands, path);
}

for (const base of ['raw', 'qcow2'] as const) {
  const title = `up to ${LAYERS} images over a ${base} one, made and written by either`;
  testWithTools(['qemu-img', 'qemu-io'])(
    title,
    async () => {
      const random = new SeededRandom(40);
      const model = new ModelDisk(SIZE);
      const path = (index: number): string => folder.file(`${base}-${index}`);
      run('qemu-img', 'create', '-q', '-f', base, path(0), String(SIZE));
      for (let index = 1; index <= LAYERS; index++) {
        const format = index === 1 ? base : 'qcow2';
        const clusterBytes = random.pick(CLUSTERS);
        const below = `${base}-${index - 1}`;
        const backing = { path: below, format };
        if (random.chance(0.5)) await createQcow2(path(index), { sizeBytes: SIZE, clusterBytes, backing });
        else {
          const options = ['-o', `cluster_size=${clusterBytes}`, '-b', below, '-F', format];
          run('qemu-img', 'create', '-q', '-f', 'qcow2', ...options, path(index));
        }
        const requests = requestsOf(random);
        if (random.chance(0.5)) await writeHere(path(index), requests);
        else writeByQemu(path(index), requests);
        for (const { zero, offset, length, byte } of requests) {
          if (zero) model.writeZeroes(offset, length);
          else model.write(offset, Buffer.alloc(length, byte));
        }
        expect(countFindings(path(index)), `image ${index}`).toBe(0);
        if (!LOOKED_AT.has(index)) continue;
        const image = await openImage(path(index), { format: 'qcow2', readOnly: true });
        const seen = Buffer.alloc(SIZE, 0xee);
        await image.read(0, seen);
        await image.close();
        model.assertEqual(0, seen, `a chain of ${index}`);
        const flat = folder.file('flat.raw');
        fs.writeFileSync(flat, model.bytes);
        run('qemu-img', 'compare', '-q', '-f', 'qcow2', '-F', 'raw', path(index), flat);
      }
    },
    120_000,
  );
}
