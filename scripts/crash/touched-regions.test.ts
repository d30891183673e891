// Goal: what a crash may have marked as changed is told from what it may not. Method: guests that touch regions at
// known times, and crashes after.
import { expect, test } from 'vitest';
import { BLOCK_BYTES, DISK_REGIONS, LOG_KEEPS_MS, REGION_BYTES } from './limits.ts';
import { TouchedRegions } from './touched-regions.ts';

const blockIn = (region: number) => (region * REGION_BYTES) / BLOCK_BYTES + 5;

test('without a crash since then nothing has grown', () => {
  const regions = new TouchedRegions();
  regions.touch(blockIn(1), 0);
  expect(regions.grownSince(0)).toBeUndefined();
  regions.crashed(10, 1);
  expect(regions.grownSince(10)).toBeUndefined();
  expect(regions.grownSince(9)).toEqual(new Set([1]));
});

test('a region that was left long before is not in the log', () => {
  const regions = new TouchedRegions();
  regions.touch(blockIn(0), 0);
  regions.touch(blockIn(2), LOG_KEEPS_MS);
  regions.crashed(10, LOG_KEEPS_MS + 1);
  expect(regions.grownSince(0)).toEqual(new Set([2]));
});

test('regions ahead of somebody who goes from one to the next are', () => {
  const regions = new TouchedRegions();
  regions.touch(blockIn(0), 0);
  regions.touch(blockIn(1), 1);
  regions.crashed(10, 2);
  expect(regions.grownSince(0)).toEqual(new Set(Array.from({ length: DISK_REGIONS }, (_, index) => index)));
});

test('each of several crashes counts for what came before it', () => {
  const regions = new TouchedRegions();
  regions.touch(blockIn(0), 0);
  regions.crashed(10, 1);
  regions.touch(blockIn(3), 2 * LOG_KEEPS_MS);
  regions.crashed(20, 2 * LOG_KEEPS_MS + 1);
  expect(regions.grownSince(15)).toEqual(new Set([3]));
  expect(regions.grownSince(5)).toEqual(new Set([0, 3]));
});
