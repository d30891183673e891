// Snapshots: what a volume held at one instant, kept in images, which are the storage node's.
import { nameTaken, notFound } from './errors.ts';
import type { SnapshotModel } from './generated/models.ts';
import { type Page, type PageOptions, pageQuery, toPage } from './page.ts';
import { byRef } from './ref.ts';
import type { Scope } from './scope.ts';
import { lockVolume, requireNoCommit } from './unended-commit.ts';

export type SnapshotState = 'creating' | 'ready';

export interface Snapshot {
  id: string;
  volumeId: string;
  name: string;
  state: SnapshotState;
  /** Null until the storage node has made it. */
  pointInTime: Date | null;
  createdAt: Date;
}

const toSnapshot = (row: SnapshotModel): Snapshot => ({ ...row, state: row.state as SnapshotState });

export class SnapshotRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /**
   * State `creating`. Rejects `name-taken` (names are unique within a volume), and `volume-busy` while the
   * volume has a commit.
   */
  create(
    snapshot: { id: string; volumeId: string; name: string },
    runId: string | null = null,
  ): Promise<Snapshot> {
    return this.#scope.write(async (db, tell) => {
      await requireNoCommit(db, await lockVolume(db, snapshot.volumeId));
      const row = await db.snapshot
        .create({ data: { ...snapshot, state: 'creating' } })
        .catch(nameTaken('snapshot', snapshot.name));
      const data = { name: row.name, volumeId: row.volumeId };
      tell({ kind: 'snapshot-creating', subjectType: 'snapshot', subjectId: row.id, runId, data });
      return toSnapshot(row);
    });
  }

  /** By id, or by name within the volume. */
  async find(volumeId: string, ref: string): Promise<Snapshot | null> {
    const row = await this.#scope.read(db => db.snapshot.findFirst({ where: { volumeId, ...byRef(ref) } }));
    return row && toSnapshot(row);
  }

  /** Rejects `not-found`. */
  async get(volumeId: string, ref: string): Promise<Snapshot> {
    const snapshot = await this.find(volumeId, ref);
    if (!snapshot) throw notFound('snapshot', ref);
    return snapshot;
  }

  /** Oldest first. */
  list(volumeId: string, options: PageOptions = {}): Promise<Page<Snapshot>> {
    const page = pageQuery(options, 'asc');
    return this.#scope.read(async db =>
      toPage(
        await db.snapshot.findMany({
          where: { AND: [{ volumeId }, page.after] },
          orderBy: page.orderBy,
          take: page.take,
        }),
        page.limit,
        toSnapshot,
      ),
    );
  }

  /** The storage node has made it. Rejects `not-found`. */
  markReady(id: string, pointInTime: Date, runId: string | null): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const data = { state: 'ready', pointInTime };
      const { count } = await db.snapshot.updateMany({ where: { id }, data });
      if (count === 0) throw notFound('snapshot', id);
      const facts = { pointInTime: pointInTime.toISOString() };
      tell({ kind: 'snapshot-ready', subjectType: 'snapshot', subjectId: id, runId, data: facts });
    });
  }

  /** One that its storage node has although its run failed: ready, with or without a row so far. */
  adopt(
    snapshot: { id: string; volumeId: string; name: string; pointInTime: Date },
    runId: string | null,
  ): Promise<void> {
    const { id, volumeId, name, pointInTime } = snapshot;
    return this.#scope.write(async (db, tell) => {
      await lockVolume(db, volumeId);
      const taken = await db.snapshot.findFirst({ where: { volumeId, name, id: { not: id } } });
      // Its name may have been given again once it was thought lost.
      const free = taken ? `${name.slice(0, 55)}-${id.slice(0, 8)}` : name;
      const facts = { state: 'ready', pointInTime };
      await db.snapshot.upsert({
        where: { id },
        create: { id, volumeId, name: free, ...facts },
        update: facts,
      });
      const data = { name: free, pointInTime: pointInTime.toISOString() };
      tell({ kind: 'snapshot-ready', subjectType: 'snapshot', subjectId: id, runId, data });
    });
  }

  /** One that never came to be. Good to repeat; leaves one that is ready. */
  deleteUnmade(id: string, runId: string | null): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { count } = await db.snapshot.deleteMany({ where: { id, state: 'creating' } });
      if (count === 1) tell({ kind: 'snapshot-deleted', subjectType: 'snapshot', subjectId: id, runId });
    });
  }
}
