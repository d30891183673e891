// Calendar periods of a moment, in a time zone: what the rules of retention count.

export const PERIODS = ['hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;
export type PeriodRule = (typeof PERIODS)[number];

const DAY_MS = 86_400_000;
/** ISO 8601: a week belongs to the year that has its Thursday. */
const THURSDAY = 4;

/** False for a name that the time zone database does not have. */
export function isTimeZone(timeZone: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone });
    return true;
  } catch {
    return false;
  }
}

/** The local time of a moment, with the hour's distance from UTC: an hour that comes twice is two hours. */
interface LocalTime {
  readonly year: string;
  readonly month: string;
  readonly day: string;
  readonly hour: string;
  readonly offset: string;
}

/** Who looks at the same backups again and again, as simulations do, asks for the same moments. */
const NAMES_AT_HAND = 10_000;

export class Calendar {
  readonly #format: Intl.DateTimeFormat;
  readonly #names = new Map<PeriodRule, Map<number, string>>(PERIODS.map(rule => [rule, new Map()]));

  /** Throws RangeError for a time zone that is not known. */
  constructor(timeZone: string) {
    this.#format = new Intl.DateTimeFormat('en-u-ca-gregory-nu-latn', {
      timeZone,
      hourCycle: 'h23',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      timeZoneName: 'longOffset',
    });
  }

  /** The name of the period that the moment lies in, such as `2026-W47`; two moments share it or do not. */
  periodOf(rule: PeriodRule, moment: Date): string {
    const names = this.#names.get(rule)!;
    const known = names.get(moment.getTime());
    if (known !== undefined) return known;
    if (names.size >= NAMES_AT_HAND) names.clear();
    const name = this.#nameOf(rule, moment);
    names.set(moment.getTime(), name);
    return name;
  }

  #nameOf(rule: PeriodRule, moment: Date): string {
    const local = this.#localTime(moment);
    const { year, month, day, hour, offset } = local;
    if (rule === 'hourly') return `${year}-${month}-${day} ${hour}:00 ${offset}`;
    if (rule === 'daily') return `${year}-${month}-${day}`;
    if (rule === 'weekly') return isoWeek(local);
    return rule === 'monthly' ? `${year}-${month}` : year;
  }

  #localTime(moment: Date): LocalTime {
    const parts = Object.fromEntries(
      this.#format.formatToParts(moment).map(({ type, value }) => [type, value]),
    );
    const { year = '', month = '', day = '', hour = '', timeZoneName = '' } = parts;
    return { year: year.padStart(4, '0'), month, day, hour, offset: timeZoneName };
  }
}

function isoWeek({ year, month, day }: LocalTime): string {
  const date = new Date(0);
  date.setUTCFullYear(Number(year), Number(month) - 1, Number(day));
  const weekday = date.getUTCDay() === 0 ? 7 : date.getUTCDay();
  const thursday = new Date(date.getTime() + (THURSDAY - weekday) * DAY_MS);
  const weekYear = thursday.getUTCFullYear();
  const start = new Date(0);
  start.setUTCFullYear(weekYear, 0, 1);
  const week = 1 + Math.floor((thursday.getTime() - start.getTime()) / DAY_MS / 7);
  return `${String(weekYear).padStart(4, '0')}-W${String(week).padStart(2, '0')}`;
}
