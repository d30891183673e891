// Goal: whatever variant of the format an image is, it is a block node like any other. Method: the shared suite over
// images of version 2, of odd refcounts, of clusters that snapshots share, and with bitmaps inside.
import { afterAll, expect, test } from 'vitest';
import { DirtyBitmap } from '../../bitmap/dirty-bitmap.ts';
import { describeBlockNode } from '../../testing/node-conformance.ts';
import { SeededRandom } from '../../testing/seeded-random.ts';
import { makeTemporaryFolder } from '../../testing/temporary-folder.ts';
import { KiB, MiB } from '../../units.ts';
import { FileNode } from '../file-node.ts';
import { openImage } from '../open-image.ts';
import { checkQcow2 } from './check/check.ts';
import { type CreateQcow2Options, createQcow2 } from './create.ts';
import { Qcow2Image } from './qcow2-image.ts';

const folder = makeTemporaryFolder();
afterAll(() => folder.remove());

type Variant = Omit<CreateQcow2Options, 'sizeBytes'> & { prepare?: (image: Qcow2Image) => Promise<void> };

/** Clusters that a snapshot has too, and reads as zeroes still. */
async function shareEverything(image: Qcow2Image): Promise<void> {
  await image.write(0, Buffer.alloc(image.sizeBytes, 1));
  await image.createSnapshot({ name: 'ones', dateNanoseconds: 0n });
  await image.write(0, Buffer.alloc(image.sizeBytes));
  await image.createSnapshot({ name: 'zeroes', dateNanoseconds: 0n });
}

async function keepBitmaps(image: Qcow2Image): Promise<void> {
  const options = { name: 'all', granularityBytes: 4 * KiB, persistent: true };
  image.takeBitmaps();
  await image.storeBitmaps([new DirtyBitmap(image.sizeBytes, options)]);
}

const VARIANTS: Record<string, Variant> = {
  'of version 2': { version: 2 },
  'of version 2 with clusters of 512 bytes': { version: 2, clusterBytes: 512 },
  'with refcounts of 1 bit': { refcountBits: 1, clusterBytes: 4 * KiB },
  'with refcounts of 64 bits': { refcountBits: 64, clusterBytes: 512 },
  'with space taken in advance': { preallocation: 'metadata' },
  'below two snapshots': { prepare: shareEverything, clusterBytes: 4 * KiB },
  'of version 2 below two snapshots': { prepare: shareEverything, version: 2 },
  'with a bitmap inside': { prepare: keepBitmaps },
};

const made: string[] = [];

for (const [name, { prepare, ...options }] of Object.entries(VARIANTS)) {
  describeBlockNode(`qcow2 ${name}`, {
    create: async sizeBytes => {
      const path = folder.file(`image-${made.length}.qcow2`);
      made.push(path);
      await createQcow2(path, { sizeBytes, ...options });
      if (prepare !== undefined && sizeBytes <= 64 * MiB) {
        const image = await Qcow2Image.open(await FileNode.open(path));
        await prepare(image);
        await image.close();
      }
      return openImage(path, { format: 'qcow2' });
    },
    reopen: async node => {
      await node.close();
      return openImage(made.at(-1)!, { format: 'qcow2' });
    },
  });
}

test('an overlay of version 2 hides what is below where zeroes are written', async () => {
  const base = folder.file('base.qcow2');
  const over = folder.file('over.qcow2');
  await createQcow2(base, { sizeBytes: MiB });
  const below = await openImage(base, { format: 'qcow2' });
  const data = new SeededRandom(1).bytes(MiB);
  await below.write(0, data);
  await below.close();
  await createQcow2(over, { sizeBytes: MiB, version: 2, backing: { path: base, format: 'qcow2' } });
  const image = await openImage(over, { format: 'qcow2' });
  await image.writeZeroes(64 * KiB + 512, 256 * KiB, { mayUnmap: true });
  await image.discard(512 * KiB, 128 * KiB);
  data.fill(0, 64 * KiB + 512, 320 * KiB + 512);
  const read = Buffer.alloc(MiB);
  await image.read(0, read);
  expect(read.equals(data)).toBe(true);
  await image.close();
});

test('all of them are whole when they are closed', async () => {
  expect(made.length).toBeGreaterThan(Object.keys(VARIANTS).length);
  for (const path of made) {
    const file = await FileNode.open(path, { readOnly: true });
    const { leaks, corruptions, findings } = await checkQcow2(file);
    expect({ path, leaks, corruptions, findings }).toEqual({ path, leaks: 0, corruptions: 0, findings: [] });
    await file.close();
  }
});
