// What is known to be damaged in backups. The next backup on a damaged chain sends these places again, and from then on
// they are sound for everything above it.
import { type DamagedRange, rangesJson, rangesOf, unionOf, without } from './damaged-ranges.ts';
import { notFound } from './errors.ts';
import type { Prisma } from './generated/client.ts';
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
      const chain = await db.$queryRaw<{ damage: Prisma.JsonValue; resent: Prisma.JsonValue }[]>`
        WITH RECURSIVE chain AS (
          SELECT id, parent_id, damage, resent, 0 AS depth FROM backup WHERE id = ${backupId}::uuid
          UNION ALL SELECT b.id, b.parent_id, b.damage, b.resent, depth + 1
            FROM backup b JOIN chain ON b.id = chain.parent_id
        ) CYCLE id SET is_circle USING path
        SELECT damage, resent FROM chain WHERE damage IS NOT NULL OR resent IS NOT NULL ORDER BY depth`;
      const found: DamagedRange[] = [];
      let resent: DamagedRange[] = [];
      for (const row of chain) {
        found.push(...without(rangesOf(row.damage), resent));
        resent = unionOf([...resent, ...rangesOf(row.resent)]);
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
