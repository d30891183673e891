// Restores: intents to bring a backup back: to a new volume, over one that is there, or to a plain file.
import {
  type Backup,
  type CatalogTransaction,
  findCheckpoint,
  type StorageNode,
  type Volume,
} from '@tidemark/catalog';
import { type RunRequest, TidemarkError } from '@tidemark/proto';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import type { CreateRestore } from '../schemas/restore.ts';
import type { VolumeJson } from '../schemas/volume.ts';
import { requireOnline } from '../storage-nodes/storage-node-service.ts';
import { toVolumeJson } from '../volumes/volume-service.ts';
import { writeTarget } from './restore-target.ts';

interface Source {
  readonly backup: Backup;
  readonly storageNode: StorageNode;
}

/** The volume that it makes or overwrites; null: it makes a file. */
interface RestoreNouns {
  volume: VolumeJson | null;
  isNew: boolean;
}

async function storageNodeOf(catalog: CatalogTransaction, backup: Backup): Promise<StorageNode> {
  const repository = await catalog.repositories.get(backup.repositoryId);
  return catalog.storageNodes.get(repository.storageNodeId);
}

/** What makes one that is not available so again, if anything. */
const NEXT: Readonly<Record<Backup['state'], string>> = {
  creating: 'wait until its run has ended',
  hidden: 'it is on its way out, and nobody begins to use it',
  removing: 'it is on its way out, and nobody begins to use it',
  missing: 'put its files back into the repository and scan that',
  available: 'try again',
};
const whyNot = ({ id, state }: Backup) => `Backup ${id} is ${state}: ${NEXT[state]}.`;

async function sourceByBackup(catalog: CatalogTransaction, id: string): Promise<Source> {
  const backup = await catalog.backups.get(id);
  if (backup.state !== 'available') {
    throw new TidemarkError('backup-not-usable', `${whyNot(backup)} Or choose another backup.`);
  }
  return { backup, storageNode: await storageNodeOf(catalog, backup) };
}

/** Backups outlive their checkpoints. Rejects a name that several had which are gone. */
async function backupsOf(catalog: CatalogTransaction, volume: Volume, ref: string): Promise<Backup[]> {
  const there = await catalog.checkpoints.find(volume.id, ref);
  if (there) return (await catalog.backups.list({ checkpointId: there.id })).items;
  const { items } = await catalog.backups.list({ volumeId: volume.id, checkpointName: ref });
  const moments = new Set(items.map(({ checkpointId }) => checkpointId));
  // Refuses what there is no backup of, either.
  if (moments.size === 0) await findCheckpoint(catalog, volume, ref);
  if (moments.size <= 1) return items;
  throw new TidemarkError(
    'checkpoint-not-found',
    `Volume '${volume.name}' has no checkpoint '${ref}' any more, and ${moments.size} that are gone had that name. ` +
      `Choose one of their backups: ${items.map(({ id }) => id).join(', ')}.`,
  );
}

/** The newest reachable backup of the checkpoint; else the newest, and the refusal names its host. */
async function sourceByCheckpoint(
  catalog: CatalogTransaction,
  refs: { volume: string; checkpoint: string },
): Promise<Source> {
  const volume = await catalog.volumes.get(refs.volume);
  const items = await backupsOf(catalog, volume, refs.checkpoint);
  const sources: Source[] = [];
  for (const backup of items.filter(item => item.state === 'available')) {
    sources.push({ backup, storageNode: await storageNodeOf(catalog, backup) });
  }
  const source = sources.find(({ storageNode }) => storageNode.state === 'online') ?? sources[0];
  if (source) return source;
  throw new TidemarkError(
    'backup-not-found',
    `Checkpoint '${refs.checkpoint}' of volume '${volume.name}' has no available backup. ` +
      `${items.map(backup => `${whyNot(backup)} `).join('')}` +
      'Or choose another checkpoint.',
  );
}

export class RestoreService {
  readonly #runs: RunStarter;

  constructor(runs: RunStarter) {
    this.#runs = runs;
  }

  create(body: CreateRestore): Promise<StartedRun<RestoreNouns>> {
    return this.#runs.start(async (catalog, runId) => {
      const { backup, storageNode } = await findSource(catalog, body);
      requireOnline(storageNode);
      const { node, target, checkpoint, volume, isNew } = await writeTarget(catalog, {
        ...{ wanted: body.target, backup, runId },
      });
      await catalog.backupLeases.take(backup.id, 'run', runId);
      const request: RunRequest<'restore'> = {
        backupId: backup.id,
        repositoryId: backup.repositoryId,
        sizeBytes: backup.sizeBytes,
        speedBytesPerSecond: body.speedBytesPerSecond ?? null,
        onDamage: body.onDamage,
        recovers: null,
        checkpoint,
        target,
      };
      const run = await catalog.runs.create({
        id: runId,
        kind: 'restore',
        storageNodeId: node.id,
        volumeId: volume?.id ?? null,
        checkpointId: backup.checkpointId,
        repositoryId: backup.repositoryId,
        backupId: backup.id,
        request,
      });
      return { run, volume: volume && toVolumeJson(volume), isNew };
    });
  }
}

function findSource(catalog: CatalogTransaction, body: CreateRestore): Promise<Source> {
  if (body.backup !== undefined) return sourceByBackup(catalog, body.backup);
  const { volume = '', checkpoint = '' } = body;
  return sourceByCheckpoint(catalog, { volume, checkpoint });
}
