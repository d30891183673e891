// Policies under a simulated clock. Goal: over a year in which each of 50 volumes has an hourly, a daily and a monthly
// policy, with clocks set twice, workers away for minutes, hours and days, and volumes that fail, what is kept at each
// moment is what a naive model keeps. Method: the model looks at every half hour of the year, and walks back period by
// period, with a calendar of other people's; it shares no line with what it judges.
import { createRequire } from 'node:module';
import { expect, test } from 'vitest';
import type { RetentionRules } from '../retention/keep.ts';
import { Calendar } from '../retention/period.ts';
import type { MissedRule, PolicySchedule } from './definition.ts';
import { planFirings } from './plan-firings.ts';
import { Schedule } from './schedule.ts';
import { VolumeHistory } from './volume-history.ts';

interface LuxonTime {
  readonly hour: number;
  readonly minute: number;
  readonly day: number;
  readonly daysInMonth: number;
  startOf(unit: string): LuxonTime;
  minus(amount: Record<string, number>): LuxonTime;
  toMillis(): number;
}
const { DateTime } = createRequire(import.meta.url)('luxon') as {
  DateTime: { fromMillis(ms: number, options: { zone: string }): LuxonTime };
};

const MINUTE_MS = 60_000;
const HALF_HOUR_MS = 30 * MINUTE_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const GRACE_MS = 5 * MINUTE_MS;
const FROM = Date.parse('2026-01-01T00:00Z');
const TO = Date.parse('2027-01-01T00:00Z');
const RULES = ['hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;
const UNITS = { hourly: 'hour', daily: 'day', weekly: 'week', monthly: 'month', yearly: 'year' } as const;

interface Case {
  readonly name: string;
  readonly cron: string;
  readonly timeZone: string;
  readonly missed: MissedRule;
  /** From the first of them to the one before the last. */
  readonly volumes: readonly [number, number];
  readonly keep: RetentionRules;
  /** Whether clocks show a due time, but for what setting them does. */
  isTime(time: LuxonTime): boolean;
  /** Due in each hour that passes. */
  readonly everyHour: boolean;
}

const NONE = { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
const VOLUMES = 50;
const isFullHour = ({ minute }: LuxonTime) => minute === 0;
const CASES: readonly Case[] = [
  {
    name: 'hourly',
    ...{ cron: '0 * * * *', timeZone: 'Europe/Berlin', missed: 'once', volumes: [0, 20], everyHour: true },
    keep: { ...NONE, last: 2, hourly: 12, daily: 5, weekly: 3, monthly: 3 },
    isTime: isFullHour,
  },
  {
    name: 'hourly elsewhere',
    ...{ cron: '0 * * * *', timeZone: 'America/New_York', missed: 'all', volumes: [20, 40], everyHour: true },
    keep: { ...NONE, hourly: 24, daily: 3, yearly: 1 },
    isTime: isFullHour,
  },
  {
    name: 'hourly far away',
    ...{
      cron: '0 * * * *',
      timeZone: 'Australia/Sydney',
      missed: 'skip',
      volumes: [40, 50],
      everyHour: true,
    },
    keep: { ...NONE, last: 5, hourly: 6, weekly: 8 },
    isTime: isFullHour,
  },
  {
    name: 'daily',
    ...{ cron: '30 2 * * *', timeZone: 'Europe/Berlin', missed: 'all', volumes: [0, 25], everyHour: false },
    keep: { ...NONE, last: 1, daily: 7, weekly: 4, monthly: 6, yearly: 1 },
    isTime: ({ hour, minute }) => hour === 2 && minute === 30,
  },
  {
    name: 'daily elsewhere',
    ...{
      cron: '30 1 * * *',
      timeZone: 'America/New_York',
      missed: 'skip',
      volumes: [25, 50],
      everyHour: false,
    },
    keep: { ...NONE, daily: 14, monthly: 12 },
    isTime: ({ hour, minute }) => hour === 1 && minute === 30,
  },
  {
    name: 'monthly',
    ...{
      cron: '0 3 1,L * *',
      timeZone: 'Australia/Sydney',
      missed: 'once',
      volumes: [0, 50],
      everyHour: false,
    },
    keep: { ...NONE, monthly: 5, yearly: 2 },
    isTime: ({ hour, minute, day, daysInMonth }) =>
      hour === 3 && minute === 0 && (day === 1 || day === daysInMonth),
  },
];
const MISSED_MAX = 3;
/** Twenty volumes of hourly backups take some ten seconds; other tests may have the machine meanwhile. */
const TIMEOUT_MS = 600_000;

/** Nobody is there from one to the other: at clock changes, at ends of months, for two minutes, for days. */
const OUTAGES: readonly (readonly [number, number])[] = [
  ['2026-01-31T12:00Z', '2026-02-02T09:10Z'],
  ['2026-03-08T05:00Z', '2026-03-08T08:20Z'],
  ['2026-03-29T00:20Z', '2026-03-29T01:03Z'],
  ['2026-04-30T16:59Z', '2026-04-30T17:02Z'],
  ['2026-05-10T00:00Z', '2026-05-16T13:37Z'],
  ['2026-06-15T05:00Z', '2026-06-15T09:03Z'],
  ['2026-07-01T00:29Z', '2026-07-01T00:33Z'],
  ['2026-08-31T10:00Z', '2026-09-21T10:07Z'],
  ['2026-10-25T00:10Z', '2026-10-25T01:40Z'],
  ['2026-11-01T05:00Z', '2026-11-02T06:31Z'],
].map(([from, to]) => [Date.parse(from!), Date.parse(to!)] as const);

const outageAt = (ms: number) => OUTAGES.find(([from, to]) => ms >= from && ms < to);

/** Backups of a volume fail now and then, for a day or two. */
function fails(volume: number, ms: number): boolean {
  const day = Math.floor(ms / DAY_MS);
  return (day * 31 + volume * 17) % 23 === 0 || (volume % 5 === 0 && day % 97 < 2);
}

/** Every half hour of the year: what clocks show, whether they have shown it before, and what they left out. */
function naiveDues({ timeZone: zone, isTime, everyHour }: Case): number[] {
  const dues: number[] = [];
  const seen = new Set<string>();
  const text = (time: LuxonTime) => `${time.startOf('day').toMillis()} ${time.hour}:${time.minute}`;
  for (let ms = FROM; ms <= TO; ms += HALF_HOUR_MS) {
    const time = DateTime.fromMillis(ms, { zone });
    const before = DateTime.fromMillis(ms - HALF_HOUR_MS, { zone });
    const shows = isTime(time) && (everyHour || !seen.has(text(time)));
    if (isTime(time)) seen.add(text(time));
    const leapMinutes = (time.hour - before.hour) * 60 + time.minute - before.minute;
    const leftOut =
      !everyHour &&
      time.day === before.day &&
      leapMinutes > 30 &&
      isTime({
        ...before,
        day: time.day,
        daysInMonth: time.daysInMonth,
        hour: before.hour + 1,
        minute: 30,
      } as LuxonTime);
    if ((shows || leftOut) && ms > FROM) dues.push(ms);
  }
  return dues;
}

/** Moments at which backups begin. */
function naiveFirings(one: Case): number[] {
  const firings: number[] = [];
  const missed = new Map<number, number[]>();
  const late = new Map<number, number[]>();
  for (const due of naiveDues(one)) {
    const outage = outageAt(due);
    if (!outage) firings.push(due);
    else {
      const lists = outage[1] - due > GRACE_MS ? missed : late;
      lists.set(outage[1], [...(lists.get(outage[1]) ?? []), due]);
    }
  }
  for (const [, back] of OUTAGES) {
    const gone = missed.get(back)?.length ?? 0;
    const isLate = late.get(back)?.length ?? 0;
    const caughtUp = { skip: 0, once: gone > 0 && isLate === 0 ? 1 : 0, all: Math.min(gone, MISSED_MAX) };
    for (let count = caughtUp[one.missed] + isLate; count > 0; count--) firings.push(back);
  }
  return firings.filter(ms => ms <= TO).sort((a, b) => a - b);
}

type Unit = (typeof UNITS)[(typeof RULES)[number]];

/** Other people's calendar is slow, and is asked for the same moments by each volume. */
const atHand = (): Record<Unit, Map<number, number>> => ({
  hour: new Map(),
  day: new Map(),
  week: new Map(),
  month: new Map(),
  year: new Map(),
});

class NaivePeriods {
  readonly #zone: string;
  readonly #starts = atHand();
  readonly #previous = atHand();

  constructor(zone: string) {
    this.#zone = zone;
  }

  /** Beginning of the period that holds it. An hour is one that passes, whatever clocks call it. */
  startOf(unit: Unit, ms: number): number {
    if (unit === 'hour') return Math.floor(ms / HOUR_MS) * HOUR_MS;
    const known = this.#starts[unit].get(ms);
    if (known !== undefined) return known;
    const start = DateTime.fromMillis(ms, { zone: this.#zone }).startOf(unit).toMillis();
    this.#starts[unit].set(ms, start);
    return start;
  }

  before(unit: Unit, start: number): number {
    if (unit === 'hour') return start - HOUR_MS;
    const known = this.#previous[unit].get(start);
    if (known !== undefined) return known;
    const time = DateTime.fromMillis(start, { zone: this.#zone });
    const previous = time
      .minus({ [unit]: 1 })
      .startOf(unit)
      .toMillis();
    this.#previous[unit].set(start, previous);
    return previous;
  }
}

interface Stored {
  readonly id: string;
  readonly ms: number;
}

/** Walks back period by period; of each that has any the newest stays, until so many were found. */
function naivelyKept(
  stored: readonly Stored[],
  keep: RetentionRules,
  periods: NaivePeriods,
  now: number,
): Set<string> {
  const kept = new Set(stored.slice(Math.max(0, stored.length - keep.last)).map(({ id }) => id));
  const oldest = stored[0]!.ms;
  for (const rule of RULES) {
    if (keep[rule] === 0) continue;
    const unit = UNITS[rule];
    const newest = new Map(stored.map(({ id, ms }) => [periods.startOf(unit, ms), id]));
    let found = 0;
    for (let start = periods.startOf(unit, now); found < keep[rule]; start = periods.before(unit, start)) {
      const id = newest.get(start);
      if (id !== undefined) {
        kept.add(id);
        found++;
      }
      if (start <= oldest) break;
    }
  }
  // Of what is left of a volume the newest never goes.
  return kept;
}

/** As workers do: they look when something is due, and when they are back. */
function* realFirings({ cron, timeZone, missed }: Case): Generator<number> {
  const schedule: PolicySchedule = { cron, timeZone, missed, missedMax: MISSED_MAX, jitterMs: 0 };
  const dues = new Schedule(schedule);
  const ask = (handledUntil: Date, now: Date) =>
    planFirings({ policyId: 'p', schedule, dues, handledUntil, now, graceMs: GRACE_MS });
  let plan = ask(new Date(FROM), new Date(FROM));
  while (plan.nextDueAt !== null && plan.nextDueAt.getTime() <= TO) {
    const due = plan.nextDueAt.getTime();
    const lookMs = outageAt(due)?.[1] ?? due;
    plan = ask(plan.handledUntil, new Date(lookMs));
    for (const { startAt, skipped } of plan.firings) {
      if (skipped === null) yield Math.max(startAt.getTime(), lookMs);
    }
  }
}

test('each of 50 volumes has an hourly, a daily and a monthly policy', () => {
  const every = Array.from({ length: VOLUMES }, (_, volume) => volume);
  for (const kind of ['hourly', 'daily', 'monthly']) {
    const covered = CASES.filter(({ name }) => name.startsWith(kind)).flatMap(({ volumes: [first, end] }) =>
      every.slice(first, end),
    );
    expect(covered.sort((a, b) => a - b)).toEqual(every);
  }
});

/** What there is after each firing is compared; returns how often. */
function playVolume(
  volume: number,
  one: Case,
  at: { found: readonly number[]; periods: NaivePeriods; calendar: Calendar },
) {
  const { keep, timeZone } = one;
  const { found, periods, calendar } = at;
  const history = new VolumeHistory({ keep, timeZone, calendar });
  let stored: Stored[] = [];
  let compared = 0;
  for (const [index, ms] of found.entries()) {
    if (fails(volume, ms)) continue;
    const id = `b${String(index).padStart(5, '0')}`;
    history.add(id, new Date(ms));
    const gone = history.prune(new Date(ms));
    stored.push({ id, ms });
    const kept = naivelyKept(stored, keep, periods, ms);
    const before = stored.length;
    stored = stored.filter(item => kept.has(item.id));
    const real = history.kept;
    const isSame = real.length === stored.length && stored.every((item, i) => item.id === real[i]!.backup.id);
    if (!isSame) {
      const [ours, theirs] = [real.map(({ backup }) => backup.id), stored.map(item => item.id)];
      expect(ours, `volume ${volume} at ${new Date(ms).toISOString()}`).toEqual(theirs);
    }
    if (gone.length !== before - stored.length) expect(gone).toHaveLength(before - stored.length);
    compared++;
  }
  return compared;
}

test.each(CASES)(
  'a year of $name backups keeps at each moment what the naive model keeps',
  one => {
    const wanted = naiveFirings(one);
    const found = [...realFirings(one)];
    expect(found.map(ms => new Date(ms).toISOString())).toEqual(wanted.map(ms => new Date(ms).toISOString()));
    const at = { found, periods: new NaivePeriods(one.timeZone), calendar: new Calendar(one.timeZone) };
    const [first, end] = one.volumes;
    let compared = 0;
    for (let volume = first; volume < end; volume++) compared += playVolume(volume, one, at);
    expect(compared).toBeGreaterThan(10 * (end - first));
  },
  TIMEOUT_MS,
);
