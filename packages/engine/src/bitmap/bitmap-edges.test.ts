// Goal: searches and truncation are right at the edges of words and levels, where bugs of such structures
// live (scenarios HB-01, HB-03, HB-04, HB-05, HB-07). Method: positions drawn near the edges of 32- and
// 64-bit words and of the levels over them, every answer compared with a search in a plain array.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TiB } from '../units.ts';
import { Bitmap } from './bitmap.ts';

const GRANULE = 512;
const EDGES = [0, 32, 64, 32 ** 2, 64 ** 2, 32 ** 3, 64 ** 3];
const GRANULES_MAX = 64 ** 3 + 64 ** 2 + 77;

/** A granule at most a few away from an edge, or from the sum of two. */
const nearEdge = fc
  .tuple(fc.constantFrom(...EDGES), fc.constantFrom(...EDGES), fc.integer({ min: -2, max: 6 }))
  .map(([a, b, delta]) => Math.min(Math.max(a + b + delta, 0), GRANULES_MAX - 1));

const run = fc.record({ first: nearEdge, count: fc.oneof(fc.integer({ min: 1, max: 70 }), nearEdge) });

class Model {
  bits = new Uint8Array(GRANULES_MAX);

  set(first: number, count: number, value: number): void {
    this.bits.fill(value, first, first + count);
  }

  next(value: number, first: number, end: number): number {
    const found = this.bits.indexOf(value, first);
    return found >= 0 && found < Math.min(end, this.bits.length) ? found : -1;
  }

  count(): number {
    return this.bits.reduce((sum, bit) => sum + bit, 0);
  }

  truncate(granules: number): void {
    const next = new Uint8Array(granules);
    next.set(this.bits.subarray(0, granules));
    this.bits = next;
  }
}

const bytes = (granule: number) => (granule < 0 ? -1 : granule * GRANULE);

function expectSameAnswers(bitmap: Bitmap, model: Model, first: number, count: number): void {
  const end = first + count;
  expect(bitmap.nextDirty(first * GRANULE, end * GRANULE)).toBe(bytes(model.next(1, first, end)));
  expect(bitmap.nextZero(first * GRANULE, end * GRANULE)).toBe(bytes(model.next(0, first, end)));
  const start = model.next(1, first, end);
  for (const max of [1, 64, count]) {
    const area = bitmap.nextDirtyArea(first * GRANULE, end * GRANULE, max * GRANULE);
    if (start < 0) {
      expect(area).toBeUndefined();
      continue;
    }
    const limit = Math.min(end, model.bits.length, start + max);
    const stop = model.next(0, start, limit);
    expect(area).toEqual({
      offset: start * GRANULE,
      length: ((stop < 0 ? limit : stop) - start) * GRANULE,
    });
  }
}

describe('Bitmap at the edges of its levels', () => {
  it('finds what a plain search finds, in windows that end before, on and after a run', () => {
    fc.assert(
      fc.property(
        fc.array(run, { minLength: 1, maxLength: 6 }),
        fc.array(run, { maxLength: 3 }),
        fc.array(fc.tuple(nearEdge, fc.oneof(fc.integer({ min: 0, max: 70 }), nearEdge)), { maxLength: 12 }),
        (dirty, clean, windows) => {
          const bitmap = new Bitmap(GRANULES_MAX * GRANULE, GRANULE);
          const model = new Model();
          for (const { first, count } of dirty) {
            bitmap.set(first * GRANULE, count * GRANULE);
            model.set(first, count, 1);
          }
          for (const { first, count } of clean) {
            bitmap.reset(first * GRANULE, count * GRANULE);
            model.set(first, count, 0);
          }
          expect(bitmap.dirtyGranules).toBe(model.count());
          for (const [first, count] of windows) expectSameAnswers(bitmap, model, first, count);
          for (const { first, count } of dirty) {
            for (const end of [first + count - 1, first + count, first + count + 1]) {
              expectSameAnswers(bitmap, model, first, end - first);
            }
          }
        },
      ),
      { seed: 20261121, numRuns: 60 },
    );
  });

  it('keeps what is inside, drops what is outside, and comes back clean, when it shrinks and grows', () => {
    fc.assert(
      fc.property(fc.array(run, { maxLength: 4 }), nearEdge, nearEdge, (dirty, small, large) => {
        const bitmap = new Bitmap(GRANULES_MAX * GRANULE, GRANULE);
        const model = new Model();
        for (const granule of [0, small - 1, small, small + 1, GRANULES_MAX - 1]) {
          if (granule < 0 || granule >= GRANULES_MAX) continue;
          bitmap.set(granule * GRANULE, 1);
          model.set(granule, 1, 1);
        }
        for (const granules of [small, small + large, GRANULES_MAX]) {
          bitmap.truncate(granules * GRANULE);
          model.truncate(granules);
          expect(bitmap.dirtyGranules).toBe(model.count());
          expectSameAnswers(bitmap, model, Math.max(small - 2, 0), 5);
          for (const { first, count } of dirty) expectSameAnswers(bitmap, model, first, count);
        }
      }),
      { seed: 20261122, numRuns: 60 },
    );
  });

  it.each([
    ['negligible', 10 * GRANULE - 100, 10 * GRANULE - 10],
    ['by one granule', 63 * GRANULE, 64 * GRANULE],
    ['within a word, over a granule', 5 * GRANULE + 1, 9 * GRANULE],
    ['over the border of a word', 63 * GRANULE, 65 * GRANULE],
    ['by eight words', 64 * GRANULE, 64 * 9 * GRANULE],
  ])('a truncation %s keeps the bit of the last granule that stays', (_kind, small, large) => {
    const bitmap = new Bitmap(large, GRANULE);
    bitmap.setAll();
    bitmap.truncate(small);
    expect(bitmap.dirtyGranules).toBe(Math.ceil(small / GRANULE));
    bitmap.truncate(large);
    expect(bitmap.dirtyGranules).toBe(Math.ceil(small / GRANULE));
    expect(bitmap.get(small - 1)).toBe(true);
    expect(bitmap.nextDirty(Math.ceil(small / GRANULE) * GRANULE)).toBe(-1);
  });

  it('iterates on while what it stands on, and what is ahead, is reset', () => {
    const bitmap = new Bitmap(GRANULES_MAX * GRANULE, GRANULE);
    for (const edge of EDGES) bitmap.set(edge * GRANULE, GRANULE);
    const seen: number[] = [];
    for (const area of bitmap.dirtyAreas()) {
      seen.push(area.offset / GRANULE);
      bitmap.reset(area.offset, area.length);
      bitmap.reset(64 ** 2 * GRANULE, GRANULE);
    }
    expect(seen).toEqual(EDGES.filter(edge => edge !== 64 ** 2));
    expect(bitmap.dirtyGranules).toBe(0);
  });
});

describe('Bitmap of more granules than 32 bits count', () => {
  it('keeps its far bits apart from its near ones', () => {
    const granules = 2 ** 32 + 64;
    // Half a gigabyte of which nothing but the touched pages is ever there.
    const bitmap = new Bitmap(granules * 512, 512);
    const far = (2 ** 32 + 5) * 512;
    bitmap.set(far, 1);
    expect([bitmap.get(far), bitmap.get(5 * 512)]).toEqual([true, false]);
    expect(bitmap.nextDirtyArea(0)).toEqual({ offset: far, length: 512 });
    bitmap.reset(far, 512);
    expect([bitmap.get(far), bitmap.dirtyGranules]).toEqual([false, 0]);
  });
});

describe('Bitmap merges', () => {
  const size = 70_000 * GRANULE;
  const runs = fc.array(
    fc.record({ first: fc.nat({ max: 69_999 }), count: fc.integer({ min: 1, max: 900 }) }),
    { maxLength: 30 },
  );
  const filled = (granularity: number, dirty: readonly { first: number; count: number }[]): Bitmap => {
    const bitmap = new Bitmap(size, granularity);
    for (const { first, count } of dirty) {
      bitmap.set(first * GRANULE, Math.min(count * GRANULE, size - first * GRANULE));
    }
    return bitmap;
  };

  it.each([
    [512, 512],
    [512, 64 * 1024],
    [64 * 1024, 512],
    [4096, 8192],
  ])('of granularity %i take up all of %i, and no granule that neither touched', (target, source) => {
    fc.assert(
      fc.property(runs, runs, (a, b) => {
        const into = filled(target, a);
        const from = filled(source, b);
        const expected = new Bitmap(size, target);
        for (const bits of [into, from]) {
          for (const area of bits.dirtyAreas()) expected.set(area.offset, area.length);
        }
        const before = from.sha256();
        into.merge(from);
        expect(into.equals(expected)).toBe(true);
        expect(into.dirtyGranules).toBe(expected.dirtyGranules);
        expect(into.nextDirty(0)).toBe(expected.nextDirty(0));
        expect(from.sha256()).toBe(before);
        into.merge(from);
        into.merge(into);
        expect(into.equals(expected)).toBe(true);
      }),
      { seed: 20261123, numRuns: 40 },
    );
  });

  it('make one of a hundred bitmaps of a 1 TiB disk, and the order does not matter', () => {
    const all = Array.from({ length: 100 }, (_, k) => {
      const bitmap = new Bitmap(1 * TiB, 64 * 1024);
      for (let i = 0; i < 200; i++) bitmap.set(((i * 104_729 + k * 7919) % 2 ** 24) * 64 * 1024, 1);
      return bitmap;
    });
    const [forward, backward] = [new Bitmap(1 * TiB, 64 * 1024), new Bitmap(1 * TiB, 64 * 1024)];
    for (const bitmap of all) forward.merge(bitmap);
    for (const bitmap of all.reverse()) backward.merge(bitmap);
    expect(forward.equals(backward)).toBe(true);
    const places = all.flatMap(bitmap => [...bitmap.dirtyAreas()].map(area => area.offset));
    expect(forward.dirtyGranules).toBe(new Set(places).size);
  });
});
