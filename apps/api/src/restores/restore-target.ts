// Where a restore goes: what the intent writes for each kind of target, and what it refuses at once.
import { randomUUID } from 'node:crypto';
import {
  type Backup,
  type CatalogTransaction,
  requireOpen,
  type StorageNode,
  type Volume,
} from '@tidemark/catalog';
import { type Labels, type RunRequest, TidemarkError } from '@tidemark/proto';
import type { CreateRestore } from '../schemas/restore.ts';
import { requireOnline } from '../storage-nodes/storage-node-service.ts';
import { requireFreeVolumeName } from '../volumes/volume-service.ts';

export interface WrittenTarget {
  readonly node: StorageNode;
  readonly target: RunRequest<'restore'>['target'];
  /** The first checkpoint of a new volume. */
  readonly checkpoint: RunRequest<'restore'>['checkpoint'];
  readonly volume: Volume | null;
  readonly isNew: boolean;
}

interface Intent {
  readonly wanted: CreateRestore['target'];
  readonly backup: Backup;
  readonly runId: string;
}

export async function writeTarget(catalog: CatalogTransaction, intent: Intent): Promise<WrittenTarget> {
  const { volume, instant, file, inPlace } = intent.wanted;
  if (inPlace !== undefined) return overVolume(catalog, inPlace, intent.backup);
  if (volume !== undefined) return newVolume(catalog, { ...volume, isInstant: false }, intent);
  if (instant !== undefined) return newVolume(catalog, { ...instant, isInstant: true }, intent);
  const node = await onlineNode(catalog, file?.storageNode ?? '');
  const target = { file: { name: file?.name ?? '', storageNodeId: node.id } };
  return { node, target, checkpoint: null, volume: null, isNew: false };
}

async function onlineNode(catalog: CatalogTransaction, ref: string): Promise<StorageNode> {
  const node = await catalog.storageNodes.get(ref);
  requireOnline(node);
  return node;
}

/** It begins with the backup's checkpoint: increments since then build on the backup. */
async function newVolume(
  catalog: CatalogTransaction,
  wanted: {
    name: string;
    storageNode: string;
    format: 'raw' | 'qcow2';
    labels?: Labels | undefined;
    isInstant: boolean;
  },
  { backup, runId }: Intent,
): Promise<WrittenTarget> {
  const { name, format, labels = {}, isInstant } = wanted;
  const node = await onlineNode(catalog, wanted.storageNode);
  requireOpen(node);
  await requireFreeVolumeName(catalog, name);
  const facts = { name, storageNodeId: node.id, format };
  const reads = isInstant && { sourceBackupId: backup.id };
  const row = { id: randomUUID(), ...facts, sizeBytes: backup.sizeBytes, labels, ...reads };
  const volume = await catalog.volumes.create(row, runId);
  const first = { id: randomUUID(), volumeId: volume.id, name: backup.checkpoint, originBackupId: backup.id };
  await catalog.checkpoints.create(first, runId);
  if (isInstant) await catalog.backupLeases.take(backup.id, 'volume', volume.id);
  const about = { volumeId: volume.id, ...facts };
  const target = isInstant ? { instant: about } : { volume: about };
  return { node, target, checkpoint: { checkpointId: first.id, name: first.name }, volume, isNew: true };
}

async function overVolume(
  catalog: CatalogTransaction,
  { volume: ref, evenIfConnected }: NonNullable<CreateRestore['target']['inPlace']>,
  backup: Backup,
): Promise<WrittenTarget> {
  const volume = await catalog.volumes.getReady(ref);
  const { id: volumeId, name } = volume;
  const node = await onlineNode(catalog, volume.storageNodeId);
  if (volume.sourceBackupId !== null) {
    const text = `Volume '${name}' still reads from backup ${volume.sourceBackupId}. Wait until all of it is pulled.`;
    throw new TidemarkError('volume-busy', text);
  }
  if (volume.sizeBytes !== backup.sizeBytes) {
    const text =
      `Volume '${name}' has ${volume.sizeBytes} bytes and backup ${backup.id} has ${backup.sizeBytes}. ` +
      'Restore the backup to a new volume.';
    throw new TidemarkError('invalid-request', text);
  }
  const checkpointId = await sameCheckpoint(catalog, volume, backup);
  const target = { inPlace: { volumeId, name, storageNodeId: node.id, evenIfConnected, checkpointId } };
  return { node, target, checkpoint: null, volume, isNew: false };
}

/** The volume's own checkpoint whose contents the backup has. */
async function sameCheckpoint(
  catalog: CatalogTransaction,
  volume: Volume,
  backup: Backup,
): Promise<string | null> {
  const own = await catalog.checkpoints.find(volume.id, backup.checkpointId);
  if (own?.state === 'ready') return own.id;
  const origin = await catalog.backups.findOrigin(volume.id, backup.repositoryId);
  return origin?.backup.id === backup.id ? origin.checkpointId : null;
}
