// What a failed bitmap audit means for the next backups: nothing builds on what is older than it.
import type { Backup, Volume } from '@tidemark/catalog';

/** Where a backup begins, and why there. */
export interface Base {
  readonly parent: Backup | null;
  /** Of the volume: what changed since is kept. It is the parent's own but for a restored volume's first. */
  readonly baseCheckpointId: string | null;
  readonly reason: string;
}

/** The base as it was found, or none, with the reason, where bitmaps and backups of that time do not agree. */
export function audited(volume: Volume, base: Base): Base {
  const { distrustedUntil } = volume;
  const { parent } = base;
  if (parent === null || distrustedUntil === null) return base;
  // Increments on a full backup that was made since are as good as that is.
  if (parent.pointInTime !== null && parent.pointInTime > distrustedUntil) return base;
  const reason =
    `full: the bitmap audit of ${distrustedUntil.toISOString()} found bitmaps of volume '${volume.name}' ` +
    'and its backups to disagree';
  return { parent: null, baseCheckpointId: null, reason };
}
