// Goal: sizes mean the same to people and to the API, in both directions.
import { expect, test } from 'vitest';
import { formatSize, parseSize } from './sizes.ts';

test.each([
  ['0', 0],
  ['4096', 4096],
  ['4096B', 4096],
  ['1KiB', 1024],
  ['512MiB', 536_870_912],
  ['1GiB', 1_073_741_824],
  ['1.5 gib', 1_610_612_736],
  ['2TiB', 2_199_023_255_552],
])('%s is %d bytes', (text, bytes) => {
  expect(parseSize(text)).toBe(bytes);
});

test.each(['', 'big', '1GB', '-1', '1e9', '0.3', '9PiB', 'GiB', '1 GiB 2'])('%j is refused', text => {
  expect(() => parseSize(text)).toThrow(/Give whole bytes, or a number with KiB/);
});

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1024, '1 KiB'],
  [1_610_612_736, '1.5 GiB'],
  [1_073_741_824, '1 GiB'],
  [1_100_000, '1.0 MiB'],
])('%d is shown as %s', (bytes, text) => {
  expect(formatSize(bytes)).toBe(text);
});
