// Runs that have ended long ago, and go. What others refer to stays: runs that made a backup, a group, a commit or a
// member of a firing that is still there, those that an open difference is about, and the newest of those kinds whose
// next one is due by the time of the last.
import type { Scope } from './scope.ts';

/** Where the next step of a sweep goes on. */
export interface RunHistoryCursor {
  readonly finishedAt: Date;
  readonly id: string;
}

export interface PrunedRuns {
  readonly pruned: number;
  /** Null: there is none left that is older. */
  readonly next: RunHistoryCursor | null;
}

export class RunHistoryRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /**
   * Looks at most at `limit` runs that ended before `before`, oldest first, after those of the step before, and removes
   * with their steps those that nothing refers to. Any number of workers may sweep at once.
   */
  prune(before: Date, limit: number, after: RunHistoryCursor | null = null): Promise<PrunedRuns> {
    const from = after?.finishedAt ?? new Date(0);
    const fromId = after?.id ?? '00000000-0000-0000-0000-000000000000';
    return this.#scope.write(async db => {
      const old = await db.$queryRaw<{ id: string; finished_at: Date }[]>`
        SELECT id, finished_at FROM run
        WHERE (finished_at, id) > (${from}, ${fromId}::uuid) AND finished_at < ${before}
        ORDER BY finished_at, id LIMIT ${limit}`;
      const last = old.at(-1);
      if (last === undefined) return { pruned: 0, next: null };
      const ids = old.map(({ id }) => id);
      const pruned = await db.$executeRaw`
        DELETE FROM run WHERE id = ANY(${ids}::uuid[])
          AND state IN ('succeeded', 'failed', 'cancelled') AND NOT cleanup_pending
          AND NOT (kind = 'backup' AND EXISTS (SELECT 1 FROM backup WHERE backup.id = run.backup_id))
          AND NOT EXISTS (SELECT 1 FROM checkpoint_group WHERE run_id = run.id)
          AND NOT EXISTS (SELECT 1 FROM checkpoint_group_member WHERE run_id = run.id)
          AND NOT EXISTS (SELECT 1 FROM policy_firing_member WHERE run_id = run.id)
          AND NOT EXISTS (SELECT 1 FROM policy_firing_replica WHERE run_id = run.id)
          AND NOT EXISTS (SELECT 1 FROM volume_commit WHERE run_id = run.id)
          AND NOT EXISTS (SELECT 1 FROM difference WHERE subject_id = run.id AND state = 'open')
          AND NOT (kind IN ('audit', 'reconcile', 'verify') AND NOT EXISTS (
            SELECT 1 FROM run AS newer WHERE newer.kind = run.kind AND newer.created_at > run.created_at
              AND newer.storage_node_id IS NOT DISTINCT FROM run.storage_node_id
              AND newer.repository_id IS NOT DISTINCT FROM run.repository_id
              AND (run.kind <> 'audit' OR newer.volume_id IS NOT DISTINCT FROM run.volume_id)))`;
      const isLast = old.length < limit;
      return { pruned, next: isLast ? null : { finishedAt: last.finished_at, id: last.id } };
    });
  }
}
