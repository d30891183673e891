// The intent of a prune: what goes is hidden at once, with the run that takes it out of its chain.
import type { RunRequest } from '@tidemark/proto';
import type { CatalogTransaction } from '../catalog.ts';
import type { Repository } from '../repository-repository.ts';
import type { Run } from '../run.ts';

export interface WantedPrune {
  readonly repository: Repository;
  /** Available ones that go. */
  readonly backupIds: string[];
  /** Whose checkpoints may go with them. */
  readonly volumeIds: string[];
  readonly speedBytesPerSecond: number | null;
  /** The one that was asked for, where it was one. */
  readonly backupId?: string;
  readonly reason?: string;
  readonly requestedBy?: string;
  /** Of the run beside others that wait; 0, the default, before all that have a number. */
  readonly priority?: number;
}

/** Within a transaction that holds the repository's backups. */
export async function intendPrune(
  catalog: CatalogTransaction,
  runId: string,
  wanted: WantedPrune,
): Promise<Run> {
  const { repository, backupIds, volumeIds, speedBytesPerSecond, backupId = null, reason = null } = wanted;
  await catalog.retention.hide(backupIds, runId);
  const repositoryId = repository.id;
  const request: RunRequest<'prune'> = { repositoryId, backupIds, volumeIds, speedBytesPerSecond };
  const { storageNodeId } = repository;
  const { requestedBy, priority = 0 } = wanted;
  const facts = { kind: 'prune', storageNodeId, repositoryId, backupId, reason, priority, request } as const;
  return catalog.runs.create({ id: runId, ...facts, ...(requestedBy !== undefined && { requestedBy }) });
}
