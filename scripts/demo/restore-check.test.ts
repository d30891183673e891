// Goal: the demo's verdict fails for a restore that differs in one byte, wherever it is, and for one that is
// not of a single instant. Method: the real writer writes to a disk in memory over NBD; copies of the disk stand
// for restores, one is taken within an instant, others are spoilt.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hashDisk } from './disk-hash.ts';
import { REGION_BYTES } from './layout.ts';
import { checkRestore, type Expectation } from './restore-check.ts';
import { BLOCK_BYTES } from './stamped-block.ts';
import { StampedWriter } from './stamped-writer.ts';
import { type MemoryDisk, readerOf, serveMemoryDisk } from './testing/memory-disk.ts';

const SIZE = 8 * REGION_BYTES;
const REGION = { offset: 4 * REGION_BYTES, length: 2 * REGION_BYTES };
const AFTER_INSTANT = 5_000;

let disk: MemoryDisk;
let writer: StampedWriter;
let restored: Buffer;
let expectation: Expectation;

async function writes(count: number): Promise<void> {
  const end = writer.history.acknowledged + count;
  while (writer.history.acknowledged < end) await new Promise(resolve => setTimeout(resolve, 5));
}

beforeAll(async () => {
  disk = await serveMemoryDisk(SIZE);
  for (let at = 0; at < 3 * REGION_BYTES; at += 4) disk.bytes.writeUInt32LE((at * 2_654_435_761) >>> 0, at);
  const beginning = Buffer.from(disk.bytes.subarray(0, 3 * REGION_BYTES));
  const hashes = await hashDisk(readerOf(disk.bytes));
  writer = StampedWriter.create({
    uri: disk.uri,
    region: REGION,
    inFlight: 16,
    writesMax: 1_000_000,
    seed: 7,
  });
  await writer.start();
  await writes(300);
  const requested = writer.history.now();
  await writes(50);
  restored = Buffer.from(disk.bytes); // nothing is served meanwhile: one instant
  await writes(50);
  const replied = writer.history.now();
  await writes(AFTER_INSTANT);
  await writer.stop();
  expectation = {
    checkpoint: 'monday',
    hashes,
    written: REGION,
    region: REGION,
    instant: { requested, replied },
    beginning: { open: async () => readerOf(beginning) },
  };
});

afterAll(async () => {
  await writer.close();
  await disk.close();
});

function check(bytes: Buffer, changes: Partial<Expectation> = {}) {
  return checkRestore(readerOf(bytes), { ...expectation, ...changes }, writer.history);
}

function flipped(at: number): Buffer {
  const bytes = Buffer.from(restored);
  bytes[at]! ^= 0x01;
  return bytes;
}

test('the true restore passes, and the check had something to look at', async () => {
  const verdict = await check(restored);
  expect(verdict.faults).toEqual([]);
  expect(verdict.comparedBytes).toBe(SIZE - REGION.length);
  expect(verdict.demandedWrites).toBeGreaterThanOrEqual(300);
  expect(verdict.forbiddenWrites).toBeGreaterThanOrEqual(AFTER_INSTANT - 16);
});

describe('one flipped bit', () => {
  test('where the source is at hand: the very byte is named', async () => {
    const at = 2 * REGION_BYTES + 12_345;
    const { faults } = await check(flipped(at));
    const hexadecimal = (bytes: Buffer) => `0x${bytes.toString('hex', at, at + 1)}`;
    expect(faults).toEqual([
      { offset: at, length: 1, expected: hexadecimal(restored), found: hexadecimal(flipped(at)) },
    ]);
  });

  test('elsewhere outside the writer: its MiB is named', async () => {
    const { faults } = await check(flipped(7 * REGION_BYTES + 1));
    expect(faults).toMatchObject([{ offset: 7 * REGION_BYTES, length: REGION_BYTES }]);
  });

  test("in the writer's region: its block is named", async () => {
    const at = REGION.offset + 100 * BLOCK_BYTES;
    const { faults } = await check(flipped(at + 5));
    expect(faults).toMatchObject([{ offset: at, length: BLOCK_BYTES, found: 'a damaged block' }]);
  });
});

test('a disk of a later moment fails', async () => {
  const { faults } = await check(Buffer.from(disk.bytes));
  expect(faults.length).toBeGreaterThan(0);
  expect(faults.every(fault => fault.expected.startsWith('no write issued after the reply'))).toBe(true);
});

test('a disk of an earlier moment fails', async () => {
  const early = Buffer.from(restored).fill(0, REGION.offset, REGION.offset + REGION.length);
  const { faults } = await check(early);
  expect(faults.length).toBeGreaterThan(100);
  expect(faults[0]!.expected).toContain('acknowledged before the request');
});

test('a disk of two moments fails, also when both lie between request and reply', async () => {
  const torn = Buffer.from(restored);
  const half = REGION.offset + REGION.length / 2;
  disk.bytes.copy(torn, half, half, REGION.offset + REGION.length);
  const wide = { requested: 0, replied: writer.history.now() };
  expect((await check(restored, { instant: wide })).faults).toEqual([]);
  const { faults } = await check(torn, { instant: wide });
  expect(faults.length).toBeGreaterThan(0);
  expect(faults[0]!.expected).toMatch(/acknowledged before write \d+ was issued/);
});

test('when nothing wrote around the instant, every byte counts', async () => {
  const quiet = {
    hashes: await hashDisk(readerOf(disk.bytes)),
    written: null,
    instant: { requested: writer.history.now(), replied: writer.history.now() },
  };
  expect(await check(Buffer.from(disk.bytes), quiet)).toMatchObject({ faults: [], comparedBytes: SIZE });
  const { faults } = await check(restored, quiet);
  expect(faults.length).toBeGreaterThan(0);
});

test('a disk that ends too early fails', async () => {
  const { faults } = await check(restored.subarray(0, SIZE - 512));
  expect(faults).toMatchObject([{ offset: SIZE - 512, length: 512 }]);
});
