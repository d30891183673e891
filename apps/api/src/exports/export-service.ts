// Exports: intents to freeze a moment of a volume for others to pull. The run is all there is of one.
import { randomUUID } from 'node:crypto';
import {
  type CatalogTransaction,
  type DroppedCheckpoint,
  findCheckpoint,
  makeRoom,
  requireFreeCheckpointName,
  requireReady,
  type Volume,
} from '@tidemark/catalog';
import type { RunRequest } from '@tidemark/proto';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import type { CreateExport } from '../schemas/export.ts';
import { requireOnline } from '../storage-nodes/storage-node-service.ts';

export class ExportService {
  readonly #runs: RunStarter;

  constructor(runs: RunStarter) {
    this.#runs = runs;
  }

  create(body: CreateExport): Promise<StartedRun<{ dropped: DroppedCheckpoint[] }>> {
    return this.#runs.start(async (catalog, runId) => {
      const volume = await catalog.volumes.getReady(body.volume);
      requireOnline(await catalog.storageNodes.get(volume.storageNodeId));
      const baseCheckpointId = await findBase(catalog, volume, body.base);
      const { checkpointId, dropped } = await addCheckpoint(catalog, runId, { volume, body });
      const { description, expiresInMs } = body;
      const request: RunRequest<'export'> = {
        ...{ volumeId: volume.id, exportId: randomUUID(), description, expiresInMs, baseCheckpointId },
        ...{ checkpointId, checkpoint: body.checkpoint ?? null },
        dropCheckpointIds: dropped.map(({ id }) => id),
        scratchLimitBytes: body.scratchLimitBytes ?? null,
      };
      const { id: volumeId, storageNodeId } = volume;
      const about = { storageNodeId, volumeId, checkpointId };
      const run = await catalog.runs.create({ id: runId, kind: 'export', ...about, request });
      return { run, dropped };
    });
  }
}

async function findBase(catalog: CatalogTransaction, volume: Volume, ref: string | undefined) {
  if (ref === undefined) return null;
  const checkpoint = await findCheckpoint(catalog, volume, ref);
  requireReady(volume, checkpoint);
  return checkpoint.id;
}

async function addCheckpoint(
  catalog: CatalogTransaction,
  runId: string,
  { volume, body }: { volume: Volume; body: CreateExport },
): Promise<{ checkpointId: string | null; dropped: DroppedCheckpoint[] }> {
  const { checkpoint: name, description, dropOldest } = body;
  if (name === undefined) return { checkpointId: null, dropped: [] };
  await requireFreeCheckpointName(catalog, volume, name);
  const dropped = await makeRoom(catalog, { volume, dropOldest, runId });
  const wanted = { id: randomUUID(), volumeId: volume.id, name, description };
  const { id: checkpointId } = await catalog.checkpoints.create(wanted, runId);
  return { checkpointId, dropped };
}
