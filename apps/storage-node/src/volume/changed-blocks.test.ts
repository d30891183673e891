import { Bitmap } from '@tidemark/engine';
import { describe, expect, test } from 'vitest';
import { changedBytes, changedParts } from './changed-blocks.ts';

const KiB = 1024;
const GRANULE = 64 * KiB;
/** The last granule sticks out. */
const SIZE = 100 * GRANULE - 512;
const all = { offset: 0, length: 0 };

function bitsWith(...granules: number[]): Bitmap {
  const bits = new Bitmap(SIZE, GRANULE);
  for (const granule of granules) bits.set(granule * GRANULE, 1);
  return bits;
}

const parts = (bits: Bitmap, stretch = all, rangesMax = 8) => [...changedParts(bits, stretch, rangesMax)];

describe('changed parts', () => {
  test('are one empty part where nothing changed', () => {
    expect(parts(bitsWith())).toEqual([{ ranges: [], nextOffset: SIZE, granularityBytes: GRANULE }]);
  });

  test('hold runs, the last one cut at the end of the disk', () => {
    expect(parts(bitsWith(1, 2, 3, 7, 99))).toEqual([
      {
        ranges: [
          { offset: GRANULE, length: 3 * GRANULE },
          { offset: 7 * GRANULE, length: GRANULE },
          { offset: 99 * GRANULE, length: GRANULE - 512 },
        ],
        nextOffset: SIZE,
        granularityBytes: GRANULE,
      },
    ]);
  });

  test('have so many ranges and no more, and go on where the one before ended', () => {
    const bits = bitsWith(...Array.from({ length: 50 }, (_, index) => 2 * index));
    const found = parts(bits, all, 7);
    expect(found.map(part => part.ranges.length)).toEqual([7, 7, 7, 7, 7, 7, 7, 1]);
    for (const part of found.slice(0, -1)) {
      const last = part.ranges.at(-1)!;
      expect(part.nextOffset).toBe(last.offset + last.length);
    }
    const ranges = found.flatMap(part => part.ranges);
    expect(ranges.map(range => range.offset / GRANULE)).toEqual(
      Array.from({ length: 50 }, (_, index) => 2 * index),
    );
    const rest = parts(bits, { offset: found[2]!.nextOffset, length: 0 }, 100);
    expect(rest.flatMap(part => part.ranges)).toEqual(ranges.slice(21));
  });

  test('are cut to the stretch that was asked for', () => {
    const stretch = { offset: 2 * GRANULE + 1, length: 3 * GRANULE };
    expect(parts(bitsWith(1, 2, 5, 6), stretch)).toEqual([
      {
        ranges: [
          { offset: 2 * GRANULE + 1, length: GRANULE - 1 },
          { offset: 5 * GRANULE, length: 1 },
        ],
        nextOffset: 5 * GRANULE + 1,
        granularityBytes: GRANULE,
      },
    ]);
  });

  test('are refused past the end of the disk', () => {
    expect(() => parts(bitsWith(), { offset: SIZE + 1, length: 0 })).toThrow(/within the disk/);
    expect(() => parts(bitsWith(), { offset: 0, length: SIZE + 1 })).toThrow(/within the disk/);
    expect(parts(bitsWith(99), { offset: SIZE, length: 0 })[0]!.ranges).toEqual([]);
  });
});

test('changed bytes are whole granules, of a stretch those that it touches', () => {
  const bits = bitsWith(1, 2, 5, 99);
  expect(changedBytes(bits, all)).toBe(4 * GRANULE);
  expect(changedBytes(bits, { offset: 2 * GRANULE + 1, length: 3 * GRANULE })).toBe(2 * GRANULE);
  expect(changedBytes(bits, { offset: 98 * GRANULE, length: 0 })).toBe(GRANULE);
  expect(changedBytes(bits, { offset: 3 * GRANULE, length: GRANULE })).toBe(0);
});
