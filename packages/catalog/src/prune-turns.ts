// Prunes of one repository take turns, and each knows which backups the others were asked to take out.
import type { Db } from './scope.ts';

const LIVE = { OR: [{ state: { in: ['queued', 'running'] } }, { cleanupPending: true }] };

/** The step of a prune from whose end to its undoing, or to the end of the run, the repository is its own. */
const TURN_STEP = 'turn';

interface Prune {
  readonly repositoryId: string;
  readonly runId: string;
}

/** The other prune that works on the repository, or still has to clean up there. */
export async function turnHolder(db: Db, { repositoryId, runId }: Prune): Promise<string | null> {
  const steps = { some: { name: TURN_STEP, state: 'succeeded' } };
  const where = { repositoryId, kind: 'prune', id: { not: runId }, steps, AND: [LIVE] };
  return (await db.run.findFirst({ where, select: { id: true } }))?.id ?? null;
}

/** Backups that other prunes which have not ended are to take out. */
export async function claimedByOthers(db: Db, { repositoryId, runId }: Prune): Promise<Set<string>> {
  const where = { repositoryId, kind: 'prune', id: { not: runId }, AND: [LIVE] };
  const runs = await db.run.findMany({ where, select: { request: true } });
  return new Set(runs.flatMap(({ request }) => (request as { backupIds?: string[] }).backupIds ?? []));
}

/** Backups that the intent of the run has hidden. */
export async function hiddenBy(db: Db, runId: string): Promise<string[]> {
  const where = { runId, kind: 'backup-hidden', subjectType: 'backup' };
  const events = await db.event.findMany({ where, select: { subjectId: true } });
  return events.map(({ subjectId }) => subjectId);
}
