// What a backup builds on, and the reason that says so: a backup of the same repository, so that the chain is whole,
// at a checkpoint that the volume still has.
import { TidemarkError } from '@tidemark/proto';
import type { Backup, BackupKind, BackupOrigin } from '../backup-repository.ts';
import type { CatalogTransaction } from '../catalog.ts';
import type { Repository } from '../repository-repository.ts';
import type { Volume } from '../volume-repository.ts';
import { audited, type Base } from './audited-base.ts';
import { findCheckpoint, requireReady } from './known-checkpoint.ts';

/** What an operator says of where the backup begins. */
export interface WantedBase {
  readonly kind: BackupKind;
  /** Id or name of a checkpoint; by default the newest with a backup in the repository. */
  readonly base?: string | undefined;
}

interface Place {
  readonly volume: Volume;
  readonly repository: Repository;
}

/** Rejects `checkpoint-not-found`, `checkpoint-not-ready` and `backup-not-found` where there is none. */
export async function chooseBase(
  catalog: CatalogTransaction,
  place: Place,
  { kind, base }: WantedBase,
): Promise<Base> {
  if (kind === 'full') {
    return { parent: null, baseCheckpointId: null, reason: await reasonOfFull(catalog, place) };
  }
  const found = base === undefined ? newest(catalog, place, kind) : named(catalog, place, base);
  return wholeOrFull(catalog, audited(place.volume, toBase(kind, await found)));
}

/** Nothing can be written over a chain that has lost a member; the reason says which. */
async function wholeOrFull(catalog: CatalogTransaction, base: Base): Promise<Base> {
  const missing = base.parent && (await catalog.backups.findMissingBelow(base.parent.id));
  if (!missing) return base;
  const reason =
    `full: backup ${base.parent!.id} stands on ${missing.id} (checkpoint '${missing.checkpoint}'), which its ` +
    'repository does not have any more';
  return { parent: null, baseCheckpointId: null, reason };
}

/** A restored volume goes on where the backup that it was restored from ended. */
function toBase(kind: string, found: Backup | BackupOrigin): Base {
  if ('backup' in found) {
    const { backup: parent, checkpointId: baseCheckpointId, checkpoint } = found;
    return { parent, baseCheckpointId, reason: `${kind}: since the restore to checkpoint '${checkpoint}'` };
  }
  const reason = `${kind}: since checkpoint '${found.checkpoint}'`;
  return { parent: found, baseCheckpointId: found.checkpointId, reason };
}

async function reasonOfFull(catalog: CatalogTransaction, { volume, repository }: Place): Promise<string> {
  const filter = { volumeId: volume.id, repositoryId: repository.id, limit: 1 };
  const { items } = await catalog.backups.list(filter);
  return items.length > 0
    ? 'full: asked for'
    : `full: asked for; the first of volume '${volume.name}' in repository '${repository.name}'`;
}

async function newest(
  catalog: CatalogTransaction,
  { volume, repository }: Place,
  kind: 'incremental' | 'differential',
): Promise<Backup | BackupOrigin> {
  const { backups } = catalog;
  const parent =
    kind === 'differential'
      ? await backups.findFullBase(volume.id, repository.id)
      : await backups.findBase(volume.id, repository.id);
  // What a volume was restored from stands for a full backup of it.
  const found = parent ?? (await backups.findOrigin(volume.id, repository.id));
  if (found !== null) return found;
  const what = kind === 'differential' ? 'a full backup' : 'a backup';
  throw new TidemarkError(
    'checkpoint-not-found',
    `No ready checkpoint of volume '${volume.name}' has ${what} in repository '${repository.name}'. ` +
      'Make a full backup there first (kind "full").',
  );
}

async function named(
  catalog: CatalogTransaction,
  { volume, repository }: Place,
  ref: string,
): Promise<Backup | BackupOrigin> {
  const checkpoint = await findCheckpoint(catalog, volume, ref);
  requireReady(volume, checkpoint);
  const parent = await catalog.backups.findOfCheckpoint(checkpoint.id, repository.id);
  const origin = parent ?? (await catalog.backups.findOrigin(volume.id, repository.id, checkpoint.id));
  if (origin) return origin;
  throw new TidemarkError(
    'backup-not-found',
    `Checkpoint '${checkpoint.name}' of volume '${volume.name}' has no available backup in ` +
      `repository '${repository.name}'. Choose another base, or make a full backup there first.`,
  );
}
