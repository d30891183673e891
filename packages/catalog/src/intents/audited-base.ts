// What a failed bitmap audit means for the next backups: nothing builds on what was made with the bitmaps it looked at.
import type { Backup } from '../backup-repository.ts';
import type { Volume } from '../volume-repository.ts';

/** Where a backup begins, and why there. */
export interface Base {
  readonly parent: Backup | null;
  /** Of the volume: what changed since is kept. It is the parent's own but for a restored volume's first. */
  readonly baseCheckpointId: string | null;
  readonly reason: string;
}

/** The base as it was found, or none, with the reason, where bitmaps and backups do not agree. */
export function audited(volume: Volume, base: Base): Base {
  const { distrustedUntil } = volume;
  const { parent } = base;
  if (parent === null) return base;
  const isOwn = parent.volumeId === volume.id;
  // What changed since the restore is known by the volume's own bitmaps alone.
  if (!parent.distrusted && (isOwn || distrustedUntil === null)) return base;
  const reason =
    distrustedUntil === null
      ? `full: a bitmap audit of volume '${parent.volumeName}' found backup ${parent.id} and its bitmaps to disagree`
      : `full: the bitmap audit of ${distrustedUntil.toISOString()} found bitmaps of volume '${volume.name}' ` +
        'and its backups to disagree';
  return { parent: null, baseCheckpointId: null, reason };
}
