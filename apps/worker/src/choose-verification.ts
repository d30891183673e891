// Which backup of a repository is verified next, and whether it is time for one. A day divided by as many backups as
// are due in it passes between two, whoever asked for them and however many backups there are by then. What was missed
// is not made up for: after an outage a repository is not read from end to end.
import { hasPassed, type VerifyState } from '@tidemark/catalog';

const DAY_MS = 24 * 60 * 60 * 1000;

export interface VerifyQuestion extends VerifyState {
  /** Share of the backups that is due each day; may be less than one backup. */
  readonly percentPerDay: number;
  readonly nowMs: number;
}

/** Undefined: none now. Those that nobody ever verified come first, then those verified longest ago. */
export function chooseVerification(question: VerifyQuestion): string | undefined {
  const { candidates, isBusy, percentPerDay, nowMs, triedAt } = question;
  if (isBusy || candidates.length === 0 || percentPerDay <= 0) return undefined;
  const slotMs = DAY_MS / ((candidates.length * percentPerDay) / 100);
  if (triedAt !== null && !hasPassed(triedAt, slotMs, new Date(nowMs))) return undefined;
  return candidates.reduce((first, next) => (comesBefore(next, first) ? next : first)).backupId;
}

type Candidate = VerifyState['candidates'][number];

function comesBefore(one: Candidate, other: Candidate): boolean {
  const tried = (one.triedAt?.getTime() ?? 0) - (other.triedAt?.getTime() ?? 0);
  return tried !== 0 ? tried < 0 : one.createdAt < other.createdAt;
}
