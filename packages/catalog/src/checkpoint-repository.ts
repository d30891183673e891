// Checkpoints: named points in time of a volume. The bitmaps behind them are the storage node's.
import { CatalogError, nameTaken, notFound } from './errors.ts';
import type { CheckpointModel } from './generated/models.ts';
import { momentAfter } from './moments.ts';
import { type Page, type PageOptions, pageQuery, toPage } from './page.ts';
import { byRef } from './ref.ts';
import type { Db, Scope } from './scope.ts';

export type CheckpointState = 'creating' | 'ready' | 'deleting';

export interface Checkpoint {
  id: string;
  volumeId: string;
  name: string;
  description: string;
  state: CheckpointState;
  /** Null until the storage node has made it. */
  pointInTime: Date | null;
  createdAt: Date;
  /** The backup that the volume was restored from, where this is the first checkpoint of a restored volume. */
  originBackupId: string | null;
  /** Until then it goes neither by retention nor when it is asked for. */
  pinnedUntil: Date | null;
  /** Ids of the available backups that hold this moment. */
  backups: string[];
}

export interface NewCheckpoint {
  id: string;
  volumeId: string;
  name: string;
  description?: string;
  /** The backup that the volume was restored from, of the first checkpoint of a restored volume. */
  originBackupId?: string | null;
}

export interface CheckpointTexts {
  name: string;
  description: string;
}

/** As a storage node has it. */
export interface FoundCheckpoint extends NewCheckpoint {
  pointInTime: Date;
  originBackupId: string | null;
}

async function withBackups(db: Db, rows: CheckpointModel[]): Promise<Checkpoint[]> {
  const backups = await db.backup.findMany({
    where: { checkpointId: { in: rows.map(row => row.id) }, state: 'available' },
    select: { id: true, checkpointId: true },
    orderBy: { createdAt: 'asc' },
  });
  return rows.map(row => ({
    ...row,
    state: row.state as CheckpointState,
    backups: backups.filter(backup => backup.checkpointId === row.id).map(backup => backup.id),
  }));
}

export class CheckpointRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** State `creating`, after all others of the volume. Rejects `name-taken` (names are unique within a volume). */
  create(checkpoint: NewCheckpoint, runId: string | null = null): Promise<Checkpoint> {
    return this.#scope.write(async (db, tell) => {
      const { volumeId } = checkpoint;
      const { _max } = await db.checkpoint.aggregate({ where: { volumeId }, _max: { createdAt: true } });
      const createdAt = momentAfter(this.#scope.now(), _max.createdAt);
      const row = await db.checkpoint
        .create({ data: { ...checkpoint, state: 'creating', createdAt } })
        .catch(nameTaken('checkpoint', checkpoint.name));
      const data = { name: row.name, volumeId: row.volumeId };
      tell({ kind: 'checkpoint-creating', subjectType: 'checkpoint', subjectId: row.id, runId, data });
      return { ...row, state: 'creating', backups: [] };
    });
  }

  /** By id, or by name within the volume. */
  async find(volumeId: string, ref: string): Promise<Checkpoint | null> {
    return this.#scope.read(async db => {
      const row = await db.checkpoint.findFirst({ where: { volumeId, ...byRef(ref) } });
      return row ? (await withBackups(db, [row]))[0]! : null;
    });
  }

  /** Rejects `not-found`. */
  async get(volumeId: string, ref: string): Promise<Checkpoint> {
    const checkpoint = await this.find(volumeId, ref);
    if (!checkpoint) throw notFound('checkpoint', ref);
    return checkpoint;
  }

  /** Oldest first. */
  list(volumeId: string, options: PageOptions = {}): Promise<Page<Checkpoint>> {
    const page = pageQuery(options, 'asc');
    return this.#scope.read(async db => {
      const rows = await db.checkpoint.findMany({
        where: { AND: [{ volumeId }, page.after] },
        orderBy: page.orderBy,
        take: page.take,
      });
      const { items, nextCursor } = toPage(rows, page.limit, row => row);
      return { items: await withBackups(db, items), nextCursor };
    });
  }

  /** How many a volume keeps: all but those that are being deleted. */
  count(volumeId: string): Promise<number> {
    return this.#scope.read(db => db.checkpoint.count({ where: { volumeId, state: { not: 'deleting' } } }));
  }

  /** The first of those that `count` counts, in the order of the chain. */
  oldest(volumeId: string, count: number): Promise<Checkpoint[]> {
    return this.#scope.read(async db =>
      withBackups(
        db,
        await db.checkpoint.findMany({
          where: { volumeId, state: { not: 'deleting' } },
          orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
          take: count,
        }),
      ),
    );
  }

  /**
   * The unended run that takes a name from a checkpoint of the volume, if there is one: until the storage node has
   * heard of it, the name is not free.
   */
  async renamedFrom(volumeId: string, name: string): Promise<string | null> {
    const rows = await this.#scope.read(
      db => db.$queryRaw<{ id: string }[]>`
        SELECT id FROM run
        WHERE volume_id = ${volumeId}::uuid AND kind = 'update-checkpoint' AND state IN ('queued', 'running')
          AND request->'previous'->>'name' = ${name} AND request->>'name' <> ${name} LIMIT 1`,
    );
    return rows[0]?.id ?? null;
  }

  /** Whether any of the volumes has a checkpoint of that name, or one that is still being renamed from it. */
  async isNameTaken(volumeIds: readonly string[], name: string): Promise<boolean> {
    const [row] = await this.#scope.read(
      db => db.$queryRaw<{ taken: boolean }[]>`
        SELECT EXISTS (SELECT 1 FROM checkpoint WHERE volume_id = ANY(${volumeIds}::uuid[]) AND name = ${name})
          OR EXISTS (
            SELECT 1 FROM run
            WHERE volume_id = ANY(${volumeIds}::uuid[]) AND kind = 'update-checkpoint'
              AND state IN ('queued', 'running')
              AND request->'previous'->>'name' = ${name} AND request->>'name' <> ${name}) AS taken`,
    );
    return row!.taken;
  }

  /** The unended run that brings a checkpoint's texts to the storage node, if there is one. */
  async updatedBy(id: string): Promise<string | null> {
    const where = { checkpointId: id, kind: 'update-checkpoint', state: { in: ['queued', 'running'] } };
    return (await this.#scope.read(db => db.run.findFirst({ where, select: { id: true } })))?.id ?? null;
  }

  /** Rejects `not-found`, `not-ready`, `name-taken`. */
  update(
    id: string,
    change: Partial<CheckpointTexts> & { pinnedUntil?: Date | null | undefined },
    runId: string | null,
  ): Promise<Checkpoint> {
    return this.#scope.write(async (db, tell) => {
      const before = await lockReady(db, id);
      const { name = before.name, description = before.description } = change;
      const { pinnedUntil = before.pinnedUntil } = change;
      const data = { name, description, pinnedUntil };
      const row = await db.checkpoint.update({ where: { id }, data }).catch(nameTaken('checkpoint', name));
      const told = { name, description, pinnedUntil: pinnedUntil?.toISOString() ?? null };
      tell({ kind: 'checkpoint-updated', subjectType: 'checkpoint', subjectId: id, runId, data: told });
      return (await withBackups(db, [row]))[0]!;
    });
  }

  /** Takes `from` back to `to`, as far as nobody has changed it since; a name that was taken meanwhile stays taken. */
  restoreTexts(id: string, from: CheckpointTexts, to: CheckpointTexts, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      await db.$queryRaw`SELECT 1 FROM checkpoint WHERE id = ${id}::uuid FOR UPDATE`;
      const row = await db.checkpoint.findUnique({ where: { id } });
      if (!row) return;
      const twin = await db.checkpoint.findFirst({ where: { volumeId: row.volumeId, name: to.name } });
      const isFree = twin === null || twin.id === id;
      const name = row.name === from.name && isFree ? to.name : row.name;
      const description = row.description === from.description ? to.description : row.description;
      await db.checkpoint.update({ where: { id }, data: { name, description } });
      const data = { name, description };
      tell({ kind: 'checkpoint-updated', subjectType: 'checkpoint', subjectId: id, runId, data });
    });
  }

  /**
   * Rows of what a storage node has, ready at once; all of them or none. Those that have rows already are left as
   * they are. Rejects `name-taken`.
   */
  import(found: readonly FoundCheckpoint[], runId: string | null): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      let newest = 0;
      for (const { pointInTime, ...checkpoint } of found) {
        if (await db.checkpoint.findUnique({ where: { id: checkpoint.id } })) continue;
        // Lists are in this order, which is to be the storage node's.
        newest = Math.max(pointInTime.getTime(), newest + 1);
        const data = { ...checkpoint, state: 'ready', pointInTime, createdAt: new Date(newest) };
        await db.checkpoint.create({ data }).catch(nameTaken('checkpoint', checkpoint.name));
        const told = { name: checkpoint.name, pointInTime: pointInTime.toISOString() };
        const about = { subjectType: 'checkpoint', subjectId: checkpoint.id, runId, data: told } as const;
        tell({ kind: 'checkpoint-imported', ...about });
      }
    });
  }

  /** The storage node has made it. Rejects `not-found`. */
  markReady(id: string, pointInTime: Date, runId: string | null): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { count } = await db.checkpoint.updateMany({
        where: { id },
        data: { state: 'ready', pointInTime },
      });
      if (count === 0) throw notFound('checkpoint', id);
      const data = { pointInTime: pointInTime.toISOString() };
      tell({ kind: 'checkpoint-ready', subjectType: 'checkpoint', subjectId: id, runId, data });
    });
  }

  /**
   * A deletion begins. Rejects `not-found`, `not-ready`, `pinned`, and `in-use` while a backup is made on it.
   */
  markDeleting(id: string, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const row = await lockReady(db, id);
      requireUnpinned(row, this.#scope.now());
      await requireUnused(db, row);
      await db.checkpoint.update({ where: { id }, data: { state: 'deleting' } });
      tell({ kind: 'checkpoint-deleting', subjectType: 'checkpoint', subjectId: id, runId });
    });
  }

  /** A deletion that was given up: `deleting` becomes `ready` again. */
  unmarkDeleting(id: string, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const where = { id, state: 'deleting' };
      const { count } = await db.checkpoint.updateMany({ where, data: { state: 'ready' } });
      if (count === 1) tell({ kind: 'checkpoint-ready', subjectType: 'checkpoint', subjectId: id, runId });
    });
  }

  /** Good to repeat. Backups of that moment stay. */
  delete(id: string, runId: string | null): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { count } = await db.checkpoint.deleteMany({ where: { id } });
      if (count === 1) tell({ kind: 'checkpoint-deleted', subjectType: 'checkpoint', subjectId: id, runId });
    });
  }
}

/** Nobody else changes the row until the transaction ends. Rejects `not-found`, `not-ready`. */
async function lockReady(db: Db, id: string): Promise<CheckpointModel> {
  await db.$queryRaw`SELECT 1 FROM checkpoint WHERE id = ${id}::uuid FOR UPDATE`;
  const row = await db.checkpoint.findUnique({ where: { id } });
  if (!row) throw notFound('checkpoint', id);
  if (row.state === 'ready') return row;
  const text = `Checkpoint '${row.name}' is ${row.state}. Wait until its run has ended.`;
  throw new CatalogError('checkpoint', 'not-ready', text);
}

function requireUnpinned({ name, pinnedUntil }: CheckpointModel, now: Date): void {
  if (pinnedUntil === null || pinnedUntil <= now) return;
  const text =
    `Checkpoint '${name}' is protected until ${pinnedUntil.toISOString()}. ` +
    'Take its protection away first, or wait until then.';
  throw new CatalogError('checkpoint', 'pinned', text);
}

/** A backup that is being made needs its own checkpoint and the one that it builds on. */
async function requireUnused(db: Db, { id, name, volumeId, originBackupId }: CheckpointModel): Promise<void> {
  const uses = [{ checkpointId: id }, { parent: { checkpointId: id } }];
  const restored = originBackupId === null ? [] : [{ volumeId, parentId: originBackupId }];
  const user = await db.backup.findFirst({ where: { state: 'creating', OR: [...uses, ...restored] } });
  if (!user) return;
  const text =
    `Checkpoint '${name}' is used by backup ${user.id}, which is being made. ` +
    'Wait for it, or cancel its run.';
  throw new CatalogError('checkpoint', 'in-use', text);
}
