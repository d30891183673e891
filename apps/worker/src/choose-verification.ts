// Which backup of a repository is verified next, and whether it is time for one. The day is cut into as many slots as
// backups are due in it; each slot has one, whoever asked for it. A slot that was missed is not made up for: after an
// outage a repository is not read from end to end.
import type { VerifyState } from '@tidemark/catalog';

const DAY_MS = 24 * 60 * 60 * 1000;

export interface VerifyQuestion extends VerifyState {
  readonly repositoryId: string;
  /** Share of the backups that is due each day; may be less than one backup. */
  readonly percentPerDay: number;
  readonly nowMs: number;
}

/** Undefined: none now. Those that nobody ever verified come first, then those verified longest ago. */
export function chooseVerification(question: VerifyQuestion): string | undefined {
  const { candidates, isBusy, percentPerDay, nowMs } = question;
  if (isBusy || candidates.length === 0 || percentPerDay <= 0) return undefined;
  const slotMs = DAY_MS / ((candidates.length * percentPerDay) / 100);
  // Repositories do not all begin at once.
  const shiftMs = share(question.repositoryId) * slotMs;
  const slotStartMs = Math.floor((nowMs - shiftMs) / slotMs) * slotMs + shiftMs;
  const isTaken = candidates.some(({ triedAt }) => triedAt !== null && triedAt.getTime() >= slotStartMs);
  if (isTaken) return undefined;
  return candidates.reduce((first, next) => (comesBefore(next, first) ? next : first)).backupId;
}

type Candidate = VerifyState['candidates'][number];

function comesBefore(one: Candidate, other: Candidate): boolean {
  const tried = (one.triedAt?.getTime() ?? 0) - (other.triedAt?.getTime() ?? 0);
  return tried !== 0 ? tried < 0 : one.createdAt < other.createdAt;
}

/** From 0 to below 1, the same for an id each time: ids are random. */
function share(id: string): number {
  return Number.parseInt(id.slice(0, 8), 16) / 2 ** 32;
}
