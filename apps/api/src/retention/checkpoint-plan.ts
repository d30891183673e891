// What a prune tells of checkpoints: what keeps each, or that it goes with its last backup.
import type { HeldCheckpoint, VolumeOfCheckpoints } from '@tidemark/catalog';
import { isoOrNull } from '../moments.ts';
import type { PruneCheckpoint } from '../schemas/retention.ts';

interface Facts {
  /** Checkpoints that go. */
  readonly going: ReadonlySet<string>;
  /** Backups that leave their repository. */
  readonly leaving: ReadonlyMap<string, unknown>;
  /** The one that is pruned. */
  readonly repositoryId: string;
  readonly now: Date;
}

/** Of each volume the newest first. */
export function planCheckpoints(volumes: readonly VolumeOfCheckpoints[], facts: Facts): PruneCheckpoint[] {
  return volumes.flatMap(({ id: volumeId, checkpoints }) =>
    checkpoints.toReversed().map((checkpoint, index) => {
      const { id, name, pointInTime } = checkpoint;
      const goes = facts.going.has(id);
      const keep = goes ? [] : reasonsOf(checkpoint, index === 0, facts);
      return { id, name, volumeId, pointInTime: isoOrNull(pointInTime), goes, keep };
    }),
  );
}

function reasonsOf(
  { state, pinnedUntil, backups }: HeldCheckpoint,
  isNewest: boolean,
  { leaving, repositoryId, now }: Facts,
): string[] {
  const reasons = state === 'ready' ? [] : [`it is ${state}`];
  if (isNewest) reasons.push('the newest of its volume');
  if (pinnedUntil !== null && pinnedUntil > now) reasons.push(`pinned until ${pinnedUntil.toISOString()}`);
  for (const backup of backups.filter(({ id }) => !leaving.has(id))) {
    const where = backup.repositoryId === repositoryId ? '' : ` in repository ${backup.repository}`;
    reasons.push(`backup ${backup.id}${where}`);
  }
  // Prunes take only those that came with a backup: others were taken for themselves.
  return reasons.length > 0 ? reasons : ['taken without a backup'];
}
