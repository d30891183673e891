// Goal: the writer keeps its disk busy without ever two writes in flight to one block, and says when a write
// fails. Method: a disk in memory behind a real NBD server; its history is read afterwards.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BLOCK_BYTES, readStamp } from './stamped-block.ts';
import { Speedometer, StampedWriter } from './stamped-writer.ts';
import { type MemoryDisk, serveMemoryDisk } from './testing/memory-disk.ts';

const BLOCKS = 64;
const REGION = { offset: 8 * BLOCK_BYTES, length: BLOCKS * BLOCK_BYTES };
let disk: MemoryDisk;
let writer: StampedWriter;

beforeEach(async () => {
  disk = await serveMemoryDisk(80 * BLOCK_BYTES);
  writer = StampedWriter.create({ uri: disk.uri, region: REGION, inFlight: 16, writesMax: 500_000, seed: 1 });
});

afterEach(async () => {
  await writer.close();
  await disk.close();
});

async function writeFor(timeMs: number): Promise<void> {
  await writer.start();
  await new Promise(resolve => setTimeout(resolve, timeMs));
  await writer.stop();
}

test('many in flight, never two to one block, each acknowledged once', async () => {
  await writeFor(150);
  await writeFor(50);
  const { history } = writer;
  expect(history.issued).toBeGreaterThan(500);
  expect(history.acknowledged).toBe(history.issued);
  const freeFrom = new Array<number>(BLOCKS).fill(0);
  const latest = new Array<number>(BLOCKS).fill(0);
  let overlapping = 0;
  for (let sequence = 1; sequence <= history.issued; sequence += 1) {
    const block = history.blockOf(sequence);
    expect(history.issuedAt(sequence)).toBeGreaterThan(freeFrom[block]!);
    freeFrom[block] = history.acknowledgedAt(sequence);
    latest[block] = sequence;
    if (sequence > 1 && history.issuedAt(sequence) < history.acknowledgedAt(sequence - 1)) overlapping += 1;
  }
  expect(overlapping).toBeGreaterThan(history.issued / 2);
  const stamps = latest.map((_sequence, block) => {
    const at = REGION.offset + block * BLOCK_BYTES;
    return readStamp(disk.bytes.subarray(at, at + BLOCK_BYTES));
  });
  expect(stamps).toEqual(latest.map((sequence, block) => ({ sequence, block })));
});

test('it writes nowhere else', async () => {
  await writeFor(50);
  const outside = [disk.bytes.subarray(0, REGION.offset), disk.bytes.subarray(REGION.offset + REGION.length)];
  expect(outside.every(part => part.every(byte => byte === 0))).toBe(true);
});

test('its speed is counted between two looks', async () => {
  const speed = new Speedometer(writer.history);
  await writeFor(50);
  const { writes, seconds } = speed.look();
  expect(writes).toBe(writer.history.acknowledged);
  expect(seconds).toBeGreaterThan(0.05);
  expect(speed.look().writes).toBe(0);
});

test('a write that fails is told by stop', async () => {
  await writer.start();
  disk.breakWrites();
  await new Promise(resolve => setTimeout(resolve, 50));
  await expect(writer.stop()).rejects.toThrow(/the writer failed: .*/);
});

test('an export that is not there is told by start', async () => {
  const lost = StampedWriter.create({
    uri: disk.uri.replace(/disk$/, 'other'),
    region: REGION,
    inFlight: 1,
    writesMax: 10,
    seed: 1,
  });
  await expect(lost.start()).rejects.toThrow('the writer failed');
  await lost.close();
});
