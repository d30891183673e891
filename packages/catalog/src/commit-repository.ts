// Commits of a volume's images into ones below. State follows what the storage node says of its job:
// starting → copying → done, and for what the guest writes to: copying → ready → pivoting or keeping → done.
import { CatalogError, notFound } from './errors.ts';
import type { Prisma } from './generated/client.ts';
import type { VolumeCommitModel } from './generated/models.ts';
import { type Page, type PageOptions, pageQuery, toPage } from './page.ts';
import { isId } from './ref.ts';
import type { RunError } from './run.ts';
import type { Db, Scope, Tell } from './scope.ts';
import { lockVolume, requireNoCommit } from './unended-commit.ts';

export type CommitState =
  | 'starting'
  | 'copying'
  | 'ready'
  | 'pivoting'
  | 'keeping'
  | 'done'
  | 'failed'
  | 'cancelled';
/** The guest goes on in the base; or where it is, and the base keeps a copy. */
export type CommitDecision = 'pivot' | 'keep';

export interface LostSnapshot {
  id: string;
  name: string;
}

export interface NewCommit {
  id: string;
  volumeId: string;
  /** The run that starts it. */
  runId: string;
  /** Null: what the guest writes to. */
  topSnapshotId: string | null;
  topSnapshot: string | null;
  /** Null: the oldest image, or with `shallow` the one right below top. */
  baseSnapshotId: string | null;
  baseSnapshot: string | null;
  shallow: boolean;
  active: boolean;
  deleteFiles: boolean;
}

export interface Commit extends NewCommit {
  state: CommitState;
  decision: CommitDecision | null;
  /** Snapshots that it overwrote; known from `copying` on. */
  lostSnapshots: LostSnapshot[];
  error: RunError | null;
  createdAt: Date;
  finishedAt: Date | null;
}

function toCommit(row: VolumeCommitModel): Commit {
  return {
    ...row,
    state: row.state as CommitState,
    decision: row.decision as CommitDecision | null,
    lostSnapshots: row.lostSnapshots as unknown as LostSnapshot[],
    error: row.error as unknown as RunError | null,
  };
}

type Change = Omit<Prisma.VolumeCommitUpdateManyMutationInput, 'state'>;

export class CommitRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** State `starting`. Rejects `volume-busy` while the volume has another one, or a snapshot is being made. */
  create(commit: NewCommit): Promise<Commit> {
    return this.#scope.write(async (db, tell) => {
      const { id, volumeId, runId } = commit;
      const volume = await lockVolume(db, volumeId);
      await requireNoCommit(db, volume);
      const unmade = await db.snapshot.findFirst({ where: { volumeId, state: 'creating' } });
      if (unmade) {
        const text =
          `Snapshot '${unmade.name}' of volume '${volume.name}' is being made. ` +
          'Wait until its run has ended, then commit.';
        throw new CatalogError('volume', 'busy', text);
      }
      const row = await db.volumeCommit.create({ data: { ...commit, state: 'starting', lostSnapshots: [] } });
      tell({ kind: 'commit-starting', subjectType: 'commit', subjectId: id, runId, data: { volumeId } });
      return toCommit(row);
    });
  }

  async find(volumeId: string, id: string): Promise<Commit | null> {
    if (!isId(id)) return null;
    const row = await this.#scope.read(db => db.volumeCommit.findFirst({ where: { id, volumeId } }));
    return row && toCommit(row);
  }

  /** Rejects `not-found`. */
  async get(volumeId: string, id: string): Promise<Commit> {
    const commit = await this.find(volumeId, id);
    if (!commit) throw notFound('commit', id);
    return commit;
  }

  /** Newest first. */
  list(volumeId: string, options: PageOptions = {}): Promise<Page<Commit>> {
    const page = pageQuery(options, 'desc');
    return this.#scope.read(async db =>
      toPage(
        await db.volumeCommit.findMany({
          where: { AND: [{ volumeId }, page.after] },
          orderBy: page.orderBy,
          take: page.take,
        }),
        page.limit,
        toCommit,
      ),
    );
  }

  /** The storage node copies. Good to repeat. */
  markCopying(id: string, runId: string): Promise<void> {
    return this.#move(id, runId, { from: ['starting'], to: 'copying' });
  }

  /** The storage node waits for a decision. Good to repeat. */
  markReady(id: string, runId: string): Promise<void> {
    return this.#move(id, runId, { from: ['copying'], to: 'ready' });
  }

  /** Rejects `not-ready` unless it is ready. */
  decide(id: string, decision: CommitDecision, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const to = decision === 'pivot' ? 'pivoting' : 'keeping';
      const isMoved = await move(db, tell, { id, runId, from: ['ready'], to, change: { decision } });
      if (isMoved) return;
      const row = await db.volumeCommit.findUnique({ where: { id } });
      if (!row) throw notFound('commit', id);
      throw new CatalogError('commit', 'not-ready', `Commit ${id} is ${row.state}, not ready.`);
    });
  }

  /** A decision that did not come to be known to the storage node. Good to repeat. */
  undecide(id: string, runId: string): Promise<void> {
    return this.#move(id, runId, { from: ['pivoting', 'keeping'], to: 'ready', change: { decision: null } });
  }

  /** Good to repeat: one that has ended stays as it ended. */
  end(
    id: string,
    outcome: { state: 'done' | 'failed' | 'cancelled'; error?: RunError | null },
    runId: string,
  ) {
    const from: CommitState[] = ['starting', 'copying', 'ready', 'pivoting', 'keeping'];
    const { state: to, error } = outcome;
    const change = { finishedAt: this.#scope.now(), ...(error && { error: { ...error } }) };
    return this.#move(id, runId, { from, to, change });
  }

  /**
   * Drops the rows of snapshots that the storage node does not list any more, and keeps their names with the
   * commit that overwrote them. Good to repeat, also later: snapshots made after the commit are left alone.
   */
  dropLostSnapshots(id: string, listedIds: readonly string[], runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const commit = await db.volumeCommit.findUnique({ where: { id } });
      if (!commit) return;
      const { volumeId, createdAt } = commit;
      // Whoever speaks to a storage node directly may have used other ids.
      const kept = listedIds.filter(isId);
      const rows = await db.snapshot.findMany({
        where: { volumeId, state: 'ready', createdAt: { lte: createdAt }, id: { notIn: kept } },
        orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
        select: { id: true, name: true },
      });
      if (rows.length === 0) return;
      await db.snapshot.deleteMany({ where: { id: { in: rows.map(row => row.id) } } });
      const lostSnapshots = [...toCommit(commit).lostSnapshots, ...rows].map(one => ({ ...one }));
      await db.volumeCommit.update({ where: { id }, data: { lostSnapshots } });
      for (const { id: subjectId, name } of rows) {
        const data = { name, volumeId, commitId: id };
        tell({ kind: 'snapshot-deleted', subjectType: 'snapshot', subjectId, runId, data });
      }
    });
  }

  #move(id: string, runId: string, step: Omit<Move, 'id' | 'runId'>): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      await move(db, tell, { id, runId, ...step });
    });
  }
}

interface Move {
  readonly id: string;
  readonly runId: string;
  readonly from: readonly CommitState[];
  readonly to: CommitState;
  readonly change?: Change;
}

/** Whether it was in one of the states `from`. */
async function move(db: Db, tell: Tell, { id, runId, from, to, change }: Move): Promise<boolean> {
  const { count } = await db.volumeCommit.updateMany({
    where: { id, state: { in: [...from] } },
    data: { ...change, state: to },
  });
  if (count === 1) tell({ kind: `commit-${to}`, subjectType: 'commit', subjectId: id, runId });
  return count === 1;
}
