// Goal: a restore that breaks any of the rules is caught, and one that keeps them is not. Method: histories and
// regions made by hand; a region is given as the sequence number that each block holds.
import { describe, expect, test } from 'vitest';
import { ConsistencyCheck } from './consistency-check.ts';
import { BLOCK_BYTES, readStamp, writeStamp } from './stamped-block.ts';
import { type Instant, WriteHistory } from './write-history.ts';

const REGION_OFFSET = 1024 * 1024;
const BLOCKS = 4;

/** `i` issues the next write, to the given block; `a` acknowledges the given write; `|` is an instant. */
function play(story: string): { history: WriteHistory; instant: Instant } {
  const history = WriteHistory.create(100);
  const moments: number[] = [];
  for (const word of story.split(' ')) {
    const number = Number(word.slice(1));
    if (word === '|') moments.push(history.now());
    else if (word.startsWith('i')) history.issue(number);
    else history.acknowledge(number);
  }
  return { history, instant: { requested: moments[0]!, replied: moments[1]! } };
}

function region(history: WriteHistory, held: number[]): Buffer {
  const bytes = Buffer.alloc(BLOCKS * BLOCK_BYTES);
  held.forEach((sequence, block) => {
    const place = bytes.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
    if (sequence > 0) writeStamp(place, { sequence, block: history.blockOf(sequence) });
  });
  return bytes;
}

function judge(story: string, held: number[], spoil: (bytes: Buffer) => void = () => {}) {
  const { history, instant } = play(story);
  const range = { offset: REGION_OFFSET, length: BLOCKS * BLOCK_BYTES };
  const check = new ConsistencyCheck(history, instant, range);
  const bytes = region(history, held);
  spoil(bytes);
  const around = Buffer.concat([Buffer.alloc(BLOCK_BYTES, 1), bytes, Buffer.alloc(BLOCK_BYTES, 1)]);
  check.take(REGION_OFFSET - BLOCK_BYTES, around);
  return check.judge();
}

const at = (block: number) => REGION_OFFSET + block * BLOCK_BYTES;

describe('what a restore may hold', () => {
  // Write 1 to block 0 before, 2 and 3 around the instant, 4 after.
  const story = 'i0 a1 | i1 a2 i2 a3 | i3 a4';

  test.each([[[1, 0, 0, 0]], [[1, 2, 0, 0]], [[1, 2, 3, 0]]])('held %j keeps every rule', held => {
    expect(judge(story, held)).toEqual({ faults: [], demanded: 1, forbidden: 1 });
  });

  test('a block overwritten before the instant holds the later write', () => {
    expect(judge('i0 a1 i0 a2 | |', [2, 0, 0, 0]).faults).toEqual([]);
  });

  test('of writes in flight together any may be held', () => {
    const inFlight = 'i0 i1 i2 | | a1 a2 a3';
    for (const held of [
      [1, 0, 0, 0],
      [0, 2, 0, 0],
      [0, 0, 3, 0],
      [1, 0, 3, 0],
    ]) {
      expect(judge(inFlight, held).faults).toEqual([]);
    }
  });

  test('a write that was never acknowledged may be missing', () => {
    expect(judge('i0 | | i1 a2', [0, 0, 0, 0]).faults).toEqual([]);
  });
});

describe('what it may not', () => {
  test('a write acknowledged before the request is missing', () => {
    const { faults } = judge('i0 a1 i1 a2 | |', [1, 0, 0, 0]);
    expect(faults).toEqual([
      {
        offset: at(1),
        length: BLOCK_BYTES,
        expected: 'write 2 or a later one, acknowledged before the request (moment 4)',
        found: 'the block as before the first write',
      },
    ]);
  });

  test('a block holds an older write than the one acknowledged before the request', () => {
    const { faults } = judge('i0 a1 i0 a2 | |', [1, 0, 0, 0]);
    expect(faults).toMatchObject([{ offset: at(0), found: 'write 1' }]);
  });

  test('a write issued after the reply is there', () => {
    const { faults } = judge('i0 a1 | | i1 a2', [1, 2, 0, 0]);
    expect(faults).toMatchObject([{ offset: at(1), found: 'write 2, issued at moment 3' }]);
  });

  test('a write is there without one that was acknowledged before it was issued', () => {
    const { faults } = judge('| i0 a1 i1 a2 |', [0, 2, 0, 0]);
    expect(faults).toMatchObject([
      { offset: at(0), expected: 'write 1 or a later one, acknowledged before write 2 was issued' },
    ]);
  });

  test('the order counts across all blocks, not from write to next write', () => {
    const { faults } = judge('| i0 i1 a2 i2 a3 a1 i3 a4 |', [0, 2, 3, 4]);
    expect(faults).toMatchObject([{ offset: at(0), found: 'the block as before the first write' }]);
  });
});

describe('blocks that no writer can have left', () => {
  const story = 'i0 a1 i1 a2 | |';
  const whole = [1, 2, 0, 0];

  test.each([
    ['one flipped bit in the filling', 2_000, 'a damaged block'],
    ['one flipped bit in the sequence number', 8, 'a damaged block'],
    ['one flipped bit in the checksum', 17, 'a damaged block'],
    ['one flipped bit in the magic', 3, 'a damaged block'],
  ])('%s', (_what, byte, found) => {
    const { faults } = judge(story, whole, bytes => {
      bytes[BLOCK_BYTES + byte]! ^= 1;
    });
    expect(faults).toMatchObject([{ offset: at(1), length: BLOCK_BYTES, found }]);
  });

  test('half a block of one write, half of another', () => {
    const { faults } = judge('i0 a1 | i0 a2 |', [1, 0, 0, 0], bytes => {
      const other = Buffer.alloc(BLOCK_BYTES);
      writeStamp(other, { sequence: 2, block: 0 });
      other.copy(bytes, 2048, 2048);
    });
    expect(faults).toMatchObject([{ offset: at(0), found: 'a damaged block' }]);
  });

  test('a whole block in the wrong place', () => {
    const { faults } = judge(story, whole, bytes => {
      bytes.copy(bytes, 2 * BLOCK_BYTES, 0, BLOCK_BYTES);
    });
    expect(faults).toMatchObject([{ offset: at(2), found: 'write 1 to block 0' }]);
  });

  test('a write that nobody issued', () => {
    const { faults } = judge(story, whole, bytes => {
      writeStamp(bytes.subarray(2 * BLOCK_BYTES, 3 * BLOCK_BYTES), { sequence: 9, block: 2 });
    });
    expect(faults).toMatchObject([{ offset: at(2), found: 'unknown write 9' }]);
  });

  test('one byte in a block that was never written', () => {
    const { faults } = judge(story, whole, bytes => {
      bytes[3 * BLOCK_BYTES + 77] = 1;
    });
    expect(faults).toMatchObject([{ offset: at(3), found: 'a damaged block' }]);
  });

  test('a region that was not read to its end is not judged', () => {
    const { history, instant } = play(story);
    const check = new ConsistencyCheck(history, instant, { offset: 0, length: BLOCKS * BLOCK_BYTES });
    check.take(0, region(history, whole).subarray(0, 2 * BLOCK_BYTES));
    expect(() => check.judge()).toThrow('only 2 of 4 blocks');
  });
});

test('a stamp is read as it was written, and each write looks different everywhere', () => {
  const [first, second] = [Buffer.alloc(BLOCK_BYTES), Buffer.alloc(BLOCK_BYTES)];
  writeStamp(first, { sequence: 7, block: 3 });
  writeStamp(second, { sequence: 8, block: 3 });
  expect(readStamp(first)).toEqual({ sequence: 7, block: 3 });
  for (let word = 20; word < BLOCK_BYTES; word += 4) {
    expect(first.readUInt32LE(word)).not.toBe(second.readUInt32LE(word));
  }
});

test('a full history says so', () => {
  const history = WriteHistory.create(1);
  history.issue(0);
  expect(() => history.issue(1)).toThrow('history is full after 1 writes');
});
