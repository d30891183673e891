// What the catalog knows for metrics, in few statements however many rows there are.
import type { Scope } from './scope.ts';

export interface VolumeBackupFacts {
  volume: string;
  /** Null: there is no good backup. */
  ageSeconds: number | null;
  storedBytes: number | null;
  sentBytes: number | null;
  durationSeconds: number | null;
}

export interface CatalogCounts {
  runs: { state: 'queued' | 'delayed' | 'running' | 'cleaning-up'; count: number }[];
  deliveriesPending: number;
  scheduleLagSeconds: number;
}

export class MetricsRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  async counts(): Promise<CatalogCounts> {
    const [row] = await this.#scope.read(
      db => db.$queryRaw<Record<string, number | null>[]>`
        SELECT
          count(*) FILTER (WHERE state = 'queued' AND (not_before IS NULL OR not_before <= now()))::int AS queued,
          count(*) FILTER (WHERE state IN ('queued', 'running') AND not_before > now())::int AS delayed,
          count(*) FILTER (WHERE state = 'running' AND (not_before IS NULL OR not_before <= now()))::int AS running,
          count(*) FILTER (WHERE cleanup_pending)::int AS cleaning,
          (SELECT count(*)::int FROM webhook_delivery WHERE state = 'pending') AS deliveries,
          EXTRACT(EPOCH FROM now() - LEAST(now(),
            (SELECT min(start_at) FROM policy_firing WHERE state = 'planned'),
            (SELECT min(next_due_at) FROM policy WHERE enabled)))::float8 AS lag
        FROM run WHERE state IN ('queued', 'running') OR cleanup_pending`,
    );
    const { queued, delayed, running, cleaning, deliveries, lag } = row!;
    return {
      runs: [
        { state: 'queued', count: queued ?? 0 },
        { state: 'delayed', count: delayed ?? 0 },
        { state: 'running', count: running ?? 0 },
        { state: 'cleaning-up', count: cleaning ?? 0 },
      ],
      deliveriesPending: deliveries ?? 0,
      scheduleLagSeconds: lag ?? 0,
    };
  }

  /** The newest good backup of each volume that is ready, oldest volumes first: at most `limit`, and how many more. */
  async volumes(limit: number): Promise<{ volumes: VolumeBackupFacts[]; leftOut: number }> {
    return this.#scope.read(async db => {
      const volumes = await db.$queryRaw<VolumeBackupFacts[]>`
        SELECT volume.name AS volume,
          EXTRACT(EPOCH FROM now() - newest.point_in_time)::float8 AS "ageSeconds",
          newest.stored_bytes::float8 AS "storedBytes", newest.sent_bytes::float8 AS "sentBytes",
          EXTRACT(EPOCH FROM newest.finished_at - newest.created_at)::float8 AS "durationSeconds"
        FROM volume LEFT JOIN LATERAL (
          SELECT * FROM backup WHERE volume_id = volume.id AND state IN ('available', 'hidden')
            AND point_in_time IS NOT NULL AND NOT distrusted AND damage IS NULL
            AND verify_result IS DISTINCT FROM 'damaged'
          ORDER BY created_at DESC, id DESC LIMIT 1) AS newest ON true
        WHERE volume.state = 'ready' ORDER BY volume.created_at, volume.id LIMIT ${limit}`;
      const all = await db.volume.count({ where: { state: 'ready' } });
      return { volumes, leftOut: Math.max(0, all - volumes.length) };
    });
  }
}
