// Goal: of a log that a crash or a bad disk left, either the regions that were promised come back or nothing does.
// Method: slots cut off at every sector, damaged at every sector, and logs of others.
import { GiB, MiB, SECTOR_BYTES } from '@tidemark/engine';
import { expect, test } from 'vitest';
import { regionNumbers } from './intent-file.ts';
import {
  decodeLog,
  encodeEmptyLog,
  encodeSlot,
  type IntentScope,
  regionsOf,
  slotOffset,
} from './intent-slots.ts';
import { intentRegionBytes } from './intent-tracking.ts';

const small: IntentScope = { volumeId: 'a', sizeBytes: GiB, regionBytes: 16 * MiB };
/** Three sectors a slot. */
const large: IntentScope = { volumeId: 'a', sizeBytes: 128 * GiB, regionBytes: 16 * MiB };

function withRegions(scope: IntentScope, regions: readonly number[]): Uint8Array {
  const bits = new Uint8Array(Math.ceil(regionsOf(scope) / 8));
  for (const region of regions) bits[region >> 3]! |= 1 << (region & 7);
  return bits;
}

function put(
  log: Buffer,
  scope: IntentScope,
  sequence: number,
  regions: readonly number[],
  sectors?: number[],
) {
  const slot = encodeSlot(scope, { sequence, regions: withRegions(scope, regions) });
  for (let index = 0; index < slot.length / SECTOR_BYTES; index++) {
    if (sectors?.includes(index) === false) continue;
    const from = index * SECTOR_BYTES;
    slot.copy(log, slotOffset(scope, sequence) + from, from, from + SECTOR_BYTES);
  }
}

function found(log: Buffer, scope: IntentScope): number[] | undefined {
  const read = decodeLog(log, scope);
  return read && [...regionNumbers(read.slot.regions)];
}

test.each([small, large])(
  'the newer slot counts, and the region size is the log’s own ($sizeBytes bytes)',
  scope => {
    const log = encodeEmptyLog(scope);
    expect(found(log, scope)).toEqual([]);
    const far = regionsOf(scope) - 1;
    put(log, scope, 2, [0, 7, far]);
    expect(found(log, scope)).toEqual([0, 7, far]);
    put(log, scope, 3, [8]);
    expect(found(log, scope)).toEqual([8]);
    expect(decodeLog(log, scope)?.scope.regionBytes).toBe(16 * MiB);
  },
);

test('of a slot that was cut off the other one counts, whichever sectors had come', () => {
  for (let cut = 1; cut < 7; cut++) {
    const log = encodeEmptyLog(large);
    put(log, large, 2, [1, 5000]);
    put(log, large, 3, [1, 5000, 8000]);
    const sectors = [0, 1, 2].filter(index => (cut >> index) & 1);
    put(log, large, 4, [2, 6000], sectors);
    expect(found(log, large)).toEqual([1, 5000, 8000]);
  }
});

test('a damaged sector of either slot makes the whole log worthless', () => {
  const log = encodeEmptyLog(large);
  put(log, large, 2, [1]);
  for (const sequence of [2, 1]) {
    for (let sector = 0; sector < 3; sector++) {
      for (const byte of [0, 5, 9, 20, 33, 48, 50, 70, 511]) {
        const damaged = Buffer.from(log);
        damaged[slotOffset(large, sequence) + sector * SECTOR_BYTES + byte]! ^= 0x40;
        expect(found(damaged, large), `slot ${sequence}, sector ${sector}, byte ${byte}`).toBeUndefined();
      }
    }
  }
});

test('another volume’s, another size’s, a short or an older log is none', () => {
  const log = encodeEmptyLog(small);
  expect(found(log, { ...small, volumeId: 'b' })).toBeUndefined();
  expect(found(log, { ...small, sizeBytes: 2 * GiB })).toBeUndefined();
  expect(found(log.subarray(0, -1), small)).toBeUndefined();
  expect(found(Buffer.alloc(0), small)).toBeUndefined();
  put(log, small, 5, [1]);
  expect(found(log, small), 'slots whose numbers do not follow each other').toBeUndefined();
});

test('regions are 16 MiB or what keeps their number bounded', () => {
  expect(intentRegionBytes(10 * GiB)).toBe(16 * MiB);
  expect(intentRegionBytes(1024 * GiB)).toBe(128 * MiB);
  expect((1024 * 1024 * GiB) / intentRegionBytes(1024 * 1024 * GiB)).toBeLessThanOrEqual(8192);
});
