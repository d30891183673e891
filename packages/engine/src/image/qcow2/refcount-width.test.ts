// Goal: counts of every width are stored where the format says, and neighbours are left alone.
import { describe, expect, test } from 'vitest';
import { SeededRandom } from '../../testing/seeded-random.ts';
import { RefcountWidth } from './refcount-width.ts';

describe.each([0, 1, 2, 3, 4, 5, 6])('order %i', order => {
  const width = new RefcountWidth(order);
  const perBlock = width.perBlock(512);

  test('what was set is read back, whatever stands beside it', () => {
    const random = new SeededRandom(order + 1);
    const block = Buffer.alloc(512);
    const model = new Array<number>(perBlock).fill(0);
    for (let step = 0; step < 2000; step++) {
      const index = random.int(0, perBlock - 1);
      model[index] = random.int(0, Math.min(width.max, 2 ** 30));
      width.set(block, index, model[index]!);
    }
    expect(model.map((_, index) => width.get(block, index))).toEqual(model);
    expect(width.nextZero(block, 0, perBlock)).toBe(model.includes(0) ? model.indexOf(0) : perBlock);
  });

  test('the largest count fits', () => {
    const block = Buffer.alloc(512);
    width.set(block, 3, width.max);
    expect(width.get(block, 3)).toBe(width.max);
    expect([width.get(block, 2), width.get(block, 4)]).toEqual([0, 0]);
  });
});

test('below a byte, bit 0 is the least significant one', () => {
  const block = Buffer.alloc(512);
  new RefcountWidth(0).set(block, 9, 1);
  expect(block[1]).toBe(2);
  const wider = Buffer.alloc(512);
  new RefcountWidth(1).set(wider, 1, 3);
  expect(wider[0]).toBe(0b1100);
});
