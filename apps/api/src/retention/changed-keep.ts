// Rules of retention after a change to some of them.
import { keepsAnything, type RetentionRules } from '@tidemark/catalog';
import { TidemarkError } from '@tidemark/proto';
import type { KeepChange } from '../schemas/retention.ts';

const NOTHING: RetentionRules = { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };

/** What is not named stays: nobody loses the backups of a year by asking for another day. Rejects `invalid-request`. */
export function changedKeep(before: RetentionRules | null, change: KeepChange | null): RetentionRules | null {
  if (change === null) return null;
  const given = Object.fromEntries(Object.entries(change).filter(([, count]) => count !== undefined));
  const keep = { ...NOTHING, ...before, ...given };
  if (keepsAnything(keep)) return keep;
  throw new TidemarkError(
    'invalid-request',
    "'keep' in the body leaves no rule that keeps anything, so that every backup would go. Send a count above 0, or " +
      'null for no rules at all.',
  );
}
