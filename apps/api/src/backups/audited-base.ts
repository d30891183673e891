// What a failed bitmap audit means for the next backups: nothing builds on what is older than it.
import type { Backup, Volume } from '@tidemark/catalog';

interface Base {
  readonly parent: Backup | null;
  readonly reason: string;
}

/** The base as it was found, or none, with the reason, where bitmaps and backups of that time do not agree. */
export function audited<B extends Base>(volume: Volume, base: B): Base {
  const { auditedAt, auditResult } = volume;
  const { parent } = base;
  if (parent === null || auditResult !== 'different' || auditedAt === null) return base;
  // Increments on a full backup that was made since are as good as that is.
  if (parent.pointInTime !== null && parent.pointInTime > auditedAt) return base;
  const reason =
    `full: the bitmap audit of ${auditedAt.toISOString()} found bitmaps of volume '${volume.name}' and its backups ` +
    'to disagree';
  return { parent: null, reason };
}
