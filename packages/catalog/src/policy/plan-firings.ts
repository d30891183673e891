// Which firings follow from a schedule by now: those that are due, and by the policy's rule those that nobody was
// there for. The same due moment gives the same firing whoever asks, and however often.
import { createHash } from 'node:crypto';
import { latestPossible } from '../moments.ts';
import type { PolicySchedule } from './definition.ts';
import type { Schedule } from './schedule.ts';

export interface PlannedFiring {
  readonly dueAt: Date;
  /** Due, or now where that was missed, and jitter. */
  readonly startAt: Date;
  readonly cause: 'schedule' | 'missed';
  /** Due moments that it stands for. */
  readonly standsFor: number;
  /** Not null: nothing is done. */
  readonly skipped: string | null;
}

export interface FiringPlan {
  /** In order. */
  readonly firings: PlannedFiring[];
  /** Due moments up to this one are dealt with. */
  readonly handledUntil: Date;
  readonly nextDueAt: Date | null;
}

export interface FiringQuestion {
  readonly policyId: string;
  readonly schedule: PolicySchedule;
  /** The due moments of `schedule`. */
  readonly dues: Schedule;
  readonly handledUntil: Date;
  readonly now: Date;
  /** A firing that is late by no more than this was not missed. */
  readonly graceMs: number;
}

/** Of a longer outage only the last days are looked at: what was due before is not counted. */
const OUTAGE_MS_MAX = 31 * 86_400_000;

/** No clock, no chance. */
export function planFirings(question: FiringQuestion): FiringPlan {
  const { now, graceMs, dues } = question;
  const from = startOf(question);
  const due = [...dues.between(from, now)];
  const onTime = due.filter(moment => now.getTime() - moment.getTime() <= graceMs);
  const missed = due.slice(0, due.length - onTime.length);
  const handledUntil = due.at(-1) ?? from;
  return {
    firings: [
      ...ofMissed(missed, onTime.length > 0, question),
      ...ofOnTime(onTime, missed.length, question),
    ].map(firing => ({ ...firing, startAt: delayed(firing, question) })),
    handledUntil,
    nextDueAt: dues.next(handledUntil),
  };
}

/** A moment that is yet to come was written before a clock was set back: what is due from now on is due. */
function startOf({ handledUntil, now }: FiringQuestion): Date {
  if (handledUntil > latestPossible(now)) return now;
  return new Date(Math.max(handledUntil.getTime(), now.getTime() - OUTAGE_MS_MAX));
}

type Undelayed = Omit<PlannedFiring, 'startAt'>;

function ofMissed(missed: Date[], somethingIsDue: boolean, { schedule }: FiringQuestion): Undelayed[] {
  const last = missed.at(-1);
  if (last === undefined) return [];
  const { missed: rule, missedMax } = schedule;
  const run = (dueAt: Date, standsFor: number): Undelayed => ({
    dueAt,
    cause: 'missed',
    standsFor,
    skipped: null,
  });
  // What is due now stands for them as well.
  if (rule === 'once') return somethingIsDue ? [] : [run(last, missed.length)];
  const made = rule === 'all' ? missed.slice(-missedMax) : [];
  const left = missed.slice(0, missed.length - made.length);
  const newestLeft = left.at(-1);
  const skips: Undelayed[] =
    newestLeft === undefined
      ? []
      : [{ dueAt: newestLeft, cause: 'missed', standsFor: left.length, skipped: missedText(left) }];
  return [...skips, ...made.map(dueAt => run(dueAt, 1))];
}

function ofOnTime(onTime: Date[], missed: number, { schedule }: FiringQuestion): Undelayed[] {
  const extra = schedule.missed === 'once' ? missed : 0;
  return onTime.map((dueAt, index) => ({
    dueAt,
    cause: 'schedule',
    standsFor: index === 0 ? 1 + extra : 1,
    skipped: null,
  }));
}

function missedText(left: Date[]): string {
  const [first, last] = [left[0]!.toISOString(), left.at(-1)!.toISOString()];
  if (left.length === 1) return `missed: no worker was there at ${first}`;
  return `missed: no worker was there at ${left.length} due moments from ${first} to ${last}`;
}

function delayed({ dueAt, cause, skipped }: Undelayed, question: FiringQuestion): Date {
  if (skipped !== null) return dueAt;
  const start = cause === 'missed' ? question.now : dueAt;
  return new Date(start.getTime() + jitterOf(question, dueAt, question.dues.next(dueAt)));
}

/** Of each policy and due moment the same, and never as far as the next due moment. */
export function jitterOf(
  { policyId, schedule }: Pick<FiringQuestion, 'policyId' | 'schedule'>,
  dueAt: Date,
  nextDueAt: Date | null,
): number {
  const gapMs = nextDueAt === null ? Number.POSITIVE_INFINITY : nextDueAt.getTime() - dueAt.getTime();
  const mostMs = Math.min(schedule.jitterMs, gapMs);
  const digest = createHash('sha256').update(`${policyId} ${dueAt.toISOString()}`).digest();
  return Math.floor((digest.readUInt32BE(0) / 2 ** 32) * mostMs);
}
