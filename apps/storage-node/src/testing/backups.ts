// What tests of repositories do again and again: prepare, write over NBD, publish, read back.
import { randomUUID } from 'node:crypto';
import { NbdClient } from '@tidemark/nbd';
import type { StoredBackup } from '@tidemark/proto';
import { newStep, type ReachedStorageNode } from './running-storage-node.ts';

export const MiB = 1024 * 1024;

export interface Written {
  readonly offset: number;
  readonly bytes: Buffer;
}

export async function createRepository(node: ReachedStorageNode, limitBytes = 0): Promise<string> {
  const repositoryId = randomUUID();
  const request = { step: newStep(), repositoryId, name: `repository ${repositoryId}`, limitBytes };
  await node.clients.repositories.createRepository(request);
  return repositoryId;
}

export function planOf(repositoryId: string, volumeId: string, parentBackupId = '') {
  return { repositoryId, backupId: randomUUID(), volumeId, sizeBytes: 4 * MiB, parentBackupId };
}

export type Plan = ReturnType<typeof planOf>;

export function publicationOf({ repositoryId, backupId, parentBackupId }: Plan) {
  const kind = parentBackupId === '' ? 'full' : 'incremental';
  return {
    repositoryId,
    backupId,
    volumeName: 'disk',
    checkpointId: randomUUID(),
    checkpointName: 'monday',
    pointInTimeMs: 1_700_000_000_000,
    kind,
    reason: `${kind}: asked for`,
  };
}

export async function writeOver(uri: string, writes: readonly Written[]): Promise<void> {
  const client = await NbdClient.connect({ uri });
  try {
    for (const { offset, bytes } of writes) await client.write(offset, bytes);
    await client.flush();
  } finally {
    await client.disconnect();
  }
}

export async function readAll(uri: string, sizeBytes: number): Promise<Buffer> {
  const client = await NbdClient.connect({ uri });
  try {
    const content = Buffer.alloc(sizeBytes);
    for (let offset = 0; offset < sizeBytes; offset += MiB) {
      await client.read(offset, content.subarray(offset, Math.min(offset + MiB, sizeBytes)));
    }
    return content;
  } finally {
    await client.disconnect();
  }
}

/** Prepares, writes and publishes. */
export async function makeBackup(
  node: ReachedStorageNode,
  plan: Plan,
  writes: readonly Written[],
): Promise<StoredBackup> {
  const { repositories } = node.clients;
  const { uri } = await repositories.prepareBackup({ step: newStep(), ...plan });
  await writeOver(uri, writes);
  return repositories.publishBackup({ step: newStep(), ...publicationOf(plan) });
}

/** Opens for a run of its own, reads everything and closes. */
export async function readBackup(
  node: ReachedStorageNode,
  { repositoryId, backupId }: { repositoryId: string; backupId: string },
): Promise<Buffer> {
  const { repositories } = node.clients;
  const step = newStep();
  const { uri, sizeBytes } = await repositories.openBackup({ step, repositoryId, backupId });
  try {
    return await readAll(uri, sizeBytes);
  } finally {
    await repositories.closeBackup({ step, repositoryId, backupId });
  }
}
