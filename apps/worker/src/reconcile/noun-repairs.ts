// Repairs of nouns: rows follow what is there, or what is there follows the rows.
import { type FoundBackup, isId } from '@tidemark/catalog';
import type { StoredBackup } from '@tidemark/proto';
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import { tolerate } from '../runs/tolerate.ts';
import { kindOf } from './compare-repositories.ts';
import { indexOf } from './look-index.ts';
import { type RepairWork, stepOf } from './repair-work.ts';

type Repair = (work: RepairWork) => Promise<unknown>;

const volumeThere = ({ look, found }: RepairWork) =>
  look.node.volumes.find(({ volume }) => volume.volumeId === found.subjectId)!.volume;

/** What an instant volume still reads from is held for it; where it reads from nothing any more it holds nothing. */
const adoptVolume: Repair = work => {
  const { context, storageNodeId } = work;
  const { volumeId: id, name, sizeBytes, format: told, exportUri, source } = volumeThere(work);
  const sourceBackupId = source?.backupId || null;
  const format = told === 'qcow2' ? 'qcow2' : 'raw';
  const facts = { id, name, sizeBytes, exportUri, storageNodeId, sourceBackupId, format } as const;
  return context.catalog.transaction(async catalog => {
    if (sourceBackupId === null) await catalog.volumes.markAlone(id, context.run.id);
    await catalog.adoption.volume(facts, context.run.id);
    if (sourceBackupId !== null) await catalog.backupLeases.take(sourceBackupId, 'volume', id);
  });
};

const forgetVolume: Repair = ({ context, found }) =>
  context.catalog.volumes.delete(found.subjectId, context.run.id);

const removeVolume: Repair = work => {
  const { clients, context, found } = work;
  const options = { signal: context.stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
  const remove = clients.volumes.deleteVolume({ step: stepOf(work), volumeId: found.subjectId }, options);
  return tolerate(['volume-not-found'], remove);
};

const openVolume: Repair = async work => {
  const { clients, context, found } = work;
  const options = { signal: context.stop };
  const wanted = { step: stepOf(work), volumeId: found.subjectId };
  const { exportUri, sizeBytes } = await clients.volumes.openArrival(wanted, options);
  await context.catalog.volumes.markReady(found.subjectId, { exportUri, sizeBytes }, context.run.id);
};

/** By its row it is here: no other storage node has ever opened it. */
const unsealVolume: Repair = async work => {
  const { clients, context, found } = work;
  const { subjectId: volumeId } = found;
  await clients.volumes.unsealVolume({ step: stepOf(work), volumeId }, { signal: context.stop });
  const { exportUri, sizeBytes } = await clients.volumes.getVolume({ volumeId }, { signal: context.stop });
  await context.catalog.volumes.markReady(volumeId, { exportUri, sizeBytes }, context.run.id);
};

const keepVolume: Repair = ({ context, found }) =>
  context.catalog.volumes.unmarkDeleting(found.subjectId, context.run.id);

const adoptCheckpoint: Repair = async ({ look, found, context }) => {
  const { catalog, run } = context;
  const there = indexOf(look).checkpoints.get(found.subjectId);
  if (!there) return;
  const { volumeId, checkpoint } = there;
  const { checkpointId: id, name, description, createdAtMs } = checkpoint;
  const pointInTime = new Date(createdAtMs);
  if (indexOf(look).checkpointRows.has(id)) return catalog.checkpoints.markReady(id, pointInTime, run.id);
  const originBackupId = checkpoint.originBackupId || null;
  const facts = { id, volumeId, name, description, pointInTime, originBackupId };
  await catalog.checkpoints.import([facts], run.id);
};

const forgetCheckpoint: Repair = ({ context, found }) =>
  context.catalog.checkpoints.delete(found.subjectId, context.run.id);

/** It was ready before, and its bitmap never went. */
const keepCheckpoint: Repair = ({ context, found }) =>
  context.catalog.checkpoints.unmarkDeleting(found.subjectId, context.run.id);

const volumeIdOf = ({ look, found }: RepairWork): string =>
  look.node.volumes.find(({ volume }) =>
    volume.checkpoints.some(({ checkpointId }) => checkpointId === found.subjectId),
  )!.volume.volumeId;

const mergeCheckpoint: Repair = async work => {
  const { clients, context, found } = work;
  const wanted = { step: stepOf(work), volumeId: volumeIdOf(work), checkpointId: found.subjectId };
  const options = { signal: context.stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
  await tolerate(['checkpoint-not-found'], clients.checkpoints.deleteCheckpoint(wanted, options));
  await context.catalog.checkpoints.delete(found.subjectId, context.run.id);
};

const renameCheckpoint: Repair = work => {
  const { clients, context, found, look } = work;
  const row = look.catalog.checkpoints.find(({ id }) => id === found.subjectId)!;
  const { name, description } = row;
  const wanted = { volumeId: row.volumeId, checkpointId: row.id, name, description };
  return clients.checkpoints.updateCheckpoint({ step: stepOf(work), ...wanted }, { signal: context.stop });
};

const adoptSnapshot: Repair = ({ look, found, context }) => {
  for (const { volume, snapshots } of look.node.volumes) {
    const there = snapshots.find(({ snapshotId }) => snapshotId === found.subjectId);
    if (!there) continue;
    const { snapshotId: id, name, createdAtMs } = there;
    const facts = { id, volumeId: volume.volumeId, name, pointInTime: new Date(createdAtMs) };
    return context.catalog.snapshots.adopt(facts, context.run.id);
  }
  return Promise.resolve();
};

const forgetSnapshot: Repair = ({ context, found }) =>
  context.catalog.adoption.forgetSnapshot(found.subjectId, context.run.id);

const adoptRepository: Repair = ({ look, found, context, storageNodeId }) => {
  const there = look.node.repositories.find(one => one.repository.repositoryId === found.subjectId)!;
  const { repositoryId: id, name, limitBytes, compression } = there.repository;
  const facts = { id, name, storageNodeId, limitBytes: limitBytes || null };
  const wanted = { ...facts, compression: compression === 'zstd' ? 'zstd' : 'none' };
  return context.catalog.adoption.repository(wanted, context.run.id);
};

const forgetRepository: Repair = ({ context, found }) =>
  context.catalog.repositories.delete(found.subjectId, context.run.id);

const keepRepository: Repair = ({ context, found }) =>
  context.catalog.repositories.markKept(found.subjectId, context.run.id);

const removeRepository: Repair = work => {
  const { clients, context, found } = work;
  const wanted = { step: stepOf(work), repositoryId: found.subjectId };
  const remove = clients.repositories.deleteRepository(wanted, { signal: context.stop });
  return tolerate(['repository-not-found'], remove);
};

const adoptBackup: Repair = ({ look, found, context }) => {
  const there = indexOf(look).backups.get(found.subjectId);
  if (!there) return Promise.resolve();
  const facts = toFound(there.repositoryId, there.backup);
  return context.catalog.adoption.backup(facts, context.run.id, { lookedAfter: look.lookedAfter });
};

const acceptBackup: Repair = ({ look, found, context }) => {
  const there = indexOf(look).backups.get(found.subjectId);
  if (!there) return Promise.resolve();
  return context.catalog.adoption.acceptBackup(toFound(there.repositoryId, there.backup), context.run.id);
};

function toFound(repositoryId: string, stored: StoredBackup): FoundBackup {
  const { backupId: id, volumeId, volumeName, checkpointId, checkpointName, reason } = stored;
  const { sizeBytes, storedBytes, fileName, hidden, pointInTimeMs, compression } = stored;
  return {
    ...{
      id,
      repositoryId,
      volumeId,
      volumeName,
      checkpointId,
      reason,
      hidden,
      sizeBytes,
      storedBytes,
      fileName,
    },
    checkpoint: checkpointName,
    parentId: stored.parentBackupId || null,
    replicaOfId: isId(stored.replicaOfBackupId) ? stored.replicaOfBackupId : null,
    kind: kindOf(stored),
    compression: compression === 'zstd' ? 'zstd' : 'none',
    pointInTime: new Date(pointInTimeMs),
  };
}

const forgetBackup: Repair = ({ context, found }) =>
  context.catalog.adoption.forgetBackup(found.subjectId, context.run.id);

const hideBackup: Repair = ({ context, found }) =>
  context.catalog.retention.markHidden(found.subjectId, context.run.id);

/** Rejects `backup-in-use` where a row stands on it and the repository does not say what else that stands on. */
const finishRemoval: Repair = ({ look, found, context }) => {
  const children = look.catalog.backups
    .filter(({ parentId }) => parentId === found.subjectId)
    .flatMap(({ id }) => indexOf(look).backups.get(id)?.backup ?? [])
    .map(stored => ({
      ...{ id: stored.backupId, parentId: stored.parentBackupId || null, kind: kindOf(stored) },
      ...{ reason: stored.reason, storedBytes: stored.storedBytes },
    }));
  return context.catalog.retention.finish(found.subjectId, children, context.run.id);
};

export const NOUN_REPAIRS = {
  'volume-unknown': { adopt: adoptVolume, remove: removeVolume },
  'volume-missing': { forget: forgetVolume },
  'volume-differs': { accept: adoptVolume },
  'volume-creating-left': { adopt: adoptVolume, forget: forgetVolume },
  'volume-deleting-left': { keep: keepVolume, forget: forgetVolume },
  'volume-arrived-left': { open: openVolume },
  'volume-sealed-left': { unseal: unsealVolume },
  'restoring-left': { remove: removeVolume },
  'checkpoint-unknown': { adopt: adoptCheckpoint, merge: mergeCheckpoint },
  'checkpoint-missing': { forget: forgetCheckpoint },
  'checkpoint-inconsistent': { merge: mergeCheckpoint },
  'checkpoint-differs': { rename: renameCheckpoint },
  'checkpoint-creating-left': { adopt: adoptCheckpoint, forget: forgetCheckpoint },
  'checkpoint-deleting-left': { keep: keepCheckpoint, forget: forgetCheckpoint },
  'snapshot-unknown': { adopt: adoptSnapshot },
  'snapshot-missing': { forget: forgetSnapshot },
  'snapshot-creating-left': { adopt: adoptSnapshot, forget: forgetSnapshot },
  'repository-unknown': { adopt: adoptRepository, remove: removeRepository },
  'repository-missing': { forget: forgetRepository },
  'repository-creating-left': { adopt: adoptRepository, forget: forgetRepository },
  'repository-deleting-left': { keep: keepRepository, forget: forgetRepository },
  'backup-unknown': { adopt: adoptBackup },
  'backup-missing': { forget: forgetBackup },
  'backup-differs': { accept: acceptBackup },
  'backup-creating-left': { adopt: adoptBackup, forget: forgetBackup },
  'hidden-left': { hide: hideBackup },
  'removed-left': { finish: finishRemoval },
} as const;
