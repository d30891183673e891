// What a set of checks and tests came to, and the two lines every one of them ends with; `.ci/run` adds them
// up.

export interface Outcome {
  passed: number;
  failed: number;
  /** What was left out, each with its reason. */
  skipped: string[];
}

export function emptyOutcome(): Outcome {
  return { passed: 0, failed: 0, skipped: [] };
}

export function add(total: Outcome, part: Outcome): Outcome {
  return {
    passed: total.passed + part.passed,
    failed: total.failed + part.failed,
    skipped: [...total.skipped, ...part.skipped],
  };
}

/** The line before last lists what was skipped; the last one counts. */
export function outcomeLines({ passed, failed, skipped }: Outcome): string {
  return `skipped: ${skipped.length === 0 ? 'none' : skipped.join('; ')}\n${passed} passed, ${failed} failed`;
}
