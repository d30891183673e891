// The intent of a verification: a lease that keeps the backup where it is, and the run that reads it.
import type { RunRequest } from '@tidemark/proto';
import type { Backup } from '../backup-repository.ts';
import type { CatalogTransaction } from '../catalog.ts';
import type { Repository } from '../repository-repository.ts';
import type { Run } from '../run.ts';

export interface WantedVerification {
  readonly backup: Backup;
  /** The one that holds it. */
  readonly repository: Repository;
  readonly reason: string;
  /** Default: with all that it stands on. */
  readonly chain?: boolean | undefined;
  readonly speedBytesPerSecond?: number | null | undefined;
  /** Default: on whose behalf the catalog is used. */
  readonly requestedBy?: string;
  /** Of the run beside others that wait; 0, the default, before all that have a number. */
  readonly priority?: number;
}

/** Within a transaction. Rejects `backup-not-usable` for a backup that is not available (any more). */
export async function intendVerification(
  catalog: CatalogTransaction,
  runId: string,
  wanted: WantedVerification,
): Promise<Run> {
  const { backup, repository, reason, chain = true, speedBytesPerSecond = null } = wanted;
  const { requestedBy, priority = 0 } = wanted;
  const { id: backupId, volumeId, checkpointId } = backup;
  const { id: repositoryId, storageNodeId } = repository;
  await catalog.backupLeases.take(backupId, 'run', runId);
  const request: RunRequest<'verify'> = { repositoryId, backupId, chain, speedBytesPerSecond };
  return catalog.runs.create({
    ...{ id: runId, kind: 'verify', storageNodeId, volumeId, checkpointId, repositoryId, backupId },
    ...{ reason, priority, request },
    ...(requestedBy !== undefined && { requestedBy }),
  });
}
