// What moments in rows tell when a clock may have been set meanwhile: a moment that is still to come was written
// before a clock was set back, and nobody waits until it comes.

/** Clocks of hosts that run for one catalog may differ by this much; what lies further ahead is wrong. */
const CLOCK_SKEW_MS_MAX = 300_000;

/** Whether `ms` have passed since that moment, or it lies so far ahead that it tells nothing. */
export function hasPassed(since: Date, ms: number, now: Date): boolean {
  const passedMs = now.getTime() - since.getTime();
  return passedMs >= ms || passedMs < -CLOCK_SKEW_MS_MAX;
}

/** The latest moment that a clock which is right can have written by `now`. */
export function latestPossible(now: Date): Date {
  return new Date(now.getTime() + CLOCK_SKEW_MS_MAX);
}

/** Now, or right after what has to come before it: rows whose order counts are in that order by this moment. */
export function momentAfter(now: Date, ...others: (Date | null | undefined)[]): Date {
  const newestMs = Math.max(...others.map(other => other?.getTime() ?? 0));
  return new Date(Math.max(now.getTime(), newestMs + 1));
}
