// Checkpoints of a volume as intents ask for them: one that is there, one that can be built on, a name that is free.
import { TidemarkError } from '@tidemark/proto';
import type { CatalogTransaction } from '../catalog.ts';
import type { Checkpoint } from '../checkpoint-repository.ts';
import type { Volume } from '../volume-repository.ts';

/** Refuses a name that a checkpoint of the volume has, whatever its state. */
export async function requireFreeCheckpointName(
  catalog: CatalogTransaction,
  volume: Volume,
  name: string,
): Promise<void> {
  const taken = await catalog.checkpoints.find(volume.id, name);
  if (taken) {
    throw new TidemarkError(
      'checkpoint-name-taken',
      `Volume '${volume.name}' has a checkpoint '${name}' already, which is ${taken.state}. ` +
        'Choose another name, or delete that one first.',
    );
  }
  const renaming = await catalog.checkpoints.renamedFrom(volume.id, name);
  if (renaming === null) return;
  throw new TidemarkError(
    'checkpoint-name-taken',
    `A checkpoint of volume '${volume.name}' is being renamed from '${name}' by run ${renaming}. ` +
      'Wait until that run has ended, or choose another name.',
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
