// How fast the backups of a policy may be at a moment, by the windows of its days.
import type { BandwidthWindow } from './definition.ts';
import { DAY_MS, ZoneClock } from './zone-clock.ts';

const MINUTE_MS = 60_000;
const TIME = /^([01]\d|2[0-3]):([0-5]\d)$/;
const MONDAY_FIRST = 7;

export const isTimeOfDay = (text: string): boolean => TIME.test(text);

function minuteOf(text: string): number {
  const [, hour, minute] = TIME.exec(text) ?? [];
  return Number(hour) * 60 + Number(minute);
}

/** Bytes per second of all of them together; 0: no limit. The first window that holds the moment counts. */
export function bandwidthAt(
  windows: readonly BandwidthWindow[],
  { timeZone, now }: { timeZone: string; now: Date },
): number {
  if (windows.length === 0) return 0;
  const localMs = new ZoneClock(timeZone).localMs(now.getTime());
  const day = Math.floor(localMs / DAY_MS);
  const minute = Math.floor((localMs - day * DAY_MS) / MINUTE_MS);
  const found = windows.find(window => holds(window, day, minute));
  return found?.bytesPerSecond ?? 0;
}

function holds({ from, to, days }: BandwidthWindow, day: number, minute: number): boolean {
  const [begin, end] = [minuteOf(from), minuteOf(to)];
  const beginsOn = (some: number) => days.length === 0 || days.includes(weekdayOf(some));
  if (begin < end) return beginsOn(day) && minute >= begin && minute < end;
  // Over midnight: it may have begun on the day before.
  return (beginsOn(day) && minute >= begin) || (beginsOn(day - 1) && minute < end);
}

/** From 1, Monday, to 7. The first day of 1970 was a Thursday. */
function weekdayOf(day: number): number {
  return ((((day + 3) % MONDAY_FIRST) + MONDAY_FIRST) % MONDAY_FIRST) + 1;
}

/** Of one of so many that share it; 0: no limit. */
export function shareOf(bytesPerSecond: number, sharers: number): number {
  return bytesPerSecond === 0 ? 0 : Math.max(1, Math.floor(bytesPerSecond / Math.max(1, sharers)));
}
