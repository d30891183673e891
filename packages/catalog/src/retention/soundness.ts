// Which backups of a repository cannot all be read, by what is known of them and of what they stand on.
import { type DamagedRange, rangesOf, unionOf, without } from '../damaged-ranges.ts';

export interface SoundnessRow {
  readonly id: string;
  readonly parentId: string | null;
  readonly state: string;
  readonly verifyResult: string | null;
  readonly damage: unknown;
  readonly resent: unknown;
}

interface Known {
  /** Of the disk, what cannot be read. */
  readonly ranges: readonly DamagedRange[];
  /** What is wrong at places that nobody knows, here or below: nothing above can have sent that again. */
  readonly lost: string | null;
  readonly why: string | null;
}

/** For each row why not all of it can be read, in words; null: nothing is known against it. */
export function unsoundOf(rows: readonly SoundnessRow[]): Map<string, string | null> {
  const byId = new Map(rows.map(row => [row.id, row]));
  const known = new Map<string, Known>();
  for (const { id } of rows) {
    const branch: SoundnessRow[] = [];
    for (let at = byId.get(id); at !== undefined && !known.has(at.id); at = byId.get(at.parentId ?? '')) {
      branch.push(at);
    }
    // From the lowest on: each has what is known of its parent.
    for (const row of branch.reverse()) known.set(row.id, judge(row, known.get(row.parentId ?? '')));
  }
  return new Map([...known].map(([id, { why }]) => [id, why]));
}

function judge(row: SoundnessRow, below: Known | undefined): Known {
  const own = rangesOf(row.damage);
  const ranges = unionOf([...own, ...without(below?.ranges ?? [], rangesOf(row.resent))]);
  const lost = lostHere(row, own) ?? (below?.lost ? 'what it stands on is damaged or missing' : null);
  if (lost !== null) return { ranges, lost, why: lost };
  if (own.length > 0) return { ranges, lost, why: 'known to be damaged' };
  return { ranges, lost, why: ranges.length > 0 ? 'what it stands on is known to be damaged' : null };
}

function lostHere({ state, verifyResult }: SoundnessRow, own: readonly DamagedRange[]): string | null {
  if (state === 'missing') return 'its repository does not have it';
  return verifyResult === 'damaged' && own.length === 0 ? 'known to be damaged' : null;
}
