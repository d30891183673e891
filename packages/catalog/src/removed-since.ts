// Backups that a prune has taken out after somebody looked at their repository: what was seen there of them is old.
import type { Db } from './scope.ts';

/** The event of a backup that has left its repository. */
export const REMOVED = 'backup-removed';

/** Which of the ids. `lookedAfter`: id of the newest event before the look. */
export async function removedSince(
  db: Db,
  { ids, lookedAfter }: { ids: readonly string[]; lookedAfter: number },
): Promise<Set<string>> {
  const rows = await db.$queryRaw<{ id: string }[]>`
    SELECT subject_id::text AS id FROM event
    WHERE id > ${lookedAfter}::bigint AND subject_id = ANY(${ids}::uuid[]) AND kind = ${REMOVED}`;
  return new Set(rows.map(({ id }) => id));
}
