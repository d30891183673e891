// Goal: retention keeps what operators of other tools expect: per rule the newest backup of each period that has
// one, for so many periods, by the calendar of their time zone. Method: a naive model that groups first and counts
// then, with arithmetic of its own for the calendar, over random histories, and fixed cases at the calendar's edges.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type KeepCandidate, type RetentionRules, reasonsToKeep } from './keep.ts';
import { Calendar, isTimeZone, PERIODS, type PeriodRule } from './period.ts';

const NONE: RetentionRules = { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
const NOW = new Date('2026-11-21T12:00:00Z');
const HOUR_MS = 3_600_000;

const at = (moment: string | number, more: Partial<KeepCandidate> = {}): KeepCandidate => ({
  id: String(moment),
  pointInTime: new Date(moment),
  createdAt: new Date(moment),
  pinnedUntil: null,
  holders: [],
  unsound: null,
  ...more,
});
const kept = (candidates: KeepCandidate[], rules: Partial<RetentionRules>, timeZone = 'UTC', now = NOW) =>
  [...reasonsToKeep(candidates, { rules: { ...NONE, ...rules }, now, timeZone })]
    .filter(([, reasons]) => reasons.length > 0)
    .map(([id, reasons]) => `${id}: ${reasons.join(', ')}`)
    .sort();

/** For a zone of a fixed distance from UTC: plain arithmetic, no calendar library. */
function naivePeriod(rule: PeriodRule, moment: Date, offsetMs: number): string {
  const local = new Date(moment.getTime() + offsetMs);
  const text = local.toISOString();
  if (rule === 'hourly') return text.slice(0, 13);
  if (rule === 'daily') return text.slice(0, 10);
  if (rule === 'monthly') return text.slice(0, 7);
  if (rule === 'yearly') return text.slice(0, 4);
  // Weeks are counted from a Monday long ago: no need to know their numbers.
  return String(Math.floor((local.getTime() - Date.UTC(1969, 11, 29)) / (7 * 24 * HOUR_MS)));
}

function naivelyKept(candidates: KeepCandidate[], rules: RetentionRules, offsetMs: number): Set<string> {
  const isNewer = (a: KeepCandidate, b: KeepCandidate) =>
    a.pointInTime > b.pointInTime || (a.pointInTime.getTime() === b.pointInTime.getTime() && a.id > b.id);
  const past = candidates.filter(({ pointInTime }) => pointInTime <= NOW);
  const result = new Set<string>();
  for (const candidate of candidates) {
    const newer = past.filter(other => isNewer(other, candidate));
    if (candidate.pointInTime > NOW || candidate.holders.length > 0) result.add(candidate.id);
    if (candidate.pinnedUntil !== null && candidate.pinnedUntil > NOW) result.add(candidate.id);
    if (candidate.pointInTime > NOW) continue;
    if (newer.length < rules.last) result.add(candidate.id);
    for (const rule of PERIODS) {
      const mine = naivePeriod(rule, candidate.pointInTime, offsetMs);
      const newerPeriods = new Set(newer.map(other => naivePeriod(rule, other.pointInTime, offsetMs)));
      if (!newerPeriods.has(mine) && newerPeriods.size < rules[rule]) result.add(candidate.id);
    }
  }
  return result;
}

const candidates = fc
  .array(
    fc.record({
      // Many fall on one moment or one period, and some on the future.
      hours: fc.oneof(fc.integer({ min: -2000, max: 40_000 }), fc.integer({ min: 0, max: 60 })),
      pinned: fc.constantFrom(null, NOW.getTime(), NOW.getTime() - 1, NOW.getTime() + 1),
      held: fc.integer({ min: 0, max: 9 }),
    }),
    { maxLength: 60 },
  )
  .map(list =>
    list.map(({ hours, pinned, held }, index) =>
      at(NOW.getTime() - (hours * HOUR_MS) / 4, {
        id: `b${(index * 7919) % 1009}`,
        pinnedUntil: pinned === null ? null : new Date(pinned),
        holders: held === 0 ? ['restore run r'] : [],
      }),
    ),
  );
const count = fc.integer({ min: 0, max: 5 });
const someRules = fc
  .record({ last: count, hourly: count, daily: count, weekly: count, monthly: count, yearly: count })
  .filter(rules => Object.values(rules).some(n => n > 0));
const zones = fc.constantFrom(
  { timeZone: 'UTC', offsetMs: 0 },
  { timeZone: 'Asia/Kolkata', offsetMs: 5.5 * HOUR_MS },
  { timeZone: 'Etc/GMT+12', offsetMs: -12 * HOUR_MS },
);

test('keeps what a naive model keeps', () => {
  fc.assert(
    fc.property(candidates, someRules, zones, (list, rules, { timeZone, offsetMs }) => {
      const reasons = reasonsToKeep(list, { rules, now: NOW, timeZone });
      expect([...reasons.keys()].sort()).toEqual(list.map(({ id }) => id).sort());
      const stays = [...reasons].filter(([, why]) => why.length > 0).map(([id]) => id);
      expect(new Set(stays)).toEqual(naivelyKept(list, rules, offsetMs));
    }),
    { numRuns: 300 },
  );
});

test('the newest backup always stays', () => {
  fc.assert(
    fc.property(candidates, someRules, (list, rules) => {
      fc.pre(list.length > 0);
      const reasons = reasonsToKeep(list, { rules, now: NOW, timeZone: 'Europe/Berlin' });
      const newest = list.reduce((a, b) => (b.pointInTime > a.pointInTime ? b : a));
      const ofThatMoment = list.filter(item => item.pointInTime.getTime() === newest.pointInTime.getTime());
      expect(ofThatMoment.some(({ id }) => reasons.get(id)!.length > 0)).toBe(true);
    }),
  );
});

test('a damaged backup takes no place: the sound one before it stays, and so does the damaged one', () => {
  const damaged = { unsound: 'known to be damaged' };
  const list = [at('2026-11-20T12:00Z', damaged), at('2026-11-19T12:00Z'), at('2026-11-18T12:00Z', damaged)];
  expect(kept(list, { last: 1 })).toEqual([
    '2026-11-19T12:00Z: last 1',
    '2026-11-20T12:00Z: takes no place of last: known to be damaged',
  ]);
  expect(kept([...list, at('2026-11-20T11:00Z')], { daily: 1 })).toEqual([
    '2026-11-20T11:00Z: daily 2026-11-20',
    '2026-11-20T12:00Z: takes no place of daily: known to be damaged',
  ]);
});

test('what sound backups keep does not depend on damaged ones', () => {
  fc.assert(
    fc.property(candidates, someRules, fc.infiniteStream(fc.boolean()), (list, rules, flags) => {
      const options = { rules, now: NOW, timeZone: 'UTC' };
      const mixed = list.map(one => (flags.next().value ? { ...one, unsound: 'damaged' } : one));
      const sound = mixed.filter(({ unsound }) => unsound === null);
      const reasons = reasonsToKeep(mixed, options);
      for (const [id, why] of reasonsToKeep(sound, options)) expect(reasons.get(id)).toEqual(why);
      // None goes that would have stayed without its damage.
      for (const [id, why] of reasonsToKeep(list, options)) {
        if (why.length > 0) expect(reasons.get(id)).not.toEqual([]);
      }
    }),
  );
});

test('periods without a backup do not count', () => {
  const list = ['2026-11-20T10:00Z', '2026-11-20T12:00Z', '2026-11-03T12:00Z', '2026-09-01T12:00Z'].map(m =>
    at(m),
  );
  expect(kept(list, { daily: 3 })).toEqual([
    '2026-09-01T12:00Z: daily 2026-09-01',
    '2026-11-03T12:00Z: daily 2026-11-03',
    '2026-11-20T12:00Z: daily 2026-11-20',
  ]);
});

test('each rule counts by itself, and one backup may serve several', () => {
  const list = [at('2026-11-20T10:00Z'), at('2026-11-19T10:00Z'), at('2026-10-19T10:00Z')];
  expect(kept(list, { last: 1, daily: 1, monthly: 2 })).toEqual([
    '2026-10-19T10:00Z: monthly 2026-10',
    '2026-11-20T10:00Z: last 1, daily 2026-11-20, monthly 2026-11',
  ]);
});

test('the hour that comes twice when summer time ends is two hours of one day', () => {
  const summer = '2026-10-25T00:30Z';
  const winter = '2026-10-25T01:30Z';
  expect(kept([at(summer), at(winter)], { hourly: 9 }, 'Europe/Berlin')).toEqual([
    `${summer}: hourly 2026-10-25 02:00 GMT+02:00`,
    `${winter}: hourly 2026-10-25 02:00 GMT+01:00`,
  ]);
  expect(kept([at(summer), at(winter)], { daily: 9 }, 'Europe/Berlin')).toEqual([
    `${winter}: daily 2026-10-25`,
  ]);
});

test('a day begins where the operator is, also on the day that has 23 hours', () => {
  // Midnight in Berlin is 23:00 UTC before 29 March 2026, and 22:00 UTC at the end of that day.
  const [before, first, last, after] = [
    '2026-03-28T22:59Z',
    '2026-03-28T23:00Z',
    '2026-03-29T21:59Z',
    '2026-03-29T22:00Z',
  ];
  const list = [before, first, last, after].map(moment => at(moment!));
  expect(kept(list, { daily: 9 }, 'Europe/Berlin')).toEqual([
    `${before}: daily 2026-03-28`,
    `${last}: daily 2026-03-29`,
    `${after}: daily 2026-03-30`,
  ]);
});

test.each([
  ['2026-01-01T00:00Z', '2026-W01'],
  ['2027-01-01T00:00Z', '2026-W53'],
  ['2027-01-03T23:59Z', '2026-W53'],
  ['2027-01-04T00:00Z', '2027-W01'],
  ['2024-12-30T00:00Z', '2025-W01'],
  ['2021-01-03T12:00Z', '2020-W53'],
])('%s lies in week %s, as ISO 8601 counts', (moment, week) => {
  expect(new Calendar('UTC').periodOf('weekly', new Date(moment))).toBe(week);
});

test('backups of the same moment have an order, whatever order they come in', () => {
  const twins = [at(0, { id: 'a' }), at(0, { id: 'b' })];
  expect(kept(twins, { last: 1 })).toEqual(['b: last 1']);
  expect(kept(twins.toReversed(), { last: 1 })).toEqual(['b: last 1']);
});

test('what was made last stays also when its clock had been set back', () => {
  const before = at('2026-11-20T10:00Z');
  const after = at('2026-10-20T10:00Z', { createdAt: new Date('2026-11-20T10:01Z') });
  expect(kept([before, after], { last: 1 })).toEqual([
    '2026-10-20T10:00Z: made last',
    '2026-11-20T10:00Z: last 1',
  ]);
});

test('a moment that is still to come stays, and takes no place', () => {
  const list = [at('2026-11-22T00:00Z'), at('2026-11-20T00:00Z'), at('2026-11-19T00:00Z')];
  expect(kept(list, { last: 1 })).toEqual([
    '2026-11-20T00:00Z: last 1',
    '2026-11-22T00:00Z: its point in time is still to come',
  ]);
});

test('a pin and a holder keep what no rule keeps, as long as they last', () => {
  const old = (id: string, more: Partial<KeepCandidate>) => at(0, { id, ...more });
  const list = [
    at('2026-11-20T00:00Z'),
    old('pinned', { pinnedUntil: new Date('2027-01-01T00:00:00Z') }),
    old('was-pinned', { pinnedUntil: NOW }),
    old('held', { holders: ['restore run 7'] }),
  ];
  expect(kept(list, { last: 1 })).toEqual([
    '2026-11-20T00:00Z: last 1',
    'held: in use by restore run 7',
    'pinned: pinned until 2027-01-01T00:00:00.000Z',
  ]);
});

test('rules that keep nothing are refused', () => {
  expect(() => kept([at(0)], {})).toThrow(RangeError);
});

test('time zones are known by name', () => {
  expect(['Europe/Berlin', 'UTC', 'Mars/Base', ''].map(isTimeZone)).toEqual([true, true, false, false]);
});
