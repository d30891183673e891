// Goal: tables are aligned, and what is not known is a dash.
import { expect, test } from 'vitest';
import { moment, record, recordOrGone, seconds, size, table } from './output.ts';

interface Disk {
  name: string;
  bytes: number | null;
}

const columns = [
  ['NAME', (disk: Disk) => disk.name],
  ['SIZE', (disk: Disk) => size(disk.bytes)],
] as const;

test('columns are as wide as their widest value', () => {
  const disks = [
    { name: 'a', bytes: 512 },
    { name: 'much-longer', bytes: null },
  ];
  expect(table(disks, columns)).toBe('NAME         SIZE\na            512 B\nmuch-longer  -');
});

test('one thing is shown line by line, or said to be gone', () => {
  expect(record({ name: 'a', bytes: 1024 }, columns)).toBe('NAME  a\nSIZE  1 KiB');
  expect(recordOrGone(null, columns)).toBe('It is gone again.');
});

test('moments and durations are short', () => {
  expect(moment('2026-11-21T08:00:00.123Z')).toBe('2026-11-21 08:00:00Z');
  expect(seconds(2540)).toBe('2.5 s');
  expect([moment(null), seconds(null), size(null)]).toEqual([null, null, null]);
});
