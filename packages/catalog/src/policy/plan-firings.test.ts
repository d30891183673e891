// Goal: each due moment becomes one firing, whoever asks and however often; what nobody was there for goes by the
// policy's rule; a clock that is set neither doubles nor loses for long. Method: fixed cases.
import { expect, test } from 'vitest';
import type { PolicySchedule } from './definition.ts';
import { jitterOf, planFirings } from './plan-firings.ts';
import { Schedule } from './schedule.ts';

const HOURLY: PolicySchedule = {
  cron: '0 * * * *',
  timeZone: 'UTC',
  missed: 'skip',
  missedMax: 2,
  jitterMs: 0,
};
const GRACE_MS = 300_000;
const ask = (handledUntil: string, now: string, more: Partial<PolicySchedule> = {}) => {
  const plan = planFirings({
    policyId: 'p1',
    schedule: { ...HOURLY, ...more },
    dues: new Schedule({ ...HOURLY, ...more }),
    handledUntil: new Date(handledUntil),
    now: new Date(now),
    graceMs: GRACE_MS,
  });
  const firings = plan.firings.map(({ dueAt, startAt, cause, standsFor, skipped }) =>
    [dueAt, startAt]
      .map(moment => moment.toISOString().slice(11, 16))
      .concat(cause, String(standsFor), ...(skipped === null ? [] : ['skipped']))
      .join(' '),
  );
  const text = (moment: Date | null) => moment?.toISOString().slice(5, 16);
  return { firings, handledUntil: text(plan.handledUntil), nextDueAt: text(plan.nextDueAt) };
};

test('what is due is planned once', () => {
  expect(ask('2026-05-01T08:00Z', '2026-05-01T09:00Z')).toEqual({
    firings: ['09:00 09:00 schedule 1'],
    handledUntil: '05-01T09:00',
    nextDueAt: '05-01T10:00',
  });
  expect(ask('2026-05-01T09:00Z', '2026-05-01T09:00Z').firings).toEqual([]);
  expect(ask('2026-05-01T08:00Z', '2026-05-01T08:59Z')).toEqual({
    firings: [],
    handledUntil: '05-01T08:00',
    nextDueAt: '05-01T09:00',
  });
});

test('a firing that is a little late was not missed', () => {
  expect(ask('2026-05-01T08:00Z', '2026-05-01T09:05Z').firings).toEqual(['09:00 09:00 schedule 1']);
});

test('missed due moments are skipped, run once, or each up to a bound', () => {
  const outage = ['2026-05-01T08:00Z', '2026-05-01T12:30Z'] as const;
  expect(ask(...outage).firings).toEqual(['12:00 12:00 missed 4 skipped']);
  expect(ask(...outage, { missed: 'once' }).firings).toEqual(['12:00 12:30 missed 4']);
  expect(ask(...outage, { missed: 'all' }).firings).toEqual([
    '10:00 10:00 missed 2 skipped',
    '11:00 12:30 missed 1',
    '12:00 12:30 missed 1',
  ]);
  expect(ask(...outage, { missed: 'all', missedMax: 9 }).firings).toHaveLength(4);
});

test('what is due now stands for what was missed, where once is enough', () => {
  expect(ask('2026-05-01T08:00Z', '2026-05-01T12:01Z', { missed: 'once' }).firings).toEqual([
    '12:00 12:00 schedule 4',
  ]);
  expect(ask('2026-05-01T08:00Z', '2026-05-01T12:01Z').firings).toEqual([
    '11:00 11:00 missed 3 skipped',
    '12:00 12:00 schedule 1',
  ]);
});

test('of an outage of a year only the last month is looked at', () => {
  const { firings } = ask('2025-05-01T08:00Z', '2026-05-01T08:30Z', { missed: 'once' });
  expect(firings).toEqual([`08:00 08:30 missed ${31 * 24}`]);
});

test('a clock that is set back doubles nothing within minutes, and begins anew after more', () => {
  expect(ask('2026-05-01T09:00Z', '2026-05-01T08:58Z')).toMatchObject({
    firings: [],
    nextDueAt: '05-01T10:00',
  });
  expect(ask('2026-05-02T09:00Z', '2026-05-01T09:10Z')).toEqual({
    firings: [],
    handledUntil: '05-01T09:10',
    nextDueAt: '05-01T10:00',
  });
});

test('jitter is the same for everybody, differs from firing to firing, and never reaches the next', () => {
  const schedule = { ...HOURLY, jitterMs: 600_000 };
  const at = (hour: number) => new Date(Date.UTC(2026, 4, 1, hour));
  const of = (policyId: string, hour: number) => jitterOf({ policyId, schedule }, at(hour), at(hour + 1));
  const all = Array.from({ length: 24 }, (_, hour) => of('p1', hour));
  expect(all).toEqual(Array.from({ length: 24 }, (_, hour) => of('p1', hour)));
  expect(new Set(all).size).toBeGreaterThan(20);
  expect(Math.max(...all)).toBeLessThan(600_000);
  expect(Math.max(...all)).toBeGreaterThan(300_000);
  expect(of('p2', 3)).not.toBe(of('p1', 3));
  const wide = { ...HOURLY, jitterMs: 86_400_000 };
  for (let hour = 0; hour < 24; hour++) {
    expect(jitterOf({ policyId: 'p1', schedule: wide }, at(hour), at(hour + 1))).toBeLessThan(3_600_000);
  }
});
