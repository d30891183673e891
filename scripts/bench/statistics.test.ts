// Goal: figures are summed up right. Method: small lists, odd and even, in any order.
import { expect, test } from 'vitest';
import { percentiles, summarize } from './statistics.ts';

test.each([
  [[3], { median: 3, lowest: 3, highest: 3 }],
  [[9, 1, 4], { median: 4, lowest: 1, highest: 9 }],
  [[10, 2, 4, 8], { median: 6, lowest: 2, highest: 10 }],
])('%j', (values, summary) => {
  expect(summarize(values)).toEqual(summary);
});

test('percentiles are values that were measured', () => {
  const hundred = Array.from({ length: 100 }, (_, n) => 100 - n);
  expect(percentiles(hundred)).toEqual({ p50: 50, p90: 90, p99: 99 });
  expect(percentiles([7])).toEqual({ p50: 7, p90: 7, p99: 7 });
});
