// The volumes of a group as an intent chooses them, each with its checkpoint, and the backup that is made of it.
import { randomUUID } from 'node:crypto';
import { parseSelector, TidemarkError } from '@tidemark/proto';
import type { BackupKind } from '../backup-repository.ts';
import type { CatalogTransaction } from '../catalog.ts';
import type { Repository, RepositoryCompression } from '../repository-repository.ts';
import type { Volume } from '../volume-repository.ts';
import type { Base } from './audited-base.ts';
import { chooseBase } from './backup-base.ts';
import { requireFreeCheckpointName } from './known-checkpoint.ts';
import { type DroppedCheckpoint, makeRoom } from './make-room.ts';
import { requireOnline } from './require-online.ts';

/** A fence waits for the slowest of its storage nodes, and one transaction writes all members. */
export const GROUP_MEMBERS_MAX = 256;

export interface ChosenBy {
  /** Ids or names; or the selector. */
  readonly volumes?: readonly string[] | undefined;
  readonly selector?: string | undefined;
}

/**
 * Nothing else changes their rows until the transaction ends. Rejects `volume-not-found`, `volume-not-ready`,
 * `storage-node-unreachable`, and `invalid-request` where they are too many or one is named twice.
 */
export async function lockMembers(catalog: CatalogTransaction, chosen: ChosenBy): Promise<Volume[]> {
  const found = await choose(catalog, chosen);
  if (found.length > GROUP_MEMBERS_MAX) {
    const text = `A group has at most ${GROUP_MEMBERS_MAX} volumes; ${found.length} are chosen. Make several groups.`;
    throw new TidemarkError('invalid-request', text);
  }
  // In one order, so that two groups never wait for each other.
  const ids = found.map(({ id }) => id).sort();
  const twice = ids.find((id, index) => id === ids[index + 1]);
  if (twice !== undefined) {
    const { name } = found.find(({ id }) => id === twice)!;
    throw new TidemarkError(
      'invalid-request',
      `Volume '${name}' is named twice. Name each volume of a group once.`,
    );
  }
  const volumes: Volume[] = [];
  for (const id of ids) volumes.push(await catalog.volumes.getReady(id));
  for (const storageNodeId of new Set(volumes.map(volume => volume.storageNodeId))) {
    requireOnline(await catalog.storageNodes.get(storageNodeId));
  }
  return volumes;
}

async function choose(catalog: CatalogTransaction, { volumes, selector }: ChosenBy): Promise<Volume[]> {
  if (selector !== undefined) {
    const chosen = await catalog.volumes.listSelected(parseSelector(selector), { states: ['ready'] });
    if (chosen.length > 0) return chosen;
    const text = `No volume that is ready is chosen by '${selector}'. Look with GET /v1/volumes?selector=….`;
    throw new TidemarkError('volume-not-found', text);
  }
  const named: Volume[] = [];
  for (const ref of volumes ?? []) named.push(await catalog.volumes.get(ref));
  return named;
}

export interface MemberBackup {
  readonly backupId: string;
  readonly runId: string;
  readonly kind: BackupKind;
  readonly baseCheckpointId: string | null;
  readonly parentBackupId: string | null;
}

/** A checkpoint that goes for the new one of its volume. */
export interface DroppedOfMember extends DroppedCheckpoint {
  readonly volumeId: string;
  readonly volume: string;
}

export interface IntendedMember {
  readonly volumeId: string;
  readonly volume: string;
  readonly storageNodeId: string;
  readonly checkpointId: string;
  readonly backup: MemberBackup | null;
  readonly dropped: readonly DroppedOfMember[];
}

export interface MemberWishes {
  /** Name of the group and of each checkpoint. */
  readonly name: string;
  readonly description: string;
  /** The oldest checkpoint may go for the new one. */
  readonly dropOldest: boolean;
  /** Null: of checkpoints alone. */
  readonly backup: {
    readonly repository: Repository;
    readonly kind: BackupKind;
    readonly compression?: RepositoryCompression | undefined;
  } | null;
}

/** Writes the rows of its checkpoint and its backup. Rejects as the intent of a single backup does. */
export async function writeMember(
  catalog: CatalogTransaction,
  runId: string,
  { volume, wanted }: { volume: Volume; wanted: MemberWishes },
): Promise<IntendedMember> {
  const { name, description, dropOldest } = wanted;
  await requireFreeCheckpointName(catalog, volume, name);
  const base = wanted.backup && (await baseOf(catalog, volume, wanted.backup));
  const went = await makeRoom(catalog, { volume, dropOldest, runId });
  const row = { id: randomUUID(), volumeId: volume.id, name, description };
  const checkpoint = await catalog.checkpoints.create(row, runId);
  const member = { volumeId: volume.id, volume: volume.name, storageNodeId: volume.storageNodeId };
  const backup =
    base && (await writeBackup(catalog, runId, { volume, wanted, base, checkpointId: checkpoint.id }));
  const dropped = went.map(one => ({ volumeId: volume.id, volume: volume.name, ...one }));
  return { ...member, checkpointId: checkpoint.id, backup, dropped };
}

/** As a single backup chooses it; one that has nothing to build on is full, and says so. */
async function baseOf(
  catalog: CatalogTransaction,
  volume: Volume,
  { repository, kind }: NonNullable<MemberWishes['backup']>,
): Promise<Base> {
  try {
    return await chooseBase(catalog, { volume, repository }, { kind });
  } catch (error) {
    if (!(error instanceof TidemarkError) || error.code !== 'checkpoint-not-found') throw error;
    const what = kind === 'differential' ? 'a full backup' : 'a backup';
    const reason = `full: no checkpoint of volume '${volume.name}' has ${what} in repository '${repository.name}'`;
    return { parent: null, baseCheckpointId: null, reason };
  }
}

async function writeBackup(
  catalog: CatalogTransaction,
  runId: string,
  intent: { volume: Volume; wanted: MemberWishes; base: Base; checkpointId: string },
): Promise<MemberBackup> {
  const { volume, wanted, base, checkpointId } = intent;
  const { repository, kind, compression } = wanted.backup!;
  const backup = await catalog.backups.create(
    {
      ...{ id: randomUUID(), repositoryId: repository.id, volumeId: volume.id, volumeName: volume.name },
      ...{ checkpointId, checkpoint: wanted.name, parentId: base.parent?.id ?? null, kind },
      ...{ description: wanted.description, reason: base.reason, sizeBytes: volume.sizeBytes },
      ...(compression !== undefined && { compression }),
    },
    runId,
  );
  // Until the group is decided; from then on the backup's own run holds another.
  if (base.parent !== null) await catalog.backupLeases.take(base.parent.id, 'run', runId);
  return {
    ...{ backupId: backup.id, runId: randomUUID(), kind: backup.kind },
    ...{ baseCheckpointId: base.baseCheckpointId, parentBackupId: base.parent?.id ?? null },
  };
}
