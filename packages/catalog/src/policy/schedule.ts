// The due moments of a cron rule in a time zone. Where clocks are set, operators get what they expect: a rule that
// names hours is due once on each of its days, at the next moment that exists where clocks leave its time out, at the
// first where they show it twice; a rule for every hour is due in each hour that passes.
import { type CronRule, parseCron } from './cron.ts';
import { DAY_MS, ZoneClock } from './zone-clock.ts';

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
/** The 29th of February comes within eight years, around 2100. */
const LOOK_DAYS_MAX = 8 * 366 + 1;
/** Days whose moments are kept at hand: who asks for the next one asks again soon. */
const DAYS_AT_HAND = 4;

export class Schedule {
  readonly #rule: CronRule;
  readonly #clock: ZoneClock;
  readonly #days = new Map<number, readonly number[]>();

  /** Throws RangeError for what is no cron rule, or no time zone. */
  constructor({ cron, timeZone }: { cron: string; timeZone: string }) {
    this.#rule = parseCron(cron);
    this.#clock = new ZoneClock(timeZone);
  }

  /** The first due moment after that one; null: there is none within eight years. */
  next(after: Date): Date | null {
    const afterMs = after.getTime();
    // Of the day before, too: a time that is left out may be due on the next day.
    const firstDay = Math.floor(this.#clock.localMs(afterMs) / DAY_MS) - 1;
    for (let day = firstDay; day < firstDay + LOOK_DAYS_MAX; day++) {
      for (const dueMs of this.#momentsOf(day)) if (dueMs > afterMs) return new Date(dueMs);
    }
    return null;
  }

  /** After `from`, up to and including `to`, in order. */
  *between(from: Date, to: Date): Generator<Date> {
    for (let due = this.next(from); due !== null && due <= to; due = this.next(due)) yield due;
  }

  /** Of a local day, counted from 1970, in order. */
  #momentsOf(day: number): readonly number[] {
    const known = this.#days.get(day);
    if (known) return known;
    const localMs = day * DAY_MS;
    const moments = this.#isDueOn(localMs) ? this.#collect(localMs) : [];
    if (this.#days.size >= DAYS_AT_HAND) this.#days.delete(this.#days.keys().next().value!);
    this.#days.set(day, moments);
    return moments;
  }

  #isDueOn(localMs: number): boolean {
    const date = new Date(localMs);
    const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
    const daysInMonth = new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
    return this.#rule.isDueOn({
      month: month + 1,
      day: date.getUTCDate(),
      daysInMonth,
      weekday: date.getUTCDay(),
    });
  }

  #collect(localMs: number): number[] {
    const { hours, minutes, everyHour } = this.#rule;
    const offsetMs = this.#steadyOffset(localMs);
    const moments = new Set<number>();
    for (const hour of hours) {
      for (const minute of minutes) {
        const timeMs = localMs + hour * HOUR_MS + minute * MINUTE_MS;
        if (offsetMs !== null) moments.add(timeMs - offsetMs);
        else if (everyHour) for (const instantMs of this.#clock.instantsOf(timeMs)) moments.add(instantMs);
        else moments.add(this.#clock.firstInstantOf(timeMs));
      }
    }
    return [...moments].sort((a, b) => a - b);
  }

  /** Null: clocks are set on that day, or next to it. */
  #steadyOffset(localMs: number): number | null {
    const offsets = [-DAY_MS, 0, DAY_MS, 2 * DAY_MS].map(
      away => this.#clock.localMs(localMs + away) - (localMs + away),
    );
    return new Set(offsets).size === 1 ? offsets[0]! : null;
  }
}
