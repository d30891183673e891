// Checkpoints of a volume: intents to take and delete them, and what there is.
import { randomUUID } from 'node:crypto';
import type { Catalog, CatalogTransaction, Checkpoint, Volume } from '@tidemark/catalog';
import { type RunRequest, TidemarkError } from '@tidemark/proto';
import { iso, isoOrNull } from '../moments.ts';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import type { CheckpointJson, CreateCheckpoint } from '../schemas/checkpoint.ts';
import type { PageQuery } from '../schemas/common.ts';
import { requireOnline } from '../storage-nodes/storage-node-service.ts';

export function toCheckpointJson(checkpoint: Checkpoint): CheckpointJson {
  return {
    id: checkpoint.id,
    name: checkpoint.name,
    volumeId: checkpoint.volumeId,
    state: checkpoint.state,
    pointInTime: isoOrNull(checkpoint.pointInTime),
    createdAt: iso(checkpoint.createdAt),
    backups: checkpoint.backups,
  };
}

/** Refuses a name that a checkpoint of the volume has, whatever its state. */
export async function requireFreeCheckpointName(
  catalog: CatalogTransaction,
  volume: Volume,
  name: string,
): Promise<void> {
  const taken = await catalog.checkpoints.find(volume.id, name);
  if (!taken) return;
  throw new TidemarkError(
    'checkpoint-name-taken',
    `Volume '${volume.name}' has a checkpoint '${name}' already, which is ${taken.state}. ` +
      'Choose another name, or delete that one first.',
  );
}

/** Passes a checkpoint that can be built on; the message of a refusal names the volume too. */
export function requireReady(volume: Volume, checkpoint: Checkpoint): void {
  if (checkpoint.state === 'ready') return;
  throw new TidemarkError(
    'checkpoint-not-ready',
    `Checkpoint '${checkpoint.name}' of volume '${volume.name}' is ${checkpoint.state}. Wait ` +
      'until its run has ended, or choose another one.',
  );
}

export async function findCheckpoint(
  catalog: CatalogTransaction,
  volume: Volume,
  ref: string,
): Promise<Checkpoint> {
  const checkpoint = await catalog.checkpoints.find(volume.id, ref);
  if (checkpoint) return checkpoint;
  throw new TidemarkError(
    'checkpoint-not-found',
    `Volume '${volume.name}' has no checkpoint '${ref}'. ` +
      `List them with GET /v1/volumes/${volume.name}/checkpoints.`,
  );
}

export class CheckpointService {
  readonly #catalog: Catalog;
  readonly #runs: RunStarter;

  constructor(catalog: Catalog, runs: RunStarter) {
    this.#catalog = catalog;
    this.#runs = runs;
  }

  create(volumeRef: string, { name }: CreateCheckpoint): Promise<StartedRun<{ checkpoint: CheckpointJson }>> {
    return this.#runs.start(async (catalog, runId) => {
      const volume = await catalog.volumes.getReady(volumeRef);
      requireOnline(await catalog.storageNodes.get(volume.storageNodeId));
      await requireFreeCheckpointName(catalog, volume, name);
      const checkpoint = await catalog.checkpoints.create(
        { id: randomUUID(), volumeId: volume.id, name },
        runId,
      );
      const run = await catalog.runs.create({
        id: runId,
        kind: 'create-checkpoint',
        storageNodeId: volume.storageNodeId,
        volumeId: volume.id,
        checkpointId: checkpoint.id,
        request: {
          volumeId: volume.id,
          checkpointId: checkpoint.id,
          name,
        } satisfies RunRequest<'create-checkpoint'>,
      });
      return { run, checkpoint: toCheckpointJson(checkpoint) };
    });
  }

  async list(volumeRef: string, page: PageQuery) {
    const volume = await this.#catalog.volumes.get(volumeRef);
    const { items, nextCursor } = await this.#catalog.checkpoints.list(volume.id, page);
    return { items: items.map(toCheckpointJson), nextCursor };
  }

  async get(volumeRef: string, ref: string): Promise<CheckpointJson> {
    const volume = await this.#catalog.volumes.get(volumeRef);
    return toCheckpointJson(await findCheckpoint(this.#catalog, volume, ref));
  }

  async find({ volumeId, id }: { volumeId: string; id: string }): Promise<CheckpointJson | null> {
    const checkpoint = await this.#catalog.checkpoints.find(volumeId, id);
    return checkpoint && toCheckpointJson(checkpoint);
  }

  remove(volumeRef: string, ref: string): Promise<StartedRun<{ checkpoint: CheckpointJson }>> {
    return this.#runs.start(async (catalog, runId) => {
      const volume = await catalog.volumes.getReady(volumeRef);
      requireOnline(await catalog.storageNodes.get(volume.storageNodeId));
      const { id } = await findCheckpoint(catalog, volume, ref);
      await catalog.checkpoints.markDeleting(id, runId);
      const checkpoint = await catalog.checkpoints.get(volume.id, id);
      const run = await catalog.runs.create({
        id: runId,
        kind: 'delete-checkpoint',
        storageNodeId: volume.storageNodeId,
        volumeId: volume.id,
        checkpointId: id,
        request: {
          volumeId: volume.id,
          checkpointId: id,
          name: checkpoint.name,
        } satisfies RunRequest<'delete-checkpoint'>,
      });
      return { run, checkpoint: toCheckpointJson(checkpoint) };
    });
  }
}
