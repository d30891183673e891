// Rows for tests, with as little said as they allow.
import { randomUUID } from 'node:crypto';
import type { Catalog } from '../catalog.ts';

/** A storage node `alpha` with volume `disk` and repository `vault`, all ready. */
export async function seed(catalog: Catalog) {
  const node = await catalog.storageNodes.create({
    id: randomUUID(),
    name: 'alpha',
    controlAddress: '127.0.0.1:7411',
  });
  const volume = await catalog.volumes.create({
    id: randomUUID(),
    name: 'disk',
    storageNodeId: node.id,
    sizeBytes: 2 ** 40,
    format: 'raw',
  });
  await catalog.volumes.markReady(volume.id, { exportUri: 'nbd://h:1/disk', sizeBytes: 2 ** 40 }, null);
  const wanted = { id: randomUUID(), name: 'vault', storageNodeId: node.id, limitBytes: null };
  const repository = await catalog.repositories.create(wanted);
  await catalog.repositories.markReady(repository.id, null);
  return { node, volume, repository };
}

/** A ready checkpoint of that name with an available backup. */
export async function addBackup(
  catalog: Catalog,
  options: { volumeId: string; repositoryId: string; checkpoint: string; at: Date; parentId?: string },
) {
  const { volumeId, repositoryId, checkpoint, at, parentId = null } = options;
  const { id: checkpointId } = await catalog.checkpoints.create({
    id: randomUUID(),
    volumeId,
    name: checkpoint,
  });
  const backup = await catalog.backups.create({
    id: randomUUID(),
    repositoryId,
    volumeId,
    volumeName: 'disk',
    checkpointId,
    checkpoint,
    parentId,
    reason: 'full: asked for',
    sizeBytes: 2 ** 40,
  });
  await catalog.checkpoints.markReady(checkpointId, at, null);
  await catalog.backups.markStarted(backup.id, { pointInTime: at, dirtyBytes: 1 });
  const facts = { storedBytes: 2 ** 33, sentBytes: 7, fileName: `${backup.id}.qcow2` };
  await catalog.backups.markAvailable(backup.id, facts, randomUUID());
  return catalog.backups.get(backup.id);
}
