// The intent of a checkpoint without a backup: its row, and the run that takes it.
import { randomUUID } from 'node:crypto';
import type { RunRequest } from '@tidemark/proto';
import type { CatalogTransaction } from '../catalog.ts';
import type { Checkpoint } from '../checkpoint-repository.ts';
import type { Run } from '../run.ts';
import { requireFreeCheckpointName } from './known-checkpoint.ts';
import { type DroppedCheckpoint, makeRoom } from './make-room.ts';
import { requireOnline } from './require-online.ts';

export interface WantedCheckpoint {
  /** Id or name. */
  readonly volume: string;
  readonly name: string;
  readonly description: string;
  /** The oldest checkpoint may go for the new one. */
  readonly dropOldest: boolean;
  /** Default: on whose behalf the catalog is used. */
  readonly requestedBy?: string | undefined;
  /** Of the run beside others that wait. */
  readonly priority?: number | undefined;
}

export interface IntendedCheckpoint {
  readonly run: Run;
  readonly checkpoint: Checkpoint;
  readonly dropped: DroppedCheckpoint[];
}

/** Within a transaction: afterwards all rows are there or, when it rejects and the transaction with it, none is. */
export async function intendCheckpoint(
  catalog: CatalogTransaction,
  runId: string,
  wanted: WantedCheckpoint,
): Promise<IntendedCheckpoint> {
  const { name, description, dropOldest, requestedBy, priority = 0 } = wanted;
  const volume = await catalog.volumes.getReady(wanted.volume);
  requireOnline(await catalog.storageNodes.get(volume.storageNodeId));
  await requireFreeCheckpointName(catalog, volume, name);
  const dropped = await makeRoom(catalog, { volume, dropOldest, runId });
  const row = { id: randomUUID(), volumeId: volume.id, name, description };
  const checkpoint = await catalog.checkpoints.create(row, runId);
  const request: RunRequest<'create-checkpoint'> = {
    volumeId: volume.id,
    checkpointId: checkpoint.id,
    name,
    description,
    dropCheckpointIds: dropped.map(({ id }) => id),
  };
  const run = await catalog.runs.create({
    id: runId,
    kind: 'create-checkpoint',
    storageNodeId: volume.storageNodeId,
    volumeId: volume.id,
    checkpointId: checkpoint.id,
    priority,
    ...(requestedBy !== undefined && { requestedBy }),
    request,
  });
  return { run, checkpoint, dropped };
}
