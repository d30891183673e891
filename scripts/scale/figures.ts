// What the catalog says of a stretch of time: how late firings were, and how many runs were done.
import type { Client } from 'pg';

export interface Quantiles {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly most: number;
}

/** Of values in any order; all 0 when there are none. */
export function quantiles(values: readonly number[]): Quantiles {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), most: sorted.at(-1) ?? 0 };
}

/** Milliseconds from when a firing was due to the start of each of its backups' runs at a worker. */
export async function scheduleLag(database: Client, since: Date): Promise<Quantiles> {
  const { rows } = await database.query<{ lag: string }>(
    `select extract(epoch from run.started_at - firing.due_at) * 1000 as lag
     from policy_firing_member member
     join policy_firing firing on firing.id = member.firing_id
     join run on run.id = member.run_id
     where firing.due_at >= $1 and firing.cause = 'schedule' and run.started_at is not null`,
    [since],
  );
  return quantiles(rows.map(({ lag }) => Number(lag)));
}

export interface Throughput {
  readonly runs: number;
  readonly failed: number;
  /** From the first that was created to the last that ended. */
  readonly seconds: number;
  readonly perSecond: number;
  /** Milliseconds of each from creation to its end. */
  readonly tookMs: Quantiles;
}

export async function throughput(database: Client, kind: string, since: Date): Promise<Throughput> {
  const { rows } = await database.query<{ state: string; created_at: Date; finished_at: Date }>(
    `select state, created_at, finished_at from run
     where kind = $1 and created_at >= $2 and finished_at is not null`,
    [kind, since],
  );
  const began = Math.min(...rows.map(row => row.created_at.getTime()));
  const ended = Math.max(...rows.map(row => row.finished_at.getTime()));
  const seconds = rows.length > 0 ? (ended - began) / 1_000 : 0;
  return {
    runs: rows.length,
    failed: rows.filter(({ state }) => state !== 'succeeded').length,
    seconds,
    perSecond: seconds > 0 ? rows.length / seconds : 0,
    tookMs: quantiles(rows.map(row => row.finished_at.getTime() - row.created_at.getTime())),
  };
}

/** Firings and runs that have not ended. */
export async function unended(database: Client): Promise<number> {
  const { rows } = await database.query<{ left: string }>(
    `select (select count(*) from run where state in ('queued', 'running'))
          + (select count(*) from policy_firing where state in ('planned', 'running')) as left`,
  );
  return Number(rows[0]!.left);
}
