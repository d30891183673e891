// All that a storage node has, as it says itself.
import {
  type JobStatus,
  type Moment,
  type Repository,
  type RepositoryWork,
  type Snapshot,
  type StorageNodeClients,
  type StoredBackup,
  TidemarkError,
  type UndecidedGroup,
  type Volume,
} from '@tidemark/proto';

export interface NodeView {
  readonly volumes: readonly { volume: Volume; snapshots: readonly Snapshot[] }[];
  readonly jobs: readonly JobStatus[];
  readonly moments: readonly Moment[];
  /** Those that are not decided. */
  readonly groups: readonly UndecidedGroup[];
  readonly repositories: readonly {
    repository: Repository;
    backups: readonly StoredBackup[];
    work: RepositoryWork;
  }[];
}

const NO_WORK: RepositoryWork = { partials: [], open: [], leavingBackupIds: [] };

/** Rejects `storage-node-unreachable`, and what it refuses; what it had is then not known, not even in part. */
export async function lookAtStorageNode(
  node: StorageNodeClients,
  options: { signal: AbortSignal },
): Promise<NodeView> {
  const { volumes } = await node.volumes.listVolumes({}, options);
  const { repositories } = await node.repositories.listRepositories({}, options);
  const { moments } = await orOf({ moments: [] }, node.jobs.listMoments({}, options));
  const { groups } = await orOf({ groups: [] }, node.groups.listGroups({}, options));
  const { jobs } = await node.jobs.listJobs({}, options);
  return {
    volumes: await inOrder(volumes, async volume => {
      const { volumeId } = volume;
      const listing = node.snapshots.listSnapshots({ volumeId }, options);
      return { volume, snapshots: (await orOf({ snapshots: [] }, listing, 'volume-not-found')).snapshots };
    }),
    repositories: await inOrder(repositories, async repository => {
      const { repositoryId } = repository;
      const { backups } = await orOf(
        { backups: [] },
        node.repositories.listBackups({ repositoryId }, options),
        'repository-not-found',
      );
      const work = await orOf(
        NO_WORK,
        node.repositories.listRepositoryWork({ repositoryId }, options),
        'repository-not-found',
      );
      return { repository, backups, work };
    }),
    ...{ jobs, moments, groups },
  };
}

/** One after the other: a storage node with a thousand volumes is not asked a thousand things at once. */
async function inOrder<T, R>(items: readonly T[], look: (item: T) => Promise<R>): Promise<R[]> {
  const seen: R[] = [];
  for (const item of items) seen.push(await look(item));
  return seen;
}

/** `otherwise` where the storage node is too old to know the call, or the thing went while we were looking. */
async function orOf<T>(otherwise: T, work: Promise<T>, gone?: string): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const code = error instanceof TidemarkError ? error.code : undefined;
    if (code === 'route-not-found' || code === 'invalid-request' || (gone && code === gone)) return otherwise;
    throw error;
  }
}
