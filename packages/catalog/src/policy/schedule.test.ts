// Goal: due moments are what operators expect of cron, also where clocks are set. Method: fixed cases on the days of
// the change, and a look at every minute of months with a calendar of other people's.
import { createRequire } from 'node:module';
import { expect, test } from 'vitest';
import { parseCron } from './cron.ts';
import { Schedule } from './schedule.ts';

interface LuxonTime {
  readonly hour: number;
  readonly minute: number;
  readonly day: number;
  readonly month: number;
  readonly weekday: number;
}
const { DateTime } = createRequire(import.meta.url)('luxon') as {
  DateTime: { fromMillis(ms: number, options: { zone: string }): LuxonTime };
};

const MINUTE_MS = 60_000;
const berlin = (cron: string) => new Schedule({ cron, timeZone: 'Europe/Berlin' });
const due = (schedule: Schedule, from: string, to: string) =>
  [...schedule.between(new Date(from), new Date(to))].map(moment => moment.toISOString().slice(5, 16));

test('a time that clocks leave out is due at the next moment that exists, once', () => {
  // On 2026-03-29 two o'clock is followed by three o'clock: at 01:00 UTC.
  expect(due(berlin('30 2 * * *'), '2026-03-28T00:00Z', '2026-03-30T23:00Z')).toEqual([
    '03-28T01:30',
    '03-29T01:00',
    '03-30T00:30',
  ]);
  expect(due(berlin('0,15,30,45 2 * * *'), '2026-03-29T00:00Z', '2026-03-29T23:00Z')).toEqual([
    '03-29T01:00',
  ]);
  expect(due(berlin('0 2,3 * * *'), '2026-03-29T00:00Z', '2026-03-29T23:00Z')).toEqual(['03-29T01:00']);
});

test('a time that clocks show twice is due once for a rule of hours, and each hour for one of every hour', () => {
  // On 2026-10-25 three o'clock is followed by two o'clock: at 01:00 UTC.
  expect(due(berlin('30 2 * * *'), '2026-10-24T12:00Z', '2026-10-26T12:00Z')).toEqual([
    '10-25T00:30',
    '10-26T01:30',
  ]);
  expect(due(berlin('30 * * * *'), '2026-10-24T23:00Z', '2026-10-25T03:00Z')).toEqual([
    '10-24T23:30',
    '10-25T00:30',
    '10-25T01:30',
    '10-25T02:30',
  ]);
  expect(due(berlin('30 * * * *'), '2026-03-29T00:00Z', '2026-03-29T03:00Z')).toEqual([
    '03-29T00:30',
    '03-29T01:30',
    '03-29T02:30',
  ]);
});

test('every hour is due once in each hour of a year', () => {
  for (const timeZone of ['Europe/Berlin', 'America/New_York', 'Asia/Kolkata', 'UTC']) {
    const schedule = new Schedule({ cron: '@hourly', timeZone });
    const all = [...schedule.between(new Date('2025-12-31T23:59Z'), new Date('2026-12-31T23:59Z'))];
    expect(all).toHaveLength(365 * 24);
  }
});

test('a day that clocks leave out altogether is made up for on the next one', () => {
  const schedule = new Schedule({ cron: '0 12 * * *', timeZone: 'Pacific/Apia' });
  expect(due(schedule, '2011-12-28T23:00Z', '2011-12-31T12:00Z')).toEqual([
    '12-29T22:00',
    '12-30T10:00',
    '12-30T22:00',
  ]);
});

test('days of the month, of the week, and the last one', () => {
  const days = (cron: string, from = '2026-02-01T00:00Z', to = '2026-03-01T00:00Z') =>
    due(new Schedule({ cron, timeZone: 'UTC' }), from, to).map(text => text.slice(0, 5));
  expect(days('0 1 L * *')).toEqual(['02-28']);
  expect(days('0 1 31 * *', '2026-01-01T00:00Z', '2026-06-01T00:00Z')).toEqual(['01-31', '03-31', '05-31']);
  expect(days('0 1 * * mon')).toEqual(['02-02', '02-09', '02-16', '02-23']);
  // Either is enough, as everywhere.
  expect(days('0 1 13 * 7')).toEqual(['02-01', '02-08', '02-13', '02-15', '02-22']);
  expect(days('@monthly', '2026-01-15T00:00Z', '2026-04-15T00:00Z')).toEqual(['02-01', '03-01', '04-01']);
  expect(days('0 1 29 feb *', '2026-01-01T00:00Z', '2030-01-01T00:00Z')).toEqual(['02-29']);
});

test('what is no rule says so', () => {
  for (const cron of [
    '',
    '* * *',
    '61 * * * *',
    'a b c d e',
    '0 0 * * * *',
    '0 0 * * 1#2',
    '0 0 * * 5L',
    'H 0 * * *',
  ]) {
    expect(() => parseCron(cron), cron).toThrow(RangeError);
  }
  expect(() => new Schedule({ cron: '@daily', timeZone: 'Mars/Olympus' })).toThrow(RangeError);
  expect(() => new Schedule({ cron: '0 0 30 2 *', timeZone: 'UTC' })).toThrow(RangeError);
});

/** Minute by minute: what clocks show, and whether they have shown it before. */
function naively(
  { minute, hours, zone }: { minute: number; hours: number[]; zone: string },
  from: number,
  to: number,
) {
  const found: number[] = [];
  const seen = new Set<string>();
  let left: number[] = [];
  let before = DateTime.fromMillis(from, { zone });
  for (let ms = from + MINUTE_MS; ms <= to; ms += MINUTE_MS) {
    const now = DateTime.fromMillis(ms, { zone });
    const day = `${now.month}-${now.day}`;
    // A jump of the clock: what was left out is due now.
    const jumped =
      now.day === before.day && now.hour * 60 + now.minute > before.hour * 60 + before.minute + 1;
    left = jumped
      ? hours.filter(hour => {
          const time = hour * 60 + minute;
          return time > before.hour * 60 + before.minute && time < now.hour * 60 + now.minute;
        })
      : [];
    const isTime = hours.includes(now.hour) && now.minute === minute;
    const key = `${day} ${now.hour}:${now.minute}`;
    if (left.length > 0 || (isTime && !seen.has(key))) found.push(ms);
    if (isTime) seen.add(key);
    before = now;
  }
  return found.map(ms => new Date(ms).toISOString());
}

test.each([
  ['Europe/Berlin', '2026-03-27T00:00Z', '2026-03-31T00:00Z'],
  ['Europe/Berlin', '2026-10-23T00:00Z', '2026-10-27T00:00Z'],
  ['America/New_York', '2026-03-06T00:00Z', '2026-03-10T00:00Z'],
  ['America/New_York', '2026-10-30T00:00Z', '2026-11-03T00:00Z'],
  ['Australia/Lord_Howe', '2026-10-02T00:00Z', '2026-10-06T00:00Z'],
  ['Australia/Lord_Howe', '2026-04-03T00:00Z', '2026-04-07T00:00Z'],
])('%s from %s on is as a look at every minute has it', (zone, from, to) => {
  for (const [minute, hours] of [
    [30, [2]],
    [15, [1, 2, 3]],
    [0, [0, 2, 23]],
    [45, [1]],
  ] as const) {
    const schedule = new Schedule({ cron: `${minute} ${hours.join(',')} * * *`, timeZone: zone });
    const found = [...schedule.between(new Date(from), new Date(to))].map(moment => moment.toISOString());
    const wanted = naively({ minute, hours: [...hours], zone }, Date.parse(from), Date.parse(to));
    expect(found, `${minute} ${hours}`).toEqual(wanted);
  }
});
