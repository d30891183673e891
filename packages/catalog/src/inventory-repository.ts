// All that the catalog holds about one storage node, in one reading: what the reconciler compares with what the
// storage node says of itself.
import type { BackupKind, BackupState } from './backup-repository.ts';
import type { RunModel } from './generated/models.ts';
import type { RepositoryState } from './repository-repository.ts';
import type { RunKind, RunState } from './run.ts';
import type { Db, Scope } from './scope.ts';
import { ENDED_COMMIT_STATES } from './unended-commit.ts';

/** A run, as far as it tells whose things are. */
export interface RunFact {
  id: string;
  kind: RunKind;
  state: RunState;
  leaseEpoch: number;
  /** It has not ended, or not yet cleaned up. */
  live: boolean;
  /** Since when nobody works on a run that should be worked on. */
  silentSince: Date | null;
  storageNodeId: string | null;
  volumeId: string | null;
  repositoryId: string | null;
  /** Another one, which it only reads. */
  sourceRepositoryId?: string | undefined;
  /** The one that it makes or removes; others it may only build on. */
  checkpointId: string | null;
  /** Every id of its row and its request. */
  ids: string[];
}

export interface Inventory {
  volumes: {
    id: string;
    name: string;
    state: 'creating' | 'ready' | 'deleting';
    sizeBytes: number;
    exportUri: string | null;
    /** Of an instant restore: what it still reads from. */
    sourceBackupId: string | null;
  }[];
  checkpoints: { id: string; volumeId: string; name: string; description: string; state: string }[];
  snapshots: { id: string; volumeId: string; name: string; state: string }[];
  /** Those that have not ended. */
  commits: { id: string; volumeId: string; state: string; createdAt: Date }[];
  repositories: { id: string; name: string; state: RepositoryState }[];
  backups: {
    id: string;
    repositoryId: string;
    checkpointId: string;
    parentId: string | null;
    kind: BackupKind;
    state: BackupState;
    storedBytes: number | null;
    fileName: string | null;
  }[];
  leases: { id: string; backupId: string; holder: string; holderId: string; held: boolean }[];
  /** Of all storage nodes. */
  liveRuns: RunFact[];
  /** Backups that volumes of any storage node still read from. */
  readBackupIds: string[];
  /** Volumes and repositories of other storage nodes. */
  elsewhere: { id: string; name: string; noun: 'volume' | 'repository' }[];
}

/** A statement has at most 65,535 parameters, and each id takes at most six. */
const IDS_AT_ONCE = 5_000;
const UUID = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/gi;
const LIVE = { OR: [{ state: { in: ['queued', 'running'] } }, { cleanupPending: true }] };

function toRunFact(row: RunModel): RunFact {
  const { id, state, leaseEpoch, cleanupPending, storageNodeId, volumeId, repositoryId, checkpointId } = row;
  const named = [id, checkpointId, row.backupId, volumeId, repositoryId, storageNodeId];
  const asked = JSON.stringify(row.request).match(UUID) ?? [];
  const waits = row.notBefore ?? row.createdAt;
  return {
    ...{ id, leaseEpoch, storageNodeId, volumeId, repositoryId, checkpointId },
    sourceRepositoryId: (row.request as { sourceRepositoryId?: string }).sourceRepositoryId,
    kind: row.kind as RunKind,
    state: state as RunState,
    live: state === 'queued' || state === 'running' || cleanupPending,
    silentSince: row.leaseUntil ?? waits,
    ids: [...new Set([...named, ...asked].filter(one => one !== null).map(one => one.toLowerCase()))],
  };
}

export class InventoryRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** Live runs are read first and last: one that ended in between still counts as live. */
  ofStorageNode(storageNodeId: string): Promise<Inventory> {
    return this.#scope.read(async db => {
      const before = await liveRuns(db);
      const volumes = await db.volume.findMany({ where: { storageNodeId } });
      const volumeId = { in: volumes.map(({ id }) => id) };
      const repositories = await db.repository.findMany({ where: { storageNodeId } });
      const backups = await db.backup.findMany({
        where: { repositoryId: { in: repositories.map(({ id }) => id) } },
        orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
      });
      const bytes = (value: bigint | null) => (value === null ? null : Number(value));
      return {
        volumes: volumes.map(row => ({
          ...row,
          sizeBytes: Number(row.sizeBytes),
          state: row.state as Inventory['volumes'][number]['state'],
        })),
        checkpoints: await db.checkpoint.findMany({ where: { volumeId } }),
        snapshots: await db.snapshot.findMany({ where: { volumeId } }),
        commits: await db.volumeCommit.findMany({
          where: { volumeId, state: { notIn: ENDED_COMMIT_STATES } },
        }),
        repositories: repositories.map(row => ({ ...row, state: row.state as RepositoryState })),
        backups: backups.map(row => ({
          ...row,
          kind: row.kind as BackupKind,
          state: row.state as BackupState,
          storedBytes: bytes(row.storedBytes),
        })),
        leases: await leasesOf(db, storageNodeId),
        readBackupIds: await readBackupIds(db),
        elsewhere: await nounsElsewhere(db, storageNodeId),
        liveRuns: [...before, ...(await liveRuns(db))],
      };
    });
  }

  /** Runs that were about any of these ids, newest first: whose leftovers they may be. */
  async runsAbout(ids: readonly string[]): Promise<RunFact[]> {
    const runs = new Map<string, RunModel>();
    for (let start = 0; start < ids.length; start += IDS_AT_ONCE) {
      const any = { in: ids.slice(start, start + IDS_AT_ONCE) };
      const commits = await this.#scope.read(db =>
        db.volumeCommit.findMany({ where: { id: any }, select: { runId: true } }),
      );
      const about = [
        { id: { in: commits.map(({ runId }) => runId) } },
        { id: any },
        { volumeId: any },
        { checkpointId: any },
        { backupId: any },
      ];
      const where = { OR: [...about, { kind: 'create-repository', repositoryId: any }] };
      for (const row of await this.#scope.read(db => db.run.findMany({ where }))) runs.set(row.id, row);
    }
    const newestFirst = (a: RunModel, b: RunModel) => b.createdAt.getTime() - a.createdAt.getTime();
    return [...runs.values()].sort(newestFirst).map(toRunFact);
  }
}

async function liveRuns(db: Db): Promise<RunFact[]> {
  const rows = await db.run.findMany({ where: LIVE });
  // Taken over or cancelled, a run waits for a worker since then: only its events tell when that was.
  const waiting = rows.filter(({ leaseUntil, notBefore }) => leaseUntil === null && notBefore === null);
  const subjectId = { in: waiting.map(({ id }) => id) };
  const newest = await db.event.groupBy({
    by: ['subjectId'],
    where: { subjectId },
    _max: { createdAt: true },
  });
  const heardOf = new Map(newest.map(row => [row.subjectId, row._max.createdAt]));
  return rows.map(row => {
    const fact = toRunFact(row);
    return { ...fact, silentSince: heardOf.get(row.id) ?? fact.silentSince };
  });
}

async function leasesOf(db: Db, storageNodeId: string): Promise<Inventory['leases']> {
  const leases = await db.backupLease.findMany({ where: { backup: { repository: { storageNodeId } } } });
  const holders = { in: leases.map(({ holderId }) => holderId) };
  const runs = await db.run.findMany({ where: { id: holders, AND: [LIVE] }, select: { id: true } });
  const volumes = await db.volume.findMany({ where: { id: holders }, select: { id: true } });
  const held = new Set([...runs, ...volumes].map(({ id }) => id));
  return leases.map(lease => ({ ...lease, held: held.has(lease.holderId) }));
}

async function nounsElsewhere(db: Db, storageNodeId: string): Promise<Inventory['elsewhere']> {
  const where = { storageNodeId: { not: storageNodeId } };
  const select = { id: true, name: true };
  const volumes = await db.volume.findMany({ where, select });
  const repositories = await db.repository.findMany({ where, select });
  return [
    ...volumes.map(row => ({ ...row, noun: 'volume' as const })),
    ...repositories.map(row => ({ ...row, noun: 'repository' as const })),
  ];
}

async function readBackupIds(db: Db): Promise<string[]> {
  const where = { sourceBackupId: { not: null } };
  const rows = await db.volume.findMany({ where, select: { sourceBackupId: true } });
  return rows.map(row => row.sourceBackupId!);
}
