// What is known to be damaged in backups. The next backup on a damaged chain sends these places again, and from then on
// they are sound for everything above it.
import { notFound } from './errors.ts';
import type { Scope } from './scope.ts';
import type { DamagedRange } from './verification-repository.ts';

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
      const damage = union([...rangesOf(row.damage), ...ranges]).map(toJson);
      await db.backup.update({ where: { id: backupId }, data: { damage } });
      const data = { result: 'damaged', ranges: ranges.map(toJson) };
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
      let next: string | null = backupId;
      while (next !== null) {
        const row: { parentId: string | null; damage: unknown } | null = await db.backup.findUnique({
          where: { id: next },
          select: { parentId: true, damage: true },
        });
        if (row === null) break;
        found.push(...rangesOf(row.damage));
        next = isAllSent(row.damage) ? null : row.parentId;
      }
      return union(found);
    });
  }

  /** The backup has all that was damaged below it. */
  markSent(backupId: string): Promise<void> {
    return this.#scope.write(async db => {
      await db.backup.updateMany({ where: { id: backupId }, data: { damage: [] } });
    });
  }
}

function isAllSent(damage: unknown): boolean {
  return Array.isArray(damage) && damage.length === 0;
}

function rangesOf(damage: unknown): DamagedRange[] {
  return Array.isArray(damage) ? (damage as DamagedRange[]) : [];
}

const toJson = ({ offset, length }: DamagedRange) => ({ offset, length });

/** In order, and joined where they touch. */
function union(ranges: readonly DamagedRange[]): DamagedRange[] {
  const joined: DamagedRange[] = [];
  for (const { offset, length } of ranges.toSorted((one, other) => one.offset - other.offset)) {
    const last = joined.at(-1);
    if (last === undefined || last.offset + last.length < offset) joined.push({ offset, length });
    else last.length = Math.max(last.length, offset + length - last.offset);
  }
  return joined;
}
