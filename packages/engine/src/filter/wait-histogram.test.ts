// Goal: waits are counted where they belong, and percentiles follow the newest.
import { expect, test } from 'vitest';
import { WaitHistogram } from './wait-histogram.ts';

test('each wait is in the first bucket that is not below it', () => {
  const waits = new WaitHistogram();
  for (const seconds of [0, 0.000_1, 0.000_2, 1, 1.1, 11]) waits.note(seconds);
  const at = (bound: number) => waits.counts[waits.bounds.indexOf(bound)];
  expect([at(0.000_1), at(0.000_25), at(1), at(2.5), waits.counts.at(-1)]).toEqual([2, 1, 1, 1, 1]);
  expect(waits.counts.reduce((sum, count) => sum + count)).toBe(6);
  expect(waits.counts).toHaveLength(waits.bounds.length + 1);
  expect(waits.sum).toBeCloseTo(13.1003);
});

test('percentiles are those of the newest waits', () => {
  const waits = new WaitHistogram();
  expect(waits.percentile(0.5)).toBeUndefined();
  for (let n = 1; n <= 100; n++) waits.note(n);
  expect([waits.percentile(0.5), waits.percentile(0.99), waits.percentile(1)]).toEqual([51, 100, 100]);
  for (let n = 0; n < 2_048; n++) waits.note(0.5);
  expect(waits.percentile(1)).toBe(0.5);
});
