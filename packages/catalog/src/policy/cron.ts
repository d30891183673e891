// A rule of due moments in the five fields of cron: minute, hour, day of month, month, day of week. Which instants its
// local times are, is schedule.ts's.
import { CronExpressionParser, type CronFieldCollection } from 'cron-parser';

export interface CronRule {
  readonly minutes: readonly number[];
  readonly hours: readonly number[];
  /** It names no hours: it goes by the hours that pass, not by those that clocks show. */
  readonly everyHour: boolean;
  /** `month` from 1, `weekday` from 0, Sunday. */
  isDueOn(day: CronDay): boolean;
}

export interface CronDay {
  readonly month: number;
  readonly day: number;
  readonly daysInMonth: number;
  readonly weekday: number;
}

const SHORTHANDS: Readonly<Record<string, string>> = {
  '@hourly': '0 * * * *',
  '@daily': '0 0 * * *',
  '@weekly': '0 0 * * 0',
  '@monthly': '0 0 1 * *',
  '@yearly': '0 0 1 1 *',
};

const NUMBERS = /^[0-9*,/-]+$/;
const MONTHS = /^(?:[0-9*,/-]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)+$/i;
const WEEKDAYS = /^(?:[0-9*,/-]|sun|mon|tue|wed|thu|fri|sat)+$/i;
/** Lists, ranges, steps, names; `L` for the last day of a month. */
const FIELDS = [NUMBERS, NUMBERS, /^[0-9*,/L-]+$/, MONTHS, WEEKDAYS];
const SUNDAY_TOO = 7;

/** Throws RangeError that says in words what is wrong with it. */
export function parseCron(text: string): CronRule {
  const fields = (SHORTHANDS[text.trim()] ?? text).trim().split(/\s+/);
  if (fields.length !== FIELDS.length || !fields.every((field, index) => FIELDS[index]!.test(field))) {
    throw new RangeError(
      `is ${JSON.stringify(text)}; give minute, hour, day of month, month and day of week, such as ` +
        `"30 2 * * mon-fri", or one of ${Object.keys(SHORTHANDS).join(', ')}`,
    );
  }
  const parsed = parse(fields.join(' '), text);
  const { minute, hour, dayOfMonth, month, dayOfWeek } = parsed;
  const days = new Set(dayOfMonth.values.map(Number));
  const months = new Set(month.values.map(Number));
  const weekdays = new Set(dayOfWeek.values.map(value => Number(value) % SUNDAY_TOO));
  const onDay = ({ day, daysInMonth }: CronDay) =>
    days.has(day) || (dayOfMonth.hasLastChar && day === daysInMonth);
  const onWeekday = ({ weekday }: CronDay) => weekdays.has(weekday);
  return {
    minutes: minute.values.map(Number),
    hours: hour.values.map(Number),
    everyHour: hour.values.length === 24,
    isDueOn(day) {
      if (!months.has(day.month)) return false;
      if (dayOfMonth.isWildcard) return onWeekday(day);
      // Where both are given either is enough, as everywhere.
      return dayOfWeek.isWildcard ? onDay(day) : onDay(day) || onWeekday(day);
    },
  };
}

function parse(fields: string, text: string): CronFieldCollection {
  try {
    return CronExpressionParser.parse(fields).fields;
  } catch (error) {
    throw new RangeError(`is ${JSON.stringify(text)}, which is no cron rule: ${(error as Error).message}`);
  }
}
