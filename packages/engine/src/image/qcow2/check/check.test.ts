// Goal: what is wrong is counted, told with its place, and put right without touching data.
// Method: an image in memory with one thing damaged at a time; all widths of refcounts made anew.
import { describe, expect, test } from 'vitest';
import { MemoryNode } from '../../../testing/memory-node.ts';
import { SeededRandom } from '../../../testing/seeded-random.ts';
import { MiB } from '../../../units.ts';
import { formatQcow2 } from '../create.ts';
import { readQcow2Header } from '../header.ts';
import { Qcow2Image } from '../qcow2-image.ts';
import { checkQcow2 } from './check.ts';

const DATA = new SeededRandom(3).bytes(MiB);

async function written(refcountBits: number, clusterBytes: number): Promise<MemoryNode> {
  const file = new MemoryNode({ sizeBytes: 0 });
  await formatQcow2(file, { sizeBytes: 4 * MiB, clusterBytes, refcountBits });
  const image = await Qcow2Image.open(file, { keepChildren: true });
  await image.write(0, DATA);
  if (refcountBits > 1) await image.createSnapshot({ name: 'one', dateNanoseconds: 0n });
  await image.write(MiB, DATA);
  await image.close();
  return file;
}

async function assertWhole(file: MemoryNode): Promise<void> {
  expect(await checkQcow2(file)).toMatchObject({ leaks: 0, corruptions: 0, checkErrors: 0, findings: [] });
  const image = await Qcow2Image.open(file, { keepChildren: true, readOnly: true });
  const all = Buffer.alloc(2 * MiB);
  await image.read(0, all);
  expect(all.equals(Buffer.concat([DATA, DATA]))).toBe(true);
  await image.close();
}

describe.each([1, 2, 4, 8, 16, 32, 64])('refcounts of %i bits', bits => {
  test.each([512, 4096, 65536])('are made anew where they are lost (clusters of %i)', async clusterBytes => {
    const file = await written(bits, clusterBytes);
    await assertWhole(file);
    const { refcountTableOffset } = await readQcow2Header(file);
    file.write(refcountTableOffset, Buffer.alloc(8, 0x11));
    const found = await checkQcow2(file);
    expect(found.corruptions).toBeGreaterThan(0);
    expect(found.findings[0]).toContain(`${refcountTableOffset}`);
    expect((await checkQcow2(file, { repair: 'all' })).corruptionsFixed).toBeGreaterThan(0);
    await assertWhole(file);
    const image = await Qcow2Image.open(file, { keepChildren: true });
    await image.write(3 * MiB, DATA);
    await image.close();
    await assertWhole(file);
  });
});

test('a repair of leaks gives clusters back and leaves the rest alone', async () => {
  const file = await written(16, 4096);
  const { refcountTableOffset } = await readQcow2Header(file);
  const block = Buffer.alloc(8);
  file.read(refcountTableOffset, block);
  const counts = Number(block.readBigUInt64BE());
  // The header counts too often, and a cluster in use too seldom.
  file.write(counts, Buffer.from([0, 3]));
  const last = Math.floor(file.sizeBytes / 4096) - 1;
  file.write(counts + last * 2, Buffer.alloc(2));
  const result = await checkQcow2(file, { repair: 'leaks' });
  expect(result).toMatchObject({ leaksFixed: 1, leaks: 0 });
  expect(result.corruptions).toBeGreaterThan(0);
  await checkQcow2(file, { repair: 'all' });
  await assertWhole(file);
});
