// The intent of a group: its row, the rows of all that its members are to have, and the run that makes it.
import { randomUUID } from 'node:crypto';
import type { RunRequest } from '@tidemark/proto';
import type { BackupKind } from '../backup-repository.ts';
import type { CatalogTransaction } from '../catalog.ts';
import type { Group, GroupCompletion, WantedHook } from '../group-repository.ts';
import type { Repository, RepositoryCompression } from '../repository-repository.ts';
import type { Run } from '../run.ts';
import { hooksToCall } from './group-hooks.ts';
import {
  type ChosenBy,
  type DroppedOfMember,
  type IntendedMember,
  lockMembers,
  writeMember,
} from './group-members.ts';
import { requireOnline } from './require-online.ts';

export interface WantedGroup extends ChosenBy {
  /** Of the group, and of each member's checkpoint. */
  readonly name: string;
  readonly description: string;
  readonly completion: GroupCompletion;
  readonly fenceLimitMs: number;
  readonly hooks: readonly WantedHook[];
  /** The oldest checkpoint of a volume that has as many as it may have goes for the new one. */
  readonly dropOldest: boolean;
  /** Undefined: of checkpoints alone. */
  readonly backup?:
    | {
        /** Id or name. */
        readonly repository: string;
        readonly kind: BackupKind;
        readonly compression?: RepositoryCompression | undefined;
        readonly onCbwError?: 'break-snapshot' | 'break-guest-write' | undefined;
        readonly cbwTimeoutMs?: number | undefined;
        readonly scratchLimitBytes?: number | undefined;
        readonly speedBytesPerSecond?: number | undefined;
      }
    | undefined;
  /** Of the run beside others that wait; 0, the default, before all that have a number. */
  readonly priority?: number | undefined;
  /** Default: on whose behalf the catalog is used. */
  readonly requestedBy?: string | undefined;
}

/** Within a transaction: afterwards all rows are there or, when it rejects and the transaction with it, none is. */
export async function intendGroup(
  catalog: CatalogTransaction,
  runId: string,
  wanted: WantedGroup,
): Promise<{ run: Run; group: Group; dropped: DroppedOfMember[] }> {
  const volumes = await lockMembers(catalog, wanted);
  const repository = await repositoryOf(catalog, wanted);
  const hooks = await hooksToCall(catalog, wanted.hooks);
  const { name, description, completion, fenceLimitMs, dropOldest } = wanted;
  const backup = repository && { ...wanted.backup!, repository };
  const members: IntendedMember[] = [];
  for (const volume of volumes) {
    const wishes = { name, description, dropOldest, backup };
    members.push(await writeMember(catalog, runId, { volume, wanted: wishes }));
  }
  const id = randomUUID();
  const group = await catalog.groups.create(
    {
      ...{ id, name, kind: backup ? 'backup' : 'checkpoint', completion, fenceLimitMs, runId },
      ...{ selector: wanted.selector ?? null, repositoryId: repository?.id ?? null },
    },
    members.map(({ volume: volumeName, backup: made, dropped: _, ...member }) => ({
      ...{ ...member, volumeName, backupId: made?.backupId ?? null, runId: made?.runId ?? null },
    })),
  );
  const request: RunRequest<'create-group'> = {
    ...{ groupId: id, name, completion, fenceLimitMs, description, hooks },
    members: members.map(({ storageNodeId: _, dropped, ...member }) => ({
      ...member,
      dropCheckpointIds: dropped.map(one => one.id),
    })),
    backup: backup && {
      repositoryId: backup.repository.id,
      speedBytesPerSecond: backup.speedBytesPerSecond ?? null,
      compression: backup.compression ?? null,
      onCbwError: backup.onCbwError ?? null,
      cbwTimeoutMs: backup.cbwTimeoutMs ?? null,
      scratchLimitBytes: backup.scratchLimitBytes ?? null,
    },
  };
  const priority = wanted.priority ?? 0;
  const about = { id: runId, kind: 'create-group', repositoryId: repository?.id ?? null, priority } as const;
  return {
    group,
    dropped: members.flatMap(({ dropped }) => dropped),
    run: await catalog.runs.create({
      ...(wanted.requestedBy !== undefined && { requestedBy: wanted.requestedBy }),
      ...about,
      request,
    }),
  };
}

async function repositoryOf(
  catalog: CatalogTransaction,
  { backup }: WantedGroup,
): Promise<Repository | null> {
  if (backup === undefined) return null;
  const repository = await catalog.repositories.getReady(backup.repository);
  requireOnline(await catalog.storageNodes.get(repository.storageNodeId));
  return repository;
}
