// Goal: a bitmap can be stored and sent in parts, and two bitmaps compared by a digest that QEMU would give
// for the same bits (scenarios HB-06, BM-18). Method: round trips over drawn parts; digests that
// qemu-storage-daemon 7.2 gave.
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KiB, MiB } from '../units.ts';
import { Bitmap } from './bitmap.ts';

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

describe('parts of a bitmap', () => {
  it.each([512, 4 * KiB, 64 * KiB])('are aligned to 64 granules of %i bytes', granularity => {
    const bitmap = new Bitmap(1000 * granularity, granularity);
    expect(bitmap.partAlignmentBytes).toBe(64 * granularity);
    expect(() => bitmap.serializePart(granularity, 64 * granularity)).toThrow(/not whole parts/);
    expect(() => bitmap.serializePart(0, 63 * granularity)).toThrow(/not whole parts/);
    expect(() => bitmap.serializePart(0, 2000 * granularity)).toThrow(/not whole parts/);
    expect(bitmap.serializePart(960 * granularity, 40 * granularity).length).toBe(8);
  });

  it('put together are the whole, byte for byte, and leave the rest of a bitmap alone', () => {
    const part = 64;
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5000 }),
        fc.array(fc.nat({ max: 4999 }), { maxLength: 60 }),
        fc.integer({ min: 1, max: 80 }),
        (granules, dirty, step) => {
          const [source, copy] = [new Bitmap(granules * 512, 512), new Bitmap(granules * 512, 512)];
          for (const granule of dirty) if (granule < granules) source.set(granule * 512, 1);
          const whole = source.serialize();
          const pieces: Buffer[] = [];
          for (let first = 0; first < granules; first += step * part) {
            const length = Math.min(step * part, granules - first) * 512;
            const bytes = source.serializePart(first * 512, length);
            pieces.push(bytes);
            copy.deserializePart(first * 512, length, bytes);
            expect(copy.nextDirtyArea(first * 512, first * 512 + length)).toEqual(
              source.nextDirtyArea(first * 512, first * 512 + length),
            );
          }
          expect(Buffer.concat(pieces)).toEqual(whole);
          expect(copy.equals(source)).toBe(true);
          expect(copy.dirtyGranules).toBe(source.dirtyGranules);
          expect(copy.sha256()).toBe(sha256(whole));
        },
      ),
      { seed: 20261124, numRuns: 80 },
    );
  });

  it('of nothing but zeroes clear their range, and bits past the end are never taken over', () => {
    const bitmap = new Bitmap(100 * 512, 512);
    bitmap.setAll();
    bitmap.deserializePart(0, 64 * 512, Buffer.alloc(8));
    expect(bitmap.nextDirtyArea(0)).toEqual({ offset: 64 * 512, length: 36 * 512 });
    bitmap.deserialize(Buffer.alloc(16, 0xff));
    expect(bitmap.dirtyGranules).toBe(100);
    bitmap.truncate(128 * 512);
    expect(bitmap.dirtyGranules).toBe(100);
  });

  it('have their lowest bit in the first byte, on any machine', () => {
    const bitmap = new Bitmap(128 * 512, 512);
    bitmap.set(0, 1);
    bitmap.set(9 * 512, 1);
    bitmap.set(127 * 512, 1);
    expect(bitmap.serialize().toString('hex')).toBe('01020000000000000000000000000080');
  });
});

describe('the digest of a bitmap', () => {
  it('is the one that qemu-storage-daemon gives', () => {
    const clean = new Bitmap(64 * MiB, 64 * KiB);
    expect(clean.sha256()).toBe('38723a2e5e8a17aa7950dc008209944e898f69a7bd10a23c839d341e935fd5ca');
    for (const granularity of [64 * KiB, 512]) {
      const bitmap = new Bitmap(4_259_840, granularity);
      bitmap.set(64 * KiB, 512);
      bitmap.set(2_096_640, 64 * KiB);
      bitmap.set(4 * MiB, 1 * KiB);
      expect(bitmap.sha256()).toBe(
        granularity === 512
          ? '4dba7e6d5883589b598026a191cfabc03c3a770d7ba3a2b9bbcaed1688a68936'
          : 'c7948b6ff1d7d83a152cc611b0fa738dfeb419c0b75cf7d0a348284bfcd16aec',
      );
    }
    for (const size of [0, 512]) {
      const tiny = new Bitmap(size, 64 * KiB);
      expect(tiny.sha256()).toBe('af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc');
    }
  });

  it('of a large bitmap is taken in parts, with the same result', () => {
    const bitmap = new Bitmap(3_000_001 * 512, 512);
    for (let i = 0; i < 1000; i++) bitmap.set(i * 2999 * 512, 1);
    expect(bitmap.sha256()).toBe(sha256(bitmap.serialize()));
  });
});
