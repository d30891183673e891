// Checkpoints: named points in time of a volume. The bitmaps behind them are the storage node's.
import { CatalogError, nameTaken, notFound } from './errors.ts';
import type { CheckpointModel } from './generated/models.ts';
import { type Page, type PageOptions, pageQuery, toPage } from './page.ts';
import { byRef } from './ref.ts';
import type { Db, Scope } from './scope.ts';

export type CheckpointState = 'creating' | 'ready' | 'deleting';

export interface Checkpoint {
  id: string;
  volumeId: string;
  name: string;
  state: CheckpointState;
  /** Null until the storage node has made it. */
  pointInTime: Date | null;
  createdAt: Date;
  /** Ids of the available backups that hold this moment. */
  backups: string[];
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

  /** State `creating`. Rejects `name-taken` (names are unique within a volume). */
  create(
    checkpoint: { id: string; volumeId: string; name: string },
    runId: string | null = null,
  ): Promise<Checkpoint> {
    return this.#scope.write(async (db, tell) => {
      const row = await db.checkpoint
        .create({ data: { ...checkpoint, state: 'creating' } })
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

  /** A deletion begins. Rejects `not-found`, `not-ready`, and `in-use` while a backup is made on it. */
  markDeleting(id: string, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      await db.$queryRaw`SELECT 1 FROM checkpoint WHERE id = ${id}::uuid FOR UPDATE`;
      const row = await db.checkpoint.findUnique({ where: { id } });
      if (!row) throw notFound('checkpoint', id);
      if (row.state !== 'ready') {
        const text = `Checkpoint '${row.name}' is ${row.state}. Wait until its run has ended.`;
        throw new CatalogError('checkpoint', 'not-ready', text);
      }
      const user = await db.backup.findFirst({
        where: { state: 'creating', OR: [{ checkpointId: id }, { parent: { checkpointId: id } }] },
      });
      if (user) {
        throw new CatalogError(
          'checkpoint',
          'in-use',
          `Checkpoint '${row.name}' is used by backup ${user.id}, which is being made. ` +
            'Wait for it, or cancel its run.',
        );
      }
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
