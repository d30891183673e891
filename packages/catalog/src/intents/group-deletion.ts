// The intent to delete a group: its backups are hidden, with the run that takes them out of their chains, and its
// checkpoints are marked. What something else needs refuses it, by name.
import { randomUUID } from 'node:crypto';
import { isErrorCode, type RunRequest, TidemarkError } from '@tidemark/proto';
import type { Backup } from '../backup-repository.ts';
import type { CatalogTransaction } from '../catalog.ts';
import { CatalogError } from '../errors.ts';
import type { Group, GroupMember, GroupState } from '../group-repository.ts';
import type { Run } from '../run.ts';
import { requireOnline } from './require-online.ts';

type DeletedState = RunRequest<'delete-group'>['previousState'];

/**
 * Within a transaction, as `intendGroup`. Rejects `group-not-found`, `group-not-ready`, and what keeps a member:
 * `checkpoint-pinned`, `checkpoint-in-use`, `checkpoint-not-ready`, `backup-pinned`, `backup-in-use`,
 * `backup-not-usable`, `storage-node-unreachable`.
 */
export async function intendGroupDeletion(
  catalog: CatalogTransaction,
  runId: string,
  { ref, now }: { ref: string; now: Date },
): Promise<{ run: Run; group: Group }> {
  const { id, state } = await catalog.groups.get(ref);
  const before = await catalog.groups.markDeleting(id, runId);
  const pruneRunId = await pruneBackups(catalog, before, now);
  const checkpoints: RunRequest<'delete-group'>['checkpoints'] = [];
  for (const member of before.members) {
    if (await markCheckpoint(catalog, before, member, runId)) {
      checkpoints.push({ volumeId: member.volumeId, checkpointId: member.checkpointId });
    }
  }
  const previousState = state as Exclude<GroupState, 'creating' | 'deleting'> satisfies DeletedState;
  const { name, repositoryId } = before;
  const request = { groupId: id, name, previousState, checkpoints, pruneRunId };
  const run = await catalog.runs.create({ id: runId, kind: 'delete-group', repositoryId, request });
  return { run, group: await catalog.groups.get(id) };
}

/** The id of the prune run; null: it has no backups any more. */
async function pruneBackups(
  catalog: CatalogTransaction,
  { name, repositoryId, members }: Group,
  now: Date,
): Promise<string | null> {
  if (repositoryId === null) return null;
  // Nobody takes a lease on one until the transaction ends.
  await catalog.retention.lockBackups(repositoryId);
  const backups: Backup[] = [];
  for (const { backupId } of members) {
    const backup = backupId && (await catalog.backups.find(backupId));
    if (backup) backups.push(backup);
  }
  if (backups.length === 0) return null;
  for (const backup of backups) await requireRemovable(catalog, { group: name, backup, now });
  const repository = await catalog.repositories.getReady(repositoryId);
  requireOnline(await catalog.storageNodes.get(repository.storageNodeId));
  const id = randomUUID();
  const backupIds = backups.map(backup => backup.id);
  const volumeIds = [...new Set(backups.map(({ volumeId }) => volumeId))];
  await catalog.retention.hide(backupIds, id);
  const { storageNodeId } = repository;
  const request: RunRequest<'prune'> = { repositoryId, backupIds, volumeIds, speedBytesPerSecond: null };
  await catalog.runs.create({ id, kind: 'prune', storageNodeId, repositoryId, request });
  return id;
}

async function requireRemovable(
  catalog: CatalogTransaction,
  { group, backup, now }: { group: string; backup: Backup; now: Date },
): Promise<void> {
  const { id, state, pinnedUntil, volumeName } = backup;
  const what = `Backup ${id} of volume '${volumeName}' in group '${group}'`;
  if (state === 'creating' || state === 'missing') {
    const next = state === 'creating' ? 'Cancel its run first' : 'Put its files back, or forget it first';
    throw new TidemarkError('backup-not-usable', `${what} is ${state}. ${next}.`);
  }
  if (pinnedUntil !== null && pinnedUntil > now) {
    const text = `${what} is protected until ${pinnedUntil.toISOString()}. Take its protection away first, or wait.`;
    throw new TidemarkError('backup-pinned', text);
  }
  const [lease] = await catalog.backupLeases.holders(id);
  if (lease === undefined) return;
  const text = `${what} is in use by ${lease.holder} ${lease.holderId}. Wait for it, or cancel it.`;
  throw new TidemarkError('backup-in-use', text);
}

/** False: it is gone, or goes already, or a backup elsewhere needs it. */
async function markCheckpoint(
  catalog: CatalogTransaction,
  group: Group,
  { volumeId, volumeName, checkpointId, backupId }: GroupMember,
  runId: string,
): Promise<boolean> {
  const checkpoint = await catalog.checkpoints.find(volumeId, checkpointId);
  if (checkpoint === null) return false;
  if (checkpoint.backups.some(id => id !== backupId)) return false;
  const { storageNodeId } = await catalog.volumes.get(volumeId);
  requireOnline(await catalog.storageNodes.get(storageNodeId));
  await catalog.checkpoints.markDeleting(checkpointId, runId).catch((error: unknown) => {
    if (!(error instanceof CatalogError) || !isErrorCode(error.code)) throw error;
    const text = `Group '${group.name}' keeps its checkpoint of volume '${volumeName}': ${error.message}`;
    throw new TidemarkError(error.code, text, error);
  });
  return true;
}
