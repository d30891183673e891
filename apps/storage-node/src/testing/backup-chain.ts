// A full backup and an increment with checksums, as a copier leaves them.
import { randomBytes, randomUUID } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import type { BackupEndpoint, StoredBackup } from '@tidemark/proto';
import { CLUSTER_BYTES } from '../sums/sums-format.ts';
import { createRepository, MiB, type Plan, planOf, publicationOf } from './backups.ts';
import { copyWithSums } from './damage.ts';
import { newStep, type RunningStorageNode } from './running-storage-node.ts';

export interface BackupChain {
  readonly repositoryId: string;
  readonly full: Plan;
  readonly increment: Plan;
  /** The full backup's data, from the start of the disk: eight random clusters, eight of text. */
  readonly first: Buffer;
  /** The increment's cluster 2; its cluster 5 became zeroes. */
  readonly changed: Buffer;
  /** The disk as of the increment. */
  readonly expected: Buffer;
  readonly stored: StoredBackup;
}

export function filesOf(node: RunningStorageNode, repositoryId: string): Promise<string[]> {
  return readdir(node.path('repositories', repositoryId, 'backups'));
}

export function imageOf(node: RunningStorageNode, { repositoryId, backupId }: Plan): string {
  return node.path('repositories', repositoryId, 'backups', `${backupId}.qcow2`);
}

export function prepare(
  node: RunningStorageNode,
  plan: Plan & { compression?: string; expectedBytes?: number },
): Promise<BackupEndpoint> {
  return node.clients.repositories.prepareBackup({ step: newStep(), ...plan });
}

export function publish(node: RunningStorageNode, plan: Plan): Promise<StoredBackup> {
  return node.clients.repositories.publishBackup({ step: newStep(), ...publicationOf(plan) });
}

export async function makeChain(
  node: RunningStorageNode,
  { compression = 'none' }: { compression?: string } = {},
): Promise<BackupChain> {
  const repositoryId = await createRepository(node);
  const volumeId = randomUUID();
  const full = planOf(repositoryId, volumeId);
  const text = Buffer.alloc(8 * CLUSTER_BYTES, 'all work and no play ');
  const first = Buffer.concat([randomBytes(8 * CLUSTER_BYTES), text]);
  await copyWithSums(await prepare(node, { ...full, compression }), { data: [{ offset: 0, bytes: first }] });
  await publish(node, full);
  const increment = planOf(repositoryId, volumeId, full.backupId);
  const changed = randomBytes(CLUSTER_BYTES);
  await copyWithSums(await prepare(node, { ...increment, compression }), {
    data: [{ offset: 2 * CLUSTER_BYTES, bytes: changed }],
    zeroes: [{ offset: 5 * CLUSTER_BYTES, length: CLUSTER_BYTES }],
  });
  const stored = await publish(node, increment);
  const expected = Buffer.alloc(4 * MiB);
  first.copy(expected);
  changed.copy(expected, 2 * CLUSTER_BYTES);
  expected.fill(0, 5 * CLUSTER_BYTES, 6 * CLUSTER_BYTES);
  return { repositoryId, full, increment, first, changed, expected, stored };
}
