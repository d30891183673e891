// Goal: records of checksums mean one thing only, and arrive as they were set, in whatever order that was.
// Method: a writer and a reader over a node in memory, compared with a plain array.
import { createHash, randomBytes } from 'node:crypto';
import { MemoryNode, SeededRandom } from '@tidemark/engine/testing';
import { expect, test } from 'vitest';
import {
  agrees,
  CLUSTER_BYTES,
  clusterDigest,
  isNothing,
  isZeroes,
  NOTHING_RECORD,
  RECORD_BYTES,
  recordsOf,
  sumsBytes,
  ZEROES_RECORD,
} from './sums-format.ts';
import { SumsReader } from './sums-reader.ts';
import { SumsWriter } from './sums-writer.ts';

test('a record is the start of SHA-256, and short clusters have their own', () => {
  const bytes = randomBytes(CLUSTER_BYTES);
  const digest = clusterDigest(bytes);
  expect(digest).toEqual(createHash('sha256').update(bytes).digest().subarray(0, 16));
  expect(agrees(digest, bytes)).toBe(true);
  expect(agrees(digest, bytes.subarray(0, 512))).toBe(false);
  bytes[70]! ^= 1;
  expect(agrees(digest, bytes)).toBe(false);
});

test('zeroes agree with their record and with their digest, nothing agrees with no record', () => {
  const zeroes = Buffer.alloc(512);
  expect(agrees(ZEROES_RECORD, zeroes)).toBe(true);
  expect(agrees(clusterDigest(zeroes), zeroes)).toBe(true);
  expect(agrees(ZEROES_RECORD, Buffer.alloc(512, 1))).toBe(false);
  expect(agrees(NOTHING_RECORD, zeroes)).toBe(false);
  expect([isNothing(NOTHING_RECORD), isZeroes(ZEROES_RECORD), isNothing(ZEROES_RECORD)]).toEqual([
    true,
    true,
    false,
  ]);
});

test('sizes are whole sectors of whole records', () => {
  expect([1, CLUSTER_BYTES, CLUSTER_BYTES + 512].map(recordsOf)).toEqual([1, 1, 2]);
  expect([512, 32 * CLUSTER_BYTES, 33 * CLUSTER_BYTES].map(sumsBytes)).toEqual([512, 512, 1024]);
});

test('what is set in any order is read back, and the rest stays', async () => {
  const count = 200_000;
  const node = new MemoryNode({ sizeBytes: count * RECORD_BYTES });
  const model = Buffer.alloc(count * RECORD_BYTES);
  const random = new SeededRandom(7);
  for (let life = 0; life < 3; life++) {
    const writer = new SumsWriter(node);
    for (let step = 0; step < 400; step++) {
      const first = random.int(0, count - 1);
      const length = Math.min(count - first, random.chance(0.25) ? random.int(1, 5000) : 1);
      const record = random.chance(0.5) ? ZEROES_RECORD : randomBytes(RECORD_BYTES);
      await writer.set(first, record, length);
      model.fill(record, first * RECORD_BYTES, (first + length) * RECORD_BYTES);
    }
    await writer.flush();
  }
  const reader = new SumsReader(node, count);
  expect((await reader.records(0, count)).equals(model)).toBe(true);
  expect((await reader.records(4090, 20)).equals(model.subarray(4090 * 16, 4110 * 16))).toBe(true);
});

test('neighbours travel in one request, and a failed write is told from then on', async () => {
  const node = new MemoryNode({ sizeBytes: 4096 * RECORD_BYTES });
  const writer = new SumsWriter(node);
  for (let index = 0; index < 500; index++) await writer.set(index, ZEROES_RECORD);
  await writer.flush();
  expect(node.counts.write).toBe(1);
  const failing = new SumsWriter({
    write: () => Promise.reject(new Error('target is gone')),
    flush: () => undefined,
  });
  await failing.set(1, ZEROES_RECORD);
  await expect(failing.flush()).rejects.toThrow('target is gone');
  await expect(failing.set(2, ZEROES_RECORD)).rejects.toThrow('target is gone');
});
