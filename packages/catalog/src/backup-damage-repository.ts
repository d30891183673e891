// What is known to be damaged in backups. The next backup on a damaged chain sends these places again, and from then on
// they are sound for everything above it.
import { type DamagedRange, rangesJson, rangesOf, unionOf, without } from './damaged-ranges.ts';
import { notFound } from './errors.ts';
import type { Scope } from './scope.ts';

export class BackupDamageRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** Adds to what is known. Good to repeat. Rejects `not-found`. */
  note(backupId: string, ranges: readonly DamagedRange[], runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      await db.$queryRaw`SELECT 1 FROM backup WHERE id = ${backupId}::uuid FOR UPDATE`;
      const row = await db.backup.findUnique({ where: { id: backupId }, select: { damage: true } });
      if (row === null) throw notFound('backup', backupId);
      const damage = rangesJson(unionOf([...rangesOf(row.damage), ...ranges]));
      await db.backup.update({ where: { id: backupId }, data: { damage } });
      const data = { result: 'damaged', ranges: rangesJson(ranges) };
      tell({ kind: 'backup-damaged', subjectType: 'backup', subjectId: backupId, runId, data });
    });
  }

  /** As `note`, of what a restore had to leave out. */
  noteRestore(
    backupId: string,
    damage: { bytes: number; ranges: readonly DamagedRange[]; truncated: boolean },
    { runId, volumeId }: { runId: string; volumeId: string | null },
  ): Promise<void> {
    return this.#scope.write(async (_db, tell) => {
      await this.note(backupId, damage.ranges, runId);
      const data = { backupId, volumeId, bytes: damage.bytes };
      tell({ kind: 'restore-complete-with-holes', subjectType: 'run', subjectId: runId, runId, data });
    });
  }

  /** What is damaged in the backup and in what it stands on, in order; without what a later one has sent again. */
  ofChain(backupId: string): Promise<DamagedRange[]> {
    return this.#scope.read(async db => {
      const found: DamagedRange[] = [];
      let resent: DamagedRange[] = [];
      let next: string | null = backupId;
      while (next !== null) {
        const row: { parentId: string | null; damage: unknown; resent: unknown } | null =
          await db.backup.findUnique({
            where: { id: next },
            select: { parentId: true, damage: true, resent: true },
          });
        if (row === null) break;
        found.push(...without(rangesOf(row.damage), resent));
        resent = unionOf([...resent, ...rangesOf(row.resent)]);
        next = row.parentId;
      }
      return unionOf(found);
    });
  }

  /** The backup has these places of its own, which are damaged below it. */
  markSent(backupId: string, ranges: readonly DamagedRange[]): Promise<void> {
    return this.#scope.write(async db => {
      const resent = rangesJson(unionOf(ranges));
      await db.backup.updateMany({ where: { id: backupId }, data: { resent } });
    });
  }
}
