// What a look saw, by id: after the loss of a catalog each of hundreds of thousands of things is repaired by itself.
import type { Checkpoint, StoredBackup } from '@tidemark/proto';
import type { Look } from './look.ts';

interface LookIndex {
  readonly backups: ReadonlyMap<string, { readonly repositoryId: string; readonly backup: StoredBackup }>;
  readonly checkpoints: ReadonlyMap<string, { readonly volumeId: string; readonly checkpoint: Checkpoint }>;
  /** Ids of those that the catalog has. */
  readonly checkpointRows: ReadonlySet<string>;
}

const INDEXES = new WeakMap<Look, LookIndex>();

/** Made once for each look. */
export function indexOf(look: Look): LookIndex {
  const known = INDEXES.get(look);
  if (known) return known;
  const { node, catalog } = look;
  const index: LookIndex = {
    backups: new Map(
      node.repositories.flatMap(({ repository: { repositoryId }, backups }) =>
        backups.map(backup => [backup.backupId, { repositoryId, backup }] as const),
      ),
    ),
    checkpoints: new Map(
      node.volumes.flatMap(({ volume: { volumeId, checkpoints } }) =>
        checkpoints.map(checkpoint => [checkpoint.checkpointId, { volumeId, checkpoint }] as const),
      ),
    ),
    checkpointRows: new Set(catalog.checkpoints.map(({ id }) => id)),
  };
  INDEXES.set(look, index);
  return index;
}
