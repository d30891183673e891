// Two sides that agree, for tests that change one thing: a volume with a checkpoint and a snapshot, a repository with a
// backup of it.
import type { Group, Inventory, RunFact } from '@tidemark/catalog';
import { JobStatus, Repository, RepositoryWork, StoredBackup, Volume } from '@tidemark/proto';
import type { NodeView } from '../node-view.ts';

export const id = (last: number) => `00000000-0000-4000-8000-${String(last).padStart(12, '0')}`;
export const NODE = id(1);
export const VOLUME = id(2);
export const CHECKPOINT = id(3);
export const REPOSITORY = id(4);
export const BACKUP = id(5);
export const RUN = id(6);
export const OTHER = id(7);
export const SNAPSHOT = id(8);
export const COMMIT = id(9);
export const NOW_MS = 1_800_000_000_000;
export const STUCK_MS = 1_800_000;

type Mutable<T> = { -readonly [K in keyof T]: T[K] extends readonly (infer E)[] ? E[] : T[K] };
type VolumeView = Mutable<NodeView['volumes'][number]>;
type RepositoryView = Mutable<NodeView['repositories'][number]>;

/** Both sides; the storage node's first volume and repository are at hand, and so are their rows. */
export function agreeing() {
  const facts = { volumeId: VOLUME, name: 'disk', sizeBytes: 4096, exportUri: 'nbd://h/disk' };
  const volume: VolumeView = {
    volume: Volume.fromPartial({ ...facts, checkpoints: [{ checkpointId: CHECKPOINT, name: 'monday' }] }),
    snapshots: [{ snapshotId: SNAPSHOT, name: 'before', createdAtMs: 1 }],
  };
  const manifest = { backupId: BACKUP, kind: 'full', storedBytes: 512, fileName: 'backups/b.qcow2' };
  const repository: RepositoryView = {
    repository: Repository.fromPartial({ repositoryId: REPOSITORY, name: 'vault' }),
    backups: [StoredBackup.fromPartial({ ...manifest, volumeId: VOLUME, checkpointId: CHECKPOINT })],
    work: RepositoryWork.fromPartial({}),
  };
  const node = {
    volumes: [volume],
    repositories: [repository],
    jobs: [],
    moments: [],
    groups: [],
  } as Mutable<NodeView>;
  const checkpointRow = { id: CHECKPOINT, volumeId: VOLUME, name: 'monday', description: '', state: 'ready' };
  const volumeRow: Inventory['volumes'][number] = {
    ...{ id: VOLUME, name: 'disk', state: 'ready', sizeBytes: 4096, exportUri: 'nbd://h/disk' },
    sourceBackupId: null,
  };
  const backupRow: Inventory['backups'][number] = {
    ...{ id: BACKUP, repositoryId: REPOSITORY, checkpointId: CHECKPOINT, parentId: null, kind: 'full' },
    ...{ state: 'available', storedBytes: 512, fileName: 'backups/b.qcow2' },
  };
  const repositoryRow: Inventory['repositories'][number] = { id: REPOSITORY, name: 'vault', state: 'ready' };
  const snapshotRow = { id: SNAPSHOT, volumeId: VOLUME, name: 'before', state: 'ready' };
  const catalog: Inventory = {
    ...{ volumes: [volumeRow], checkpoints: [checkpointRow], snapshots: [snapshotRow], commits: [] },
    ...{
      repositories: [repositoryRow],
      backups: [backupRow],
      leases: [],
      liveRuns: [],
      elsewhere: [],
      readBackupIds: [],
    },
  };
  const runs: RunFact[] = [];
  const groups: Group[] = [];
  const rows = { volume: volumeRow, checkpoint: checkpointRow, backup: backupRow, repository: repositoryRow };
  const checkpoint = volume.volume.checkpoints[0]!;
  return {
    catalog,
    node,
    groups,
    runs,
    volume,
    checkpoint,
    repository,
    rows: { ...rows, snapshot: snapshotRow },
  };
}

export type Sides = ReturnType<typeof agreeing>;

export function run(kind: RunFact['kind'], state: RunFact['state'], ...ids: string[]): RunFact {
  const live = state === 'queued' || state === 'running';
  const where = { storageNodeId: NODE, volumeId: null, repositoryId: null, checkpointId: ids[0] ?? null };
  return {
    id: RUN,
    kind,
    state,
    live,
    leaseEpoch: 1,
    silentSince: new Date(NOW_MS),
    ids: [RUN, ...ids],
    ...where,
  };
}

export const job = (jobId: string, state = 'running', type = 'backup') =>
  JobStatus.fromPartial({ jobId, state, type });
