// The backups of one volume in one repository, as firings come and rules prune: what simulations play on, with the
// code that real prunes decide by.
import type { KeepCandidate, RetentionRules } from '../retention/keep.ts';
import { reasonsToKeep } from '../retention/keep.ts';
import type { Calendar } from '../retention/period.ts';

export interface HistoryOptions {
  /** Null: nothing goes. */
  readonly keep: RetentionRules | null;
  readonly timeZone: string;
  readonly calendar: Calendar;
  /** What others keep of the same backups does not go either. */
  readonly others?: readonly OtherRules[];
}

export interface OtherRules {
  /** Such as `policy 'nightly'`. */
  readonly name: string;
  readonly rules: RetentionRules;
  readonly timeZone: string;
  readonly calendar: Calendar;
}

export interface KeptBackup {
  readonly backup: KeepCandidate;
  readonly reasons: readonly string[];
}

export class VolumeHistory {
  readonly #options: HistoryOptions;
  #kept: KeptBackup[];

  constructor(options: HistoryOptions, backups: readonly KeepCandidate[] = []) {
    this.#options = options;
    this.#kept = backups.map(backup => ({ backup, reasons: [] }));
  }

  /** As of the last prune, in the order in which they were made. */
  get kept(): readonly KeptBackup[] {
    return this.#kept;
  }

  add(id: string, moment: Date): void {
    const backup = {
      id,
      pointInTime: moment,
      createdAt: moment,
      pinnedUntil: null,
      holders: [],
      unsound: null,
    };
    this.#kept.push({ backup, reasons: [] });
  }

  /** Returns what goes. */
  prune(now: Date): KeepCandidate[] {
    const { keep: rules, timeZone, calendar, others = [] } = this.#options;
    if (rules === null) return [];
    const backups = this.#kept.map(({ backup }) => backup);
    const reasons = reasonsToKeep(backups, { rules, now, timeZone, calendar });
    for (const { name, ...other } of others) {
      for (const [id, more] of reasonsToKeep(backups, { ...other, now })) {
        reasons.get(id)!.push(...more.map(reason => `${name}: ${reason}`));
      }
    }
    const judged = backups.map(backup => ({ backup, reasons: reasons.get(backup.id)! }));
    this.#kept = judged.filter(one => one.reasons.length > 0);
    return judged.filter(one => one.reasons.length === 0).map(({ backup }) => backup);
  }
}
