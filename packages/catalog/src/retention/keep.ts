// Which backups of one volume in one repository stay, and why. Each rule looks at all backups by itself, newest
// first, and keeps the newest one of each period that has any, for as many periods as it says. No clock, no I/O.
import { Calendar, PERIODS } from './period.ts';

/** How many of each are kept; 0: the rule keeps none. */
export interface RetentionRules {
  last: number;
  hourly: number;
  daily: number;
  weekly: number;
  monthly: number;
  yearly: number;
}

/** A backup that can be restored, as far as retention looks at it. */
export interface KeepCandidate {
  id: string;
  pointInTime: Date;
  /** In the order in which the volume's backups were made, whatever clocks said. */
  createdAt: Date;
  pinnedUntil: Date | null;
  /** Who reads it or builds on it, in words, such as `restore run ID`. */
  holders: readonly string[];
  /** Why not all of it can be read, in words. */
  unsound: string | null;
}

export interface KeepOptions {
  rules: RetentionRules;
  now: Date;
  /** A name of the time zone database. */
  timeZone: string;
  /** That of the time zone, where there is one already. */
  calendar?: Calendar;
}

/** Whether any backup is kept by them: what keeps nothing would remove all. */
export function keepsAnything(rules: RetentionRules): boolean {
  return Object.values(rules).some(count => count > 0);
}

/**
 * For each backup what keeps it; empty: it goes. Throws RangeError for rules that keep nothing. A backup of a moment
 * that is still to come (a clock was wrong) stays, and takes no rule's place. One that cannot all be read takes none
 * either, and stays where it would have had one. Of those that can, the one that was made last stays, whatever its
 * point in time.
 */
export function reasonsToKeep(
  candidates: readonly KeepCandidate[],
  { rules, now, timeZone, calendar = new Calendar(timeZone) }: KeepOptions,
): Map<string, string[]> {
  if (!keepsAnything(rules)) throw new RangeError('rules of retention that keep nothing would remove all');
  const reasons = new Map(candidates.map(({ id }) => [id, [] as string[]]));
  const newestFirst = [...candidates].sort(
    (a, b) => b.pointInTime.getTime() - a.pointInTime.getTime() || (a.id < b.id ? 1 : -1),
  );
  const past = newestFirst.filter(({ pointInTime }) => pointInTime <= now);
  const keep = ({ id, unsound }: KeepCandidate, rule: string, place: string) =>
    reasons.get(id)!.push(unsound === null ? `${rule} ${place}` : `takes no place of ${rule}: ${unsound}`);
  let taken = 0;
  for (const candidate of past) {
    if (taken === rules.last) break;
    keep(candidate, 'last', String(taken + 1));
    if (candidate.unsound === null) taken++;
  }
  for (const rule of PERIODS) {
    let left = rules[rule];
    let period = '';
    for (const candidate of past) {
      if (left === 0) break;
      const next = calendar.periodOf(rule, candidate.pointInTime);
      if (next === period) continue;
      keep(candidate, rule, next);
      if (candidate.unsound !== null) continue;
      period = next;
      left--;
    }
  }
  const last = lastMade(candidates.filter(({ unsound }) => unsound === null));
  for (const { id, pointInTime, pinnedUntil, holders } of newestFirst) {
    const others = reasons.get(id)!;
    if (pointInTime > now) others.push('its point in time is still to come');
    if (pinnedUntil !== null && pinnedUntil > now) others.push(`pinned until ${pinnedUntil.toISOString()}`);
    for (const holder of holders) others.push(`in use by ${holder}`);
    if (id === last?.id && others.length === 0) others.push('made last');
  }
  return reasons;
}

function lastMade(candidates: readonly KeepCandidate[]): KeepCandidate | undefined {
  return candidates.toSorted((a, b) => +a.createdAt - +b.createdAt || (a.id < b.id ? -1 : 1)).at(-1);
}
