// Runs as operators see them: asked for, looked at, cancelled; and what the dispatcher hands to the queue.
import type { EventKind } from '@tidemark/proto';
import { CatalogError, notFound } from './errors.ts';
import { Prisma } from './generated/client.ts';
import { latestPossible } from './moments.ts';
import { between, type Page, type PageOptions, pageQuery, toPage } from './page.ts';
import { isId } from './ref.ts';
import {
  hasEnded,
  type JsonObject,
  type Run,
  type RunControls,
  type RunKind,
  type RunProgress,
  type RunState,
  toRun,
  withSteps,
} from './run.ts';
import type { Db, Scope } from './scope.ts';
import { type Viewer, viewerOf } from './visibility.ts';
import { isRunVisible } from './visible-rows.ts';

export interface NewRun {
  id: string;
  kind: RunKind;
  request: JsonObject;
  storageNodeId?: string | null;
  volumeId?: string | null;
  checkpointId?: string | null;
  repositoryId?: string | null;
  backupId?: string | null;
  reason?: string | null;
  /** Default: on whose behalf the catalog is used; `system` where nobody's. */
  requestedBy?: string;
  /** Its place among runs that wait: 0, the default, before all others, then the lower number first. */
  priority?: number;
  /** As what it belongs to was told before it was made. */
  controls?: Pick<RunControls, 'pauseRequested' | 'speedBytesPerSecond'>;
}

export interface RunFilter {
  state?: RunState | undefined;
  kind?: RunKind | undefined;
  volumeId?: string | undefined;
  storageNodeId?: string | undefined;
  repositoryId?: string | undefined;
  requestedBy?: string | undefined;
  /** Asked for from here on, and before. */
  since?: Date | undefined;
  until?: Date | undefined;
}

/** How far a run is that goes on. */
export interface RunningRun extends RunProgress {
  id: string;
  kind: string;
  volumeId: string | null;
  /** The one begun last. */
  step: string | null;
}

export interface DispatchableRun {
  id: string;
  attempt: number;
  priority: number;
}

type TakenOverRun = Omit<DispatchableRun, 'priority'>;

type Wanted = Partial<RunControls & Pick<Run, 'cancelRequested' | 'notBefore'>>;

function columnsOf({ speedBytesPerSecond: speed, ...flags }: Wanted) {
  if (speed === undefined) return flags;
  return { ...flags, speedBytesPerSecond: speed === null ? null : BigInt(speed) };
}

export class RunRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** Of the runs that are worked on, the newest `limit`. */
  async listRunning(limit: number): Promise<RunningRun[]> {
    const rows = await this.#scope.read(db =>
      db.run.findMany({
        where: { state: 'running' },
        orderBy: { createdAt: 'desc' },
        take: limit,
        include: { steps: { orderBy: { position: 'desc' }, take: 1, select: { name: true } } },
      }),
    );
    return rows.map(({ id, kind, volumeId, steps, ...row }) => ({
      ...{ id, kind, volumeId, step: steps[0]?.name ?? null },
      currentBytes: Number(row.currentBytes),
      totalBytes: Number(row.totalBytes),
      sentBytes: Number(row.sentBytes),
      dirtyBytes: Number(row.dirtyBytes),
    }));
  }

  /** Those that whoever asks sees, of runs that are known to all. */
  async visibleAmong<T extends Pick<Run, 'id'>>(runs: readonly T[]): Promise<readonly T[]> {
    const viewer = viewerOf(this.#scope);
    if (runs.length === 0 || viewer === null) return runs;
    const ids = runs.map(run => run.id);
    const rows = await this.#scope.read(
      db => db.$queryRaw<{ id: string }[]>`
        SELECT id FROM run WHERE id = ANY(${ids}::uuid[]) AND ${isRunVisible(viewer)}`,
    );
    const seen = new Set(rows.map(row => row.id));
    return runs.filter(run => seen.has(run.id));
  }

  /** State `queued`, attempt 1. Create the nouns it makes in the same transaction. */
  create(run: NewRun): Promise<Run> {
    return this.#scope.write(async (db, tell) => {
      const { controls, requestedBy = this.#scope.acting()?.name ?? 'system', ...rest } = run;
      const data = { ...rest, ...(controls && columnsOf(controls)), requestedBy, state: 'queued' };
      const row = await db.run.create({ data });
      const { kind, backupId, createdAt } = row;
      if (kind === 'verify' && backupId !== null) {
        await db.backup.updateMany({ where: { id: backupId }, data: { verifyTriedAt: createdAt } });
      }
      tell({
        kind: 'run-queued',
        subjectType: 'run',
        subjectId: row.id,
        runId: row.id,
        data: { kind: row.kind },
      });
      return toRun({ ...row, steps: [] });
    });
  }

  async find(id: string): Promise<Run | null> {
    if (!isId(id)) return null;
    const row = await this.#scope.read(db => db.run.findUnique({ where: { id }, include: withSteps }));
    if (!row) return null;
    const [run] = await this.visibleAmong([toRun(row)]);
    return run ?? null;
  }

  /** Rejects `not-found`. */
  async get(id: string): Promise<Run> {
    const run = await this.find(id);
    if (!run) throw notFound('run', id);
    return run;
  }

  /**
   * How far those runs are, whoever asks: at their point in time, or ended; others are left out. Of runs that whoever
   * asks has seen already.
   */
  async places(ids: readonly string[]): Promise<Map<string, 'checkpoint' | 'ended'>> {
    const rows = await this.#scope.read(
      db => db.$queryRaw<{ id: string; ended: boolean }[]>`
        SELECT id, state NOT IN ('queued', 'running') AS ended FROM run WHERE id = ANY(${[...ids]}::uuid[])
          AND (state NOT IN ('queued', 'running') OR (checkpoint_at IS NOT NULL AND error IS NULL))`,
    );
    return new Map(rows.map(({ id, ended }) => [id, ended ? 'ended' : 'checkpoint']));
  }

  /** Newest first. */
  list(options: PageOptions & RunFilter = {}): Promise<Page<Run>> {
    const page = pageQuery(options, 'desc');
    const { state, kind, volumeId, storageNodeId, repositoryId, requestedBy, since, until } = options;
    const filter = {
      ...(storageNodeId !== undefined && { storageNodeId }),
      ...(repositoryId !== undefined && { repositoryId }),
      ...(requestedBy !== undefined && { requestedBy }),
      ...between('createdAt', since, until),
      ...(state !== undefined && { state }),
      ...(kind !== undefined && { kind }),
      ...(volumeId !== undefined && { volumeId }),
    };
    const { orderBy, take } = page;
    const viewer = viewerOf(this.#scope);
    return this.#scope.read(async db => {
      const seen = viewer === null ? {} : { id: { in: await visibleIds(db, viewer, options) } };
      const where = { AND: [page.after, filter, seen] };
      const rows = await db.run.findMany({ where, orderBy, take, include: withSteps });
      return toPage(rows, page.limit, toRun);
    });
  }

  /**
   * Only a request: the run is undone and ends as `cancelled` soon after. A run that waits for its next
   * attempt need not wait any longer. Good to repeat. Rejects `not-found`, `ended`.
   */
  requestCancel(id: string): Promise<Run> {
    const wanted = { cancelRequested: true, notBefore: null };
    return this.#ask(id, { kind: 'run-cancel-requested', wanted, what: 'cancel' });
  }

  /** Its job is to stand still, or to go on. Good to repeat. Rejects `not-found`, `ended`. */
  requestPause(id: string, pauseRequested: boolean): Promise<Run> {
    const what = pauseRequested ? 'pause' : 'resume';
    return this.#ask(id, { kind: `run-${what}-requested`, wanted: { pauseRequested }, what });
  }

  /** A run that goes on until somebody says so is to end well. Good to repeat. Rejects `not-found`, `ended`. */
  requestFinish(id: string): Promise<Run> {
    return this.#ask(id, { kind: 'run-finish-requested', wanted: { finishRequested: true }, what: 'finish' });
  }

  /** Those of them that wait need not wait any longer: what they waited for may be there. */
  wake(ids: readonly string[]): Promise<void> {
    return this.#scope.write(async db => {
      const where = { id: { in: [...ids] }, state: 'queued', leaseUntil: null, notBefore: { not: null } };
      await db.run.updateMany({ where, data: { notBefore: null } });
    });
  }

  /** 0: no limit. Good to repeat. Rejects `not-found`, `ended`. */
  requestSpeed(id: string, speedBytesPerSecond: number): Promise<Run> {
    return this.#ask(id, { kind: 'run-speed-requested', wanted: { speedBytesPerSecond }, what: 'hold back' });
  }

  #ask(id: string, { kind, wanted, what }: { kind: EventKind; wanted: Wanted; what: string }): Promise<Run> {
    return this.#scope.write(async (db, tell) => {
      await db.$queryRaw`SELECT 1 FROM run WHERE id = ${id}::uuid FOR UPDATE`;
      const run = await this.get(id);
      if (hasEnded(run)) {
        const text = `Run ${id} has ended already: it is ${run.state}, and nothing is left to ${what}.`;
        throw new CatalogError('run', 'ended', text);
      }
      const { notBefore: _, ...controls } = wanted;
      const isKnown = Object.entries(controls).every(([name, value]) => run[name as keyof Run] === value);
      if (isKnown) return run;
      await db.run.update({ where: { id }, data: columnsOf(wanted) });
      tell({ kind, subjectType: 'run', subjectId: id, runId: id, data: { ...controls } });
      return { ...run, ...controls };
    });
  }

  /**
   * Creates the run when it is due, as the newest of its kind about the same storage node and volume tells; null
   * otherwise. Of several workers that ask at the same time one creates it. While one of its kind has not ended on the
   * storage node none is due, whatever volume that is about.
   * Those of a time that is still to come, from before a clock was set back, tell nothing.
   */
  createWhenDue(
    run: NewRun & { storageNodeId: string },
    isDue: (newest: Run | null, now: Date) => boolean,
  ): Promise<Run | null> {
    const { kind, storageNodeId, volumeId = null } = run;
    return this.#scope.write(async db => {
      await db.$queryRaw`SELECT 1 FROM storage_node WHERE id = ${storageNodeId}::uuid FOR UPDATE`;
      const unended = await db.run.count({
        where: { kind, storageNodeId, state: { in: ['queued', 'running'] } },
      });
      if (unended > 0) return null;
      const now = this.#scope.now();
      const row = await db.run.findFirst({
        where: { kind, storageNodeId, volumeId, createdAt: { lte: latestPossible(now) } },
        orderBy: [{ createdAt: 'desc' }, { id: 'desc' }],
        include: withSteps,
      });
      return isDue(row && toRun(row), now) ? this.create(run) : null;
    });
  }

  /** Those like `newest` that a schedule asked for and that found nothing: only the newest of them tells anything. */
  deleteDull({ id, kind, storageNodeId }: Pick<Run, 'id' | 'kind' | 'storageNodeId'>): Promise<void> {
    return this.#scope.write(async db => {
      await db.$executeRaw`
        DELETE FROM run WHERE kind = ${kind} AND storage_node_id = ${storageNodeId}::uuid AND state = 'succeeded'
          AND request->>'cause' = 'interval' AND result->>'open' = '0' AND result->>'repaired' = '0'
          AND id <> ${id}::uuid`;
    });
  }

  /** By the clock that leases and delays count by. */
  databaseTime(): Promise<Date> {
    return this.#scope.read(async db => {
      const rows = await db.$queryRaw<{ now: Date }[]>`SELECT now() AS now`;
      return rows[0]!.now;
    });
  }

  /**
   * Gives runs whose worker let the lease run out to the queue again, as a new attempt. Run it before
   * `listDispatchable`. A clock that is set back lets nobody wait longer than a lease or a delay lasts.
   */
  takeOverExpired(): Promise<TakenOverRun[]> {
    return this.#scope.write(async (db, tell) => {
      await boundWaits(db);
      const rows = await db.$queryRaw<(TakenOverRun & { owner: string })[]>`
        UPDATE run SET attempt = attempt + 1, takeovers = takeovers + 1, lease_until = NULL, lease_owner = NULL,
          state = CASE WHEN state = 'running' THEN 'queued' ELSE state END
        FROM (SELECT id AS old_id, lease_owner AS owner FROM run
              WHERE lease_until < now() AND (state IN ('queued', 'running') OR cleanup_pending)
              FOR UPDATE SKIP LOCKED) AS expired
        WHERE id = old_id RETURNING id, attempt, owner`;
      for (const { id, attempt, owner } of rows) {
        tell({
          kind: 'run-taken-over',
          subjectType: 'run',
          subjectId: id,
          runId: id,
          data: { attempt, owner },
        });
      }
      return rows.map(({ id, attempt }) => ({ id, attempt }));
    });
  }

  /** Runs that wait for a worker and may start now, oldest first: each should have a queue job. */
  async listDispatchable(limit: number): Promise<DispatchableRun[]> {
    return this.#scope.read(
      db => db.$queryRaw<DispatchableRun[]>`
        SELECT id, attempt, priority FROM run
        WHERE (state = 'queued' OR cleanup_pending) AND lease_until IS NULL
          AND (not_before IS NULL OR not_before <= now())
        ORDER BY priority, created_at, id LIMIT ${limit}`,
    );
  }
}

/**
 * Leases and delays that end later than they last, from now: the clock was set back since. They begin anew. Who is
 * alive renews the lease, and keeps the run. The second is for a renewal that was committed after `now()`.
 */
async function boundWaits(db: Db): Promise<void> {
  await db.$executeRaw`
    UPDATE run SET
      lease_until = CASE WHEN lease_until IS NULL THEN NULL
        ELSE LEAST(lease_until, now() + lease_ms * interval '1 millisecond') END,
      not_before = CASE WHEN not_before IS NULL THEN NULL
        ELSE LEAST(not_before, now() + delay_ms * interval '1 millisecond') END
    WHERE id IN (SELECT id FROM run
      WHERE (state IN ('queued', 'running') OR cleanup_pending)
        AND (lease_until > now() + (lease_ms + 1000) * interval '1 millisecond'
          OR not_before > now() + (delay_ms + 1000) * interval '1 millisecond')
      FOR UPDATE SKIP LOCKED)`;
}

/** Of the next page for whoever sees some volumes alone. */
async function visibleIds(db: Db, viewer: Viewer, options: PageOptions & RunFilter): Promise<string[]> {
  const { key, take } = pageQuery(options, 'desc');
  const { state, kind, volumeId, storageNodeId, repositoryId, requestedBy, since, until } = options;
  const conditions = [
    isRunVisible(viewer),
    ...(key ? [Prisma.sql`(created_at, id) < (${key.createdAt}, ${key.id}::uuid)`] : []),
    ...(state !== undefined ? [Prisma.sql`state = ${state}`] : []),
    ...(kind !== undefined ? [Prisma.sql`kind = ${kind}`] : []),
    ...(volumeId !== undefined ? [Prisma.sql`volume_id = ${volumeId}::uuid`] : []),
    ...(storageNodeId !== undefined ? [Prisma.sql`storage_node_id = ${storageNodeId}::uuid`] : []),
    ...(repositoryId !== undefined ? [Prisma.sql`repository_id = ${repositoryId}::uuid`] : []),
    ...(requestedBy !== undefined ? [Prisma.sql`requested_by = ${requestedBy}`] : []),
    ...(since !== undefined ? [Prisma.sql`created_at >= ${since}`] : []),
    ...(until !== undefined ? [Prisma.sql`created_at < ${until}`] : []),
  ];
  const rows = await db.$queryRaw<{ id: string }[]>`
    SELECT id FROM run WHERE ${Prisma.join(conditions, ' AND ')}
    ORDER BY created_at DESC, id DESC LIMIT ${take}`;
  return rows.map(({ id }) => id);
}
