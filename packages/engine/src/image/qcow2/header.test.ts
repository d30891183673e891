// Goal: a header is believed only as far as the file bears it out, and refusals say which field is wrong.
// Method: a good image in memory with one field changed at a time, and random bytes.
import { describe, expect, test } from 'vitest';
import { MemoryNode } from '../../testing/memory-node.ts';
import { SeededRandom } from '../../testing/seeded-random.ts';
import { GiB, KiB, MiB, TiB } from '../../units.ts';
import { createQcow2, formatQcow2 } from './create.ts';
import { HEADER } from './format.ts';
import { readQcow2Header } from './header.ts';
import { Qcow2Image } from './qcow2-image.ts';

async function goodImage(sizeBytes = GiB): Promise<MemoryNode> {
  const file = new MemoryNode({ sizeBytes: 0 });
  await formatQcow2(file, { sizeBytes, backing: { path: 'base.raw', format: 'raw' } });
  return file;
}

function patch32(offset: number, value: number): (file: MemoryNode) => void {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return file => void file.write(offset, bytes);
}

function patch64(offset: number, value: bigint): (file: MemoryNode) => void {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return file => void file.write(offset, bytes);
}

test('what is written is what is read', async () => {
  expect(await readQcow2Header(await goodImage())).toMatchObject({
    version: 3,
    clusterBytes: 64 * KiB,
    sizeBytes: GiB,
    l1Entries: 2,
    refcountOrder: 4,
    compressionType: 'zlib',
    backingPath: 'base.raw',
    backingFormat: 'raw',
    snapshotCount: 0,
  });
});

describe('a field out of its bounds is refused', () => {
  test.each([
    ['magic', 'invalid-format', patch32(HEADER.magic, 0x514649fa)],
    ['version', 'unsupported', patch32(HEADER.version, 4)],
    ['cluster_bits', 'invalid-format', patch32(HEADER.clusterBits, 8)],
    ['cluster_bits', 'invalid-format', patch32(HEADER.clusterBits, 0xffffffff)],
    ['size', 'invalid-format', patch64(HEADER.size, 1n << 63n)],
    ['l1_size', 'invalid-format', patch64(HEADER.size, BigInt(8 * TiB))],
    ['L1 table', 'invalid-format', patch32(HEADER.l1Size, 0xffffffff)],
    ['L1 table', 'invalid-format', patch32(HEADER.l1Size, 1 << 20)],
    ['l1_table_offset', 'invalid-format', patch64(HEADER.l1TableOffset, 512n)],
    ['l1_table_offset', 'invalid-format', patch64(HEADER.l1TableOffset, 1n << 60n)],
    ['refcount table', 'invalid-format', patch32(HEADER.refcountTableClusters, 0)],
    ['refcount table', 'invalid-format', patch32(HEADER.refcountTableClusters, 0xffffffff)],
    ['refcount_table_offset', 'invalid-format', patch64(HEADER.refcountTableOffset, 0n)],
    ['backing_file_size', 'invalid-format', patch32(HEADER.backingFileSize, 1024)],
    ['backing_file_offset', 'invalid-format', patch64(HEADER.backingFileOffset, 1n << 40n)],
    ['header_length', 'invalid-format', patch32(HEADER.headerLength, 0xfffffff8)],
    ['header extension', 'invalid-format', patch32(116, 0xfffffff0)],
    ['refcount_order', 'invalid-format', patch32(HEADER.refcountOrder, 7)],
    ['extended L2 entries', 'unsupported', patch64(HEADER.incompatibleFeatures, 16n)],
    ['bit 40', 'unsupported', patch64(HEADER.incompatibleFeatures, 1n << 40n)],
  ] as const)('%s (%s)', async (word, kind, patch) => {
    const file = await goodImage();
    patch(file);
    const opening = Qcow2Image.open(file, { ignoreBacking: true });
    await expect(opening).rejects.toMatchObject({ kind, message: expect.stringContaining(word) });
  });

  test.each([
    ['AES encryption', patch32(HEADER.cryptMethod, 1)],
    ['LUKS encryption', patch32(HEADER.cryptMethod, 2)],
    ['external data file', patch64(HEADER.incompatibleFeatures, 4n)],
    ['extended L2 entries', patch64(HEADER.incompatibleFeatures, 16n)],
    ['incompatible feature bit 40', patch64(HEADER.incompatibleFeatures, 1n << 40n)],
    ['corrupt', patch64(HEADER.incompatibleFeatures, 2n)],
  ] as const)('writing an image with %s', async (word, patch) => {
    const file = await goodImage();
    patch(file);
    await expect(Qcow2Image.open(file, { ignoreBacking: true })).rejects.toThrow(word);
  });

  test('a dirty image is repaired when it is opened for writing, and read as it is', async () => {
    const file = await goodImage();
    patch64(HEADER.incompatibleFeatures, 1n)(file);
    await (await Qcow2Image.open(file, { ignoreBacking: true, readOnly: true, keepChildren: true })).close();
    expect((await readQcow2Header(file)).incompatibleFeatures).toBe(1n);
    await (await Qcow2Image.open(file, { ignoreBacking: true, keepChildren: true })).close();
    expect((await readQcow2Header(file)).incompatibleFeatures).toBe(0n);
  });

  test('a writer takes back what an autoclear feature promises that it does not know', async () => {
    const file = await goodImage();
    patch64(HEADER.autoclearFeatures, 0x8000n)(file);
    await (await Qcow2Image.open(file, { ignoreBacking: true, readOnly: true, keepChildren: true })).close();
    expect((await readQcow2Header(file)).autoclearFeatures).toBe(0x8000n);
    await (await Qcow2Image.open(file, { ignoreBacking: true, keepChildren: true })).close();
    expect((await readQcow2Header(file)).autoclearFeatures).toBe(0n);
  });

  test('the backing image that the header names must be given', async () => {
    await expect(Qcow2Image.open(await goodImage())).rejects.toMatchObject({
      kind: 'invalid-argument',
      message: expect.stringContaining('base.raw'),
    });
  });
});

test('random bytes in header and tables end in an engine error or in data, never in anything else', async () => {
  for (let seed = 1; seed <= 300; seed++) {
    const random = new SeededRandom(seed);
    const file = await goodImage(64 * MiB);
    const image = await Qcow2Image.open(file, { ignoreBacking: true, keepChildren: true });
    await image.write(0, random.bytes(256 * KiB));
    await image.close();
    for (let change = 0; change < 3; change++) {
      // The header's fields, the L1 table, or the L2 table.
      const start = random.pick([4, 196_608, 262_144]);
      file.write(start + random.int(0, 100), random.bytes(random.int(1, 8)));
    }
    try {
      const broken = await Qcow2Image.open(file, { ignoreBacking: true, keepChildren: true });
      const length = Math.min(MiB, broken.sizeBytes);
      await broken.read(0, Buffer.alloc(length));
      await broken.extents(0, broken.sizeBytes);
      await broken.write(0, Buffer.alloc(length, 1));
      await broken.close();
    } catch (error) {
      expect((error as Error).name, `seed ${seed}: ${(error as Error).stack}`).toBe('EngineError');
    }
  }
});

test.each([
  { sizeBytes: 1000 },
  { sizeBytes: -512 },
  { sizeBytes: 2000 * TiB },
  { sizeBytes: GiB, clusterBytes: 1000 },
  { sizeBytes: GiB, clusterBytes: 4 * MiB },
  { sizeBytes: 1 * TiB, clusterBytes: 512 },
  { sizeBytes: GiB, backing: { path: 'x'.repeat(1024), format: 'raw' as const } },
  { sizeBytes: GiB, clusterBytes: 512, backing: { path: 'x'.repeat(400), format: 'raw' as const } },
])('creation refuses %o', async options => {
  await expect(createQcow2('/nonexistent-folder/image', options)).rejects.toSatisfy(error =>
    ['invalid-argument', 'not-found'].includes((error as { kind: string }).kind),
  );
  await expect(formatQcow2(new MemoryNode({ sizeBytes: 0 }), options)).rejects.toMatchObject({
    kind: 'invalid-argument',
  });
});
