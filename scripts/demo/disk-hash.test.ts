// Goal: two disks have the same hashes exactly when they are equal, and a difference is named by its region.
// Method: small disks in memory, in a file and behind an NBD server.
import { createHash } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { DiskHash, hashDisk, outside } from './disk-hash.ts';
import { openExport, openFile } from './disk-reader.ts';
import { REGION_BYTES } from './layout.ts';
import { readerOf, serveMemoryDisk } from './testing/memory-disk.ts';

const SIZE = 20 * REGION_BYTES + 512;

function disk(): Buffer {
  const bytes = Buffer.alloc(SIZE);
  for (let at = 0; at < SIZE; at += 3 * REGION_BYTES) bytes.writeUInt32LE(at + 1, at);
  return bytes;
}

test('a disk has the same hashes in memory, as a file and as an export', async () => {
  const expected = await hashDisk(readerOf(disk()));
  const path = join(tmpdir(), `tidemark-hash-${process.pid}.img`);
  writeFileSync(path, disk());
  const server = await serveMemoryDisk(SIZE);
  disk().copy(server.bytes);
  try {
    for (const reader of [await openFile(path), await openExport(server.uri)]) {
      const found = await hashDisk(reader);
      expect(found.whole).toBe(expected.whole);
      expect(found.differences(expected)).toEqual([]);
      await reader.close();
    }
  } finally {
    rmSync(path);
    await server.close();
  }
});

test('the hash is SHA-256, of regions of zeroes as of any other', async () => {
  const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest();
  const bytes = Buffer.alloc(2 * REGION_BYTES);
  bytes[5] = 1;
  const regions = [bytes.subarray(0, REGION_BYTES), bytes.subarray(REGION_BYTES)];
  const hashes = await hashDisk(readerOf(bytes));
  expect(hashes.whole).toBe(sha256(Buffer.concat(regions.map(sha256))).toString('hex'));
});

test.each([0, REGION_BYTES - 1, 7 * REGION_BYTES + 99, SIZE - 1])(
  'one flipped bit at %i is found',
  async at => {
    const changed = disk();
    changed[at]! ^= 0x10;
    const [before, after] = [await hashDisk(readerOf(disk())), await hashDisk(readerOf(changed))];
    const offset = at - (at % REGION_BYTES);
    expect(before.differences(after)).toEqual([{ offset, length: Math.min(REGION_BYTES, SIZE - offset) }]);
    expect(before.whole).not.toBe(after.whole);
  },
);

test('neighbouring regions are one range', async () => {
  const changed = disk();
  changed.fill(7, 2 * REGION_BYTES - 1, 4 * REGION_BYTES + 1);
  const found = (await hashDisk(readerOf(disk()))).differences(await hashDisk(readerOf(changed)));
  expect(found).toEqual([{ offset: REGION_BYTES, length: 4 * REGION_BYTES }]);
});

test('a longer disk differs from where the shorter one ends', () => {
  const [short, long] = [new DiskHash(2 * REGION_BYTES), new DiskHash(4 * REGION_BYTES)];
  expect(short.differences(long)).toEqual([{ offset: 2 * REGION_BYTES, length: 2 * REGION_BYTES }]);
});

test('ranges are cut where a region is left out', () => {
  const left = { offset: 100, length: 50 };
  expect(outside([{ offset: 0, length: 300 }], left)).toEqual([
    { offset: 0, length: 100 },
    { offset: 150, length: 150 },
  ]);
  expect(outside([{ offset: 110, length: 20 }], left)).toEqual([]);
  expect(outside([{ offset: 140, length: 20 }], left)).toEqual([{ offset: 150, length: 10 }]);
  expect(outside([{ offset: 0, length: 100 }], left)).toEqual([{ offset: 0, length: 100 }]);
});
