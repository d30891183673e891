// What a backup has to be before anything of it is made: its size, its parent, its kind.
import { IMAGE_BYTES_MAX, SECTOR_BYTES } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { CHAIN_LENGTH_MAX } from '../limits.ts';
import type { Manifest } from '../repository/manifest.ts';

interface Plan {
  readonly backupId: string;
  readonly volumeId: string;
  readonly sizeBytes: number;
  readonly parentBackupId: string;
}

/** Throws `invalid-volume-size`. */
export function checkSize({ sizeBytes }: Pick<Plan, 'sizeBytes'>): void {
  const isValid = sizeBytes >= SECTOR_BYTES && sizeBytes % SECTOR_BYTES === 0 && sizeBytes <= IMAGE_BYTES_MAX;
  if (isValid) return;
  throw new TidemarkError(
    'invalid-volume-size',
    `A volume cannot have ${sizeBytes} bytes: give a multiple of ${SECTOR_BYTES}, at least ${SECTOR_BYTES}.`,
  );
}

/**
 * Throws `backup-not-usable` where nothing can be built on the parent. It may be of another volume: one that was
 * restored from it goes on where it ended.
 */
export function checkParent(
  plan: Plan,
  { parent, manifests, title }: { parent: Manifest; manifests: ReadonlyMap<string, Manifest>; title: string },
): void {
  const refuse = (state: string) =>
    new TidemarkError('backup-not-usable', `Backup ${parent.backupId} of ${title} ${state}.`);
  if (parent.hidden) throw refuse('is being taken out of its chain; make a full backup');
  if (parent.sizeBytes > plan.sizeBytes) {
    throw refuse(
      `has ${parent.sizeBytes} bytes, more than the ${plan.sizeBytes} of the volume; make a full backup`,
    );
  }
  let length = 1;
  for (let link: Manifest | undefined = parent; link !== undefined; length++) {
    link = manifests.get(link.parentBackupId);
  }
  if (length > CHAIN_LENGTH_MAX) throw refuse(`ends a chain of ${CHAIN_LENGTH_MAX}; make a full backup`);
}

/** Throws `invalid-request` where the kind is not what was prepared. */
export function checkKind({ backupId, kind }: Pick<Manifest, 'backupId' | 'kind'>, plan: Plan): void {
  const isFull = plan.parentBackupId === '';
  if (isFull === (kind === 'full')) return;
  throw new TidemarkError(
    'invalid-request',
    `Backup ${backupId} was prepared ${isFull ? 'without a' : 'with a'} parent: it is not ${kind}.`,
  );
}
