// Retention of checkpoints is explicit: a volume that has as many as it may have takes another one only from a caller
// who said that the oldest may go, and the answer names those that do.
import { isErrorCode, TidemarkError } from '@tidemark/proto';
import type { CatalogTransaction } from '../catalog.ts';
import type { Checkpoint } from '../checkpoint-repository.ts';
import { CatalogError } from '../errors.ts';
import type { Volume } from '../volume-repository.ts';

/** A checkpoint that goes for a new one. */
export interface DroppedCheckpoint {
  readonly id: string;
  readonly name: string;
}

/**
 * Room for one more checkpoint, to be made before its row is written and after its base was chosen; the volume's
 * row is held. Marks those that go as being deleted: give their ids to the run as `dropCheckpointIds`, which drops
 * them once the new checkpoint is safe, and unmarks them if it fails before. Rejects `checkpoint-limit`, and with
 * `dropOldest` what keeps the oldest: `checkpoint-pinned`, `checkpoint-in-use`, `checkpoint-not-ready`. No other
 * one goes in its stead.
 */
export async function makeRoom(
  catalog: CatalogTransaction,
  { volume, dropOldest, runId }: { volume: Volume; dropOldest: boolean; runId: string },
): Promise<DroppedCheckpoint[]> {
  const count = await catalog.checkpoints.count(volume.id);
  const excess = count + 1 - volume.checkpointLimit;
  if (excess <= 0) return [];
  if (!dropOldest) throw limitReached(volume, count);
  const oldest = await catalog.checkpoints.oldest(volume.id, excess);
  for (const checkpoint of oldest) {
    await catalog.checkpoints.markDeleting(checkpoint.id, runId).catch(tellWhichKeeps(volume, checkpoint));
  }
  return oldest.map(({ id, name }) => ({ id, name }));
}

function limitReached({ name, checkpointLimit }: Volume, count: number): TidemarkError {
  return new TidemarkError(
    'checkpoint-limit',
    `Volume '${name}' has ${count} checkpoints, and its limit is ${checkpointLimit}. Delete some, let the oldest go ` +
      `with "dropOldest": true, or raise the limit with PATCH /v1/volumes/${name} {"checkpointLimit": …}.`,
  );
}

function tellWhichKeeps(volume: Volume, checkpoint: Checkpoint): (error: unknown) => never {
  return error => {
    if (!(error instanceof CatalogError) || !isErrorCode(error.code)) throw error;
    throw new TidemarkError(
      error.code,
      `Checkpoint '${checkpoint.name}' is the oldest of volume '${volume.name}' and would have to go, but cannot: ` +
        error.message,
      error,
    );
  };
}
