// Goal: tables are aligned, and what is not known is a dash.
import { expect, test } from 'vitest';
import { moment, momentIn, record, recordOrGone, seconds, size, table } from './output.ts';

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

test('moments in a time zone name how far they are from UTC, on both sides of a change of clocks', () => {
  expect(momentIn('Europe/Berlin')('2026-10-25T00:30:00.999Z')).toBe('2026-10-25 02:30:00+02:00');
  expect(momentIn('Europe/Berlin')('2026-10-25T01:30:00.000Z')).toBe('2026-10-25 02:30:00+01:00');
  expect(momentIn('America/St_Johns')('2027-01-01T00:00:00.000Z')).toBe('2026-12-31 20:30:00-03:30');
  expect(momentIn('Asia/Kolkata')('2026-12-31T18:30:00.000Z')).toBe('2027-01-01 00:00:00+05:30');
  expect(momentIn('Europe/Berlin')(null)).toBe(null);
});

test('moments in UTC, and in a time zone that is not known here, are as all others', () => {
  for (const zone of ['UTC', 'Etc/UTC', 'Mars/Olympus'])
    expect(momentIn(zone)('2026-11-21T08:00:00.123Z')).toBe('2026-11-21 08:00:00Z');
  expect(momentIn('Europe/London')('2026-12-01T08:00:00.000Z')).toBe('2026-12-01 08:00:00+00:00');
});
