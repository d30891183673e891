// Goal: the bitmap equals a set of granules under any history. Method: seeded random operations against a
// plain array, and the edges of words and levels by hand (scenarios HB-01 to HB-07).
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GiB, KiB, MiB, TiB } from '../units.ts';
import { Bitmap } from './bitmap.ts';

const GRANULE = 512;
const at = (granule: number) => granule * GRANULE;

function granulesOf(bitmap: Bitmap): number[] {
  const found: number[] = [];
  for (const area of bitmap.dirtyAreas()) {
    for (let o = area.offset; o < area.offset + area.length; o += bitmap.granularityBytes) {
      found.push(Math.floor(o / bitmap.granularityBytes));
    }
  }
  return found;
}

describe('Bitmap', () => {
  it('counts each touched granule once and whole', () => {
    const bitmap = new Bitmap(64 * MiB, 64 * KiB);
    bitmap.set(0, 512);
    bitmap.set(16 * MiB, 256 * KiB);
    bitmap.set(32736 * KiB, 64 * KiB);
    expect(bitmap.dirtyBytes).toBe(458752);
    bitmap.set(0, 64 * KiB);
    expect(bitmap.dirtyGranules).toBe(7);
  });

  it('keeps the bit of a granule that is only partly reset, and resets a last one that sticks out', () => {
    const bitmap = new Bitmap(at(10) + 1, GRANULE);
    bitmap.setAll();
    bitmap.reset(1, at(3));
    expect(granulesOf(bitmap)).toEqual([0, 3, 4, 5, 6, 7, 8, 9, 10]);
    bitmap.reset(at(9), GRANULE + 1);
    expect(bitmap.get(at(10))).toBe(false);
  });

  it('finds runs across the borders of words and levels', () => {
    const edges = [0, 31, 32, 33, 1023, 1024, 1025, 32767, 32768, 40000];
    const bitmap = new Bitmap(at(50_000), GRANULE);
    for (const granule of edges) bitmap.set(at(granule), 1);
    let offset = 0;
    for (const granule of edges) {
      expect(bitmap.nextDirty(offset)).toBe(at(granule));
      expect(bitmap.nextDirty(offset, at(granule))).toBe(-1);
      offset = at(granule + 1);
    }
    expect(bitmap.nextDirty(offset)).toBe(-1);
    expect(bitmap.nextDirtyArea(at(31), at(50_000), at(2))).toEqual({ offset: at(31), length: at(2) });
    expect(bitmap.nextDirtyArea(0, 0)).toBeUndefined();
  });

  it('follows a model through random sets, resets, truncations and queries', () => {
    const step = fc.record({
      verb: fc.constantFrom('set', 'reset', 'truncate'),
      first: fc.integer({ min: 0, max: 5000 }),
      count: fc.integer({ min: 1, max: 3000 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), steps => {
        const bitmap = new Bitmap(at(5000), GRANULE);
        let model = new Uint8Array(5000);
        for (const { verb, first, count } of steps) {
          if (verb === 'truncate') {
            const next = new Uint8Array(first);
            next.set(model.subarray(0, first));
            model = next;
            bitmap.truncate(at(first));
          } else {
            const end = Math.min(first + count, model.length);
            if (end <= first) continue;
            model.fill(verb === 'set' ? 1 : 0, first, end);
            if (verb === 'set') bitmap.set(at(first), at(end - first));
            else bitmap.reset(at(first), at(end - first));
          }
          expect(bitmap.dirtyGranules).toBe(model.reduce((sum, bit) => sum + bit, 0));
          const zero = model.indexOf(0, first);
          expect(bitmap.nextZero(at(first))).toBe(zero < 0 ? -1 : at(zero));
          const dirty = model.indexOf(1, first);
          expect(bitmap.nextDirty(at(first))).toBe(dirty < 0 ? -1 : at(dirty));
        }
        expect(granulesOf(bitmap)).toEqual([...model.keys()].filter(i => model[i] === 1));
      }),
      { seed: 20261121, numRuns: 150 },
    );
  });

  it('survives the reset of what an iteration stands on', () => {
    const bitmap = new Bitmap(at(3000), GRANULE);
    bitmap.set(at(10), at(5));
    bitmap.set(at(2000), at(5));
    const seen: number[] = [];
    for (const area of bitmap.dirtyAreas()) {
      seen.push(area.offset);
      bitmap.clear();
    }
    expect(seen).toEqual([at(10)]);
  });

  it('merges, over-approximating between granularities and never dropping a byte', () => {
    const fine = new Bitmap(1 * MiB, 512);
    const coarse = new Bitmap(1 * MiB, 64 * KiB);
    fine.set(65 * KiB, 1);
    coarse.merge(fine);
    expect(coarse.dirtyBytes).toBe(64 * KiB);
    expect(coarse.get(64 * KiB)).toBe(true);
    fine.merge(coarse);
    expect(fine.dirtyBytes).toBe(64 * KiB);
    expect(() => coarse.merge(new Bitmap(2 * MiB, 64 * KiB))).toThrow(/different sizes/);
  });

  it('comes back from bytes, and refuses bytes of another size', () => {
    const bitmap = new Bitmap(10 * MiB + 1, 64 * KiB);
    bitmap.set(0, 1);
    bitmap.set(10 * MiB, 1);
    const copy = new Bitmap(10 * MiB + 1, 64 * KiB);
    copy.deserialize(bitmap.serialize());
    expect(copy.equals(bitmap)).toBe(true);
    expect(bitmap.serialize()[0]).toBe(1);
    expect(() => copy.deserialize(Buffer.alloc(4))).toThrow(/4 bytes instead of 24/);
    expect(copy.clone().equals(bitmap)).toBe(true);
  });

  it('holds 1 TiB at 64 KiB in 2 MiB and its summary', () => {
    const bitmap = new Bitmap(1 * TiB, 64 * KiB);
    expect(bitmap.memoryBytes).toBeLessThan(2 * MiB * (1 + 1 / 31) + 64);
    bitmap.set(1 * TiB - 1, 1);
    expect(bitmap.nextDirty(0)).toBe(1 * TiB - 64 * KiB);
    bitmap.set(3 * GiB, 200 * GiB);
    expect(bitmap.nextDirtyArea(0)).toEqual({ offset: 3 * GiB, length: 200 * GiB });
  });
});
