// Runs as a worker drives them. Who holds the lease may write; every write checks the epoch on the locked
// row, so that a worker that was taken for dead cannot change what its successor does.
import { dropLeases } from './backup-lease-repository.ts';
import { CatalogError } from './errors.ts';
import type { Prisma } from './generated/client.ts';
import { json } from './json.ts';
import {
  type JsonObject,
  type Run,
  type RunControls,
  type RunError,
  type RunProgress,
  toRun,
  withSteps,
} from './run.ts';
import type { Db, Scope } from './scope.ts';

export interface Lease {
  runId: string;
  owner: string;
  /** Grows with every claim; storage nodes refuse a lower one. */
  epoch: number;
}

export interface RunEnd {
  state: 'succeeded' | 'failed' | 'cancelled';
  result?: JsonObject | null;
  error?: RunError | null;
  /** A storage node did not answer while steps were undone: the rest is tried again after this long. */
  cleanupInMs?: number;
}

export interface RunFacts {
  reason?: string;
  /** When the run reached its point in time. */
  checkpointAt?: Date;
  progress?: Partial<RunProgress>;
  /** What is known of it before its end. */
  result?: JsonObject;
  /** What failed before does not count against the run any more. */
  goesOn?: boolean;
}

export interface HandBack {
  /** Until the next attempt. */
  delayMs: number;
  /** What failed; none: nothing did. */
  error?: RunError;
  /** By now, since the run's last progress. Such a failure counts by its time, and not with the others in a row. */
  targetAwayMs?: number;
}

const FRESH = { failuresInARow: 0, targetAwayMs: 0, takeovers: 0 } as const;

interface ControlRow {
  cancel_requested: boolean;
  pause_requested: boolean;
  finish_requested: boolean;
  speed_bytes_per_second: bigint | null;
}

export class RunLeaseRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /**
   * Takes the run for `leaseMs`, at the next epoch; a queued one is running from then on. Null when there is
   * nothing to do: the run has ended, waits, is held by a live worker, or is at another attempt.
   */
  claim(
    runId: string,
    options: { owner: string; leaseMs: number; attempt: number },
  ): Promise<{ run: Run; lease: Lease } | null> {
    const { owner, leaseMs, attempt } = options;
    return this.#scope.write(async (db, tell) => {
      const claimed = await db.$queryRaw<{ lease_epoch: number }[]>`
        UPDATE run SET lease_owner = ${owner}, lease_epoch = lease_epoch + 1,
          lease_until = now() + ${leaseMs}::float8 * interval '1 millisecond', lease_ms = ${leaseMs}::float8,
          not_before = NULL,
          -- A queue job that was delivered again comes here before the dispatcher has seen that the lease ran out.
          takeovers = takeovers + CASE WHEN lease_until IS NULL THEN 0 ELSE 1 END,
          state = CASE WHEN state = 'queued' THEN 'running' ELSE state END,
          started_at = COALESCE(started_at, now())
        WHERE id = ${runId}::uuid AND attempt = ${attempt}
          AND (state IN ('queued', 'running') OR cleanup_pending)
          AND (lease_until IS NULL OR lease_until < now())
          AND (not_before IS NULL OR not_before <= now())
        RETURNING lease_epoch`;
      const epoch = claimed[0]?.lease_epoch;
      if (epoch === undefined) return null;
      const row = await db.run.findUniqueOrThrow({ where: { id: runId }, include: withSteps });
      tell({
        kind: 'run-claimed',
        subjectType: 'run',
        subjectId: runId,
        runId,
        data: { owner, epoch, attempt },
      });
      return { run: toRun(row), lease: { runId, owner, epoch } };
    });
  }

  /** Holds the run for another `leaseMs`; tells what was asked of it meanwhile. Rejects `superseded`. */
  renew(lease: Lease, leaseMs: number): Promise<RunControls & { cancelRequested: boolean }> {
    return this.#scope.single(async db => {
      const rows = await db.$queryRaw<ControlRow[]>`
        UPDATE run SET lease_until = now() + ${leaseMs}::float8 * interval '1 millisecond',
          lease_ms = ${leaseMs}::float8
        WHERE id = ${lease.runId}::uuid AND lease_epoch = ${lease.epoch} AND lease_owner = ${lease.owner}
        RETURNING cancel_requested, pause_requested, finish_requested, speed_bytes_per_second`;
      if (!rows[0]) throw superseded(lease);
      const { cancel_requested, pause_requested, finish_requested, speed_bytes_per_second } = rows[0];
      return {
        cancelRequested: cancel_requested,
        pauseRequested: pause_requested,
        finishRequested: finish_requested,
        speedBytesPerSecond: speed_bytes_per_second === null ? null : Number(speed_bytes_per_second),
      };
    });
  }

  /** A step begins, or begins again. Rejects `superseded`. */
  async startStep(lease: Lease, name: string): Promise<void> {
    const begun = await this.#scope.single(
      db => db.$queryRaw<unknown[]>`
        WITH held AS (
          SELECT id FROM run WHERE id = ${lease.runId}::uuid AND lease_epoch = ${lease.epoch}
            AND lease_owner = ${lease.owner} FOR UPDATE)
        INSERT INTO run_step (run_id, name, position, state, started_at)
        SELECT id, ${name}, (SELECT count(*) FROM run_step WHERE run_id = held.id), 'running', ${this.#scope.now()}
        FROM held
        ON CONFLICT (run_id, name) DO UPDATE SET state = 'running', finished_at = NULL
        RETURNING 1`,
    );
    if (begun.length === 0) throw superseded(lease);
  }

  /**
   * The step is done; what it gave is kept for later steps, attempts and the undo, and earlier failures do not count
   * against the run any more. With `next`, that step begins at the same moment, as by `startStep`. Rejects
   * `superseded`.
   */
  async finishStep(
    lease: Lease,
    name: string,
    output: JsonObject,
    { next = null }: { next?: string | null } = {},
  ): Promise<void> {
    const now = this.#scope.now();
    const done = await this.#scope.single(
      db => db.$queryRaw<unknown[]>`
        WITH held AS (
          UPDATE run SET failures_in_a_row = 0, target_away_ms = 0, takeovers = 0 WHERE id = ${lease.runId}::uuid
            AND lease_epoch = ${lease.epoch} AND lease_owner = ${lease.owner} RETURNING id),
        begun AS (
          INSERT INTO run_step (run_id, name, position, state, started_at)
          SELECT id, ${next}, (SELECT count(*) FROM run_step WHERE run_id = held.id), 'running', ${now}
          FROM held WHERE ${next}::text IS NOT NULL
          ON CONFLICT (run_id, name) DO UPDATE SET state = 'running', finished_at = NULL)
        UPDATE run_step SET state = 'succeeded', output = ${JSON.stringify(output)}::jsonb, error = NULL,
          finished_at = ${now}
        FROM held WHERE run_id = held.id AND name = ${name}
        RETURNING 1`,
    );
    if (done.length === 0) throw superseded(lease);
  }

  /** Rejects `superseded`. */
  failStep(lease: Lease, name: string, error: RunError): Promise<void> {
    const data = { state: 'failed', error: json(error) };
    return this.#holding(lease, db => this.#setStep(db, { lease, name, data }));
  }

  /** Nothing of the step is left anywhere. Rejects `superseded`. */
  markUndone(lease: Lease, name: string): Promise<void> {
    return this.#holding(lease, db => this.#setStep(db, { lease, name, data: { state: 'undone' } }));
  }

  /** Rejects `superseded`. */
  update(lease: Lease, facts: RunFacts): Promise<void> {
    const { reason, checkpointAt, result, progress = {}, goesOn = false } = facts;
    const sizes = Object.entries(progress).map(([name, value]) => [name, BigInt(value)]);
    const data = {
      ...Object.fromEntries(sizes),
      ...(goesOn && FRESH),
      ...(reason !== undefined && { reason }),
      ...(result !== undefined && { result: json(result) }),
      ...(checkpointAt !== undefined && { checkpointAt }),
    };
    if (checkpointAt === undefined) return this.#updateRun(lease, data);
    return this.#holding(lease, async (db, tell) => {
      await db.run.update({ where: { id: lease.runId }, data });
      const told = { checkpointAt: checkpointAt.toISOString() };
      tell({
        kind: 'run-checkpoint-reached',
        subjectType: 'run',
        subjectId: lease.runId,
        runId: lease.runId,
        data: told,
      });
    });
  }

  /**
   * The run begins anew from an earlier step, whose undoing is the caller's to do; returns how often it has done so
   * by now. Rejects `superseded`.
   */
  startOver(lease: Lease, { step, error }: { step: string; error: RunError }): Promise<number> {
    return this.#holding(lease, async (db, tell) => {
      const { restarts } = await db.run.update({
        where: { id: lease.runId },
        data: { restarts: { increment: 1 }, checkpointAt: null, ...FRESH },
      });
      const data = { step, restarts, ...json(error) };
      tell({
        kind: 'run-started-over',
        subjectType: 'run',
        subjectId: lease.runId,
        runId: lease.runId,
        data,
      });
      return restarts;
    });
  }

  /** From here on the run only goes backwards, whoever works on it. Rejects `superseded`. */
  beginUndo(lease: Lease, error: RunError): Promise<void> {
    return this.#holding(lease, async (db, tell) => {
      await db.run.update({
        where: { id: lease.runId },
        data: { undoing: true, error: json(error), takeovers: 0 },
      });
      const data = json(error);
      tell({ kind: 'run-undoing', subjectType: 'run', subjectId: lease.runId, runId: lease.runId, data });
    });
  }

  /**
   * The run has ended and the lease with it, and the leases it held on backups, unless storage nodes may still work
   * for it. Rejects `superseded`.
   */
  finish(lease: Lease, end: RunEnd): Promise<void> {
    return this.#holding(lease, async (db, tell) => {
      if (end.cleanupInMs === undefined) await dropLeases(db, 'run', lease.runId);
      else await nextAttempt(db, lease, { delayMs: end.cleanupInMs, failures: 0, inARow: 0 });
      await db.run.update({
        where: { id: lease.runId },
        data: {
          state: end.state,
          cleanupPending: end.cleanupInMs !== undefined,
          // From here on they count the tries to clean up.
          ...(end.cleanupInMs !== undefined && FRESH),
          leaseOwner: null,
          leaseUntil: null,
          finishedAt: this.#scope.now(),
          ...(end.result && { result: json(end.result) }),
          ...(end.error && { error: json(end.error) }),
        },
      });
      const data = end.error ? json(end.error) : {};
      tell({
        kind: `run-${end.state}`,
        subjectType: 'run',
        subjectId: lease.runId,
        runId: lease.runId,
        data,
      });
    });
  }

  /**
   * What a storage node that was away had left is gone now, or `left` tells why no more is tried. Rejects
   * `superseded`.
   */
  finishCleanup(lease: Lease, left: RunError | null): Promise<void> {
    return this.#holding(lease, async (db, tell) => {
      await dropLeases(db, 'run', lease.runId);
      await db.run.update({
        where: { id: lease.runId },
        data: { cleanupPending: false, leaseOwner: null, leaseUntil: null },
      });
      const kind = left === null ? 'run-cleaned-up' : 'run-cleanup-given-up';
      tell({
        kind,
        subjectType: 'run',
        subjectId: lease.runId,
        runId: lease.runId,
        data: left ? json(left) : {},
      });
    });
  }

  /**
   * Gives the run back for another attempt, not before `delayMs` from now. With `error` it counts as a
   * failure, without one (a worker that stops) it does not. Returns the new attempt. Rejects `superseded`.
   */
  handBack(lease: Lease, { delayMs, error, targetAwayMs }: HandBack): Promise<number> {
    return this.#holding(lease, async (db, tell) => {
      const isAway = targetAwayMs !== undefined;
      if (isAway) await db.run.update({ where: { id: lease.runId }, data: { targetAwayMs } });
      const failures = error ? 1 : 0;
      const attempt = await nextAttempt(db, lease, { delayMs, failures, inARow: isAway ? 0 : failures });
      const kind = error ? 'run-retrying' : 'run-handed-back';
      const data = { attempt, ...(error && json(error)) };
      tell({ kind, subjectType: 'run', subjectId: lease.runId, runId: lease.runId, data });
      return attempt;
    });
  }

  async #updateRun(lease: Lease, data: Prisma.RunUpdateManyMutationInput): Promise<void> {
    const where = { id: lease.runId, leaseEpoch: lease.epoch, leaseOwner: lease.owner };
    const { count } = await this.#scope.single(db => db.run.updateMany({ where, data }));
    if (count === 0) throw superseded(lease);
  }

  async #setStep(
    db: Db,
    { lease, name, data }: { lease: Lease; name: string; data: Prisma.RunStepUpdateInput },
  ): Promise<void> {
    await db.runStep.update({
      where: { runId_name: { runId: lease.runId, name } },
      data: { ...data, finishedAt: this.#scope.now() },
    });
  }

  /** Does `use` while the row is locked and the lease is known to be ours. */
  #holding<T>(lease: Lease, use: (db: Db, tell: Parameters<Parameters<Scope['write']>[0]>[1]) => Promise<T>) {
    return this.#scope.write(async (db, tell) => {
      const held = await db.$queryRaw<unknown[]>`
        SELECT 1 FROM run WHERE id = ${lease.runId}::uuid AND lease_epoch = ${lease.epoch}
          AND lease_owner = ${lease.owner} FOR UPDATE`;
      if (held.length === 0) throw superseded(lease);
      return use(db, tell);
    });
  }
}

/** Gives the row back: free, at the next attempt, not to be begun before `delayMs` from now. */
async function nextAttempt(
  db: Db,
  lease: Lease,
  { delayMs, failures, inARow }: { delayMs: number; failures: number; inARow: number },
): Promise<number> {
  const rows = await db.$queryRaw<{ attempt: number }[]>`
    UPDATE run SET attempt = attempt + 1, failures = failures + ${failures}::int,
      failures_in_a_row = failures_in_a_row + ${inARow}::int,
      lease_owner = NULL, lease_until = NULL,
      not_before = now() + ${delayMs}::float8 * interval '1 millisecond', delay_ms = ${delayMs}::float8,
      state = CASE WHEN state = 'running' THEN 'queued' ELSE state END
    WHERE id = ${lease.runId}::uuid RETURNING attempt`;
  return rows[0]!.attempt;
}

function superseded(lease: Lease): CatalogError {
  return new CatalogError(
    'run',
    'superseded',
    `Run ${lease.runId} is no longer worked on by ${lease.owner} at epoch ${lease.epoch}; ` +
      'a newer attempt holds it, or it has ended.',
  );
}
