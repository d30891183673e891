// What verifications of backups found, and which are due.
import { type DamagedRange, rangesJson, rangesOf, unionOf } from './damaged-ranges.ts';
import { notFound } from './errors.ts';
import { Prisma } from './generated/client.ts';
import { latestPossible } from './moments.ts';
import type { Scope } from './scope.ts';

export type VerifyResult = 'sound' | 'damaged';

/** A backup that can be verified, and when somebody last tried to. */
export interface VerifyCandidate {
  backupId: string;
  createdAt: Date;
  triedAt: Date | null;
}

export interface VerifyState {
  candidates: VerifyCandidate[];
  /** A verification of this repository is waiting or under way. */
  isBusy: boolean;
  /** When somebody last asked for one in this repository. */
  triedAt: Date | null;
}

export class VerificationRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /**
   * `ranges`: of the backup's disk, what is known to be damaged from now on, or with `adds` besides what was known;
   * undefined: nothing new is known of ranges. Rejects `not-found`.
   */
  record(
    backupId: string,
    {
      result,
      ranges,
      adds = false,
    }: { result: VerifyResult; ranges?: DamagedRange[] | undefined; adds?: boolean },
    runId: string,
  ): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      await db.$queryRaw`SELECT 1 FROM backup WHERE id = ${backupId}::uuid FOR UPDATE`;
      const row = await db.backup.findUnique({ where: { id: backupId }, select: { damage: true } });
      if (row === null) throw notFound('backup', backupId);
      const known = unionOf([...(adds ? rangesOf(row.damage) : []), ...(ranges ?? [])]);
      // Who looked at its own data alone has not seen whether what it stands on is sound by now.
      const isDamaged = result === 'damaged' || (ranges === undefined && rangesOf(row.damage).length > 0);
      const damage = known.length === 0 ? Prisma.DbNull : rangesJson(known);
      await db.backup.update({
        where: { id: backupId },
        data: {
          verifiedAt: this.#scope.now(),
          verifyResult: isDamaged ? 'damaged' : result,
          ...(ranges && { damage }),
        },
      });
      const kind = result === 'sound' ? 'backup-verified' : 'backup-damaged';
      const data = { result, ...(ranges && { ranges: rangesJson(ranges) }) };
      tell({ kind, subjectType: 'backup', subjectId: backupId, runId, data });
    });
  }

  /**
   * What may be verified in a repository. Within a transaction nobody else gets an answer for the same repository
   * until it has ended, so that two workers do not choose at once.
   */
  async lockState(repositoryId: string): Promise<VerifyState> {
    return this.#scope.write(async db => {
      await db.$queryRaw`SELECT 1 FROM repository WHERE id = ${repositoryId}::uuid FOR UPDATE`;
      const where = { repositoryId, kind: 'verify' };
      const active = await db.run.count({ where: { ...where, state: { in: ['queued', 'running'] } } });
      const backups = await db.backup.findMany({
        where: { repositoryId, state: 'available' },
        select: { id: true, createdAt: true, verifiedAt: true, verifyTriedAt: true },
      });
      // What lies ahead was tried before a clock was set back: nobody knows when.
      const latest = latestPossible(this.#scope.now());
      const possible = (moment: Date | null) => (moment !== null && moment <= latest ? moment : null);
      const newest = await db.run.findFirst({
        where: { ...where, createdAt: { lte: latest } },
        orderBy: { createdAt: 'desc' },
        select: { createdAt: true },
      });
      const candidates = backups.map(({ id, createdAt, verifiedAt, verifyTriedAt }) => ({
        backupId: id,
        createdAt,
        triedAt: later(possible(verifiedAt), possible(verifyTriedAt)),
      }));
      return { candidates, isBusy: active > 0, triedAt: newest?.createdAt ?? null };
    });
  }
}

function later(one: Date | null, other: Date | null): Date | null {
  if (one === null || other === null) return one ?? other;
  return one > other ? one : other;
}
