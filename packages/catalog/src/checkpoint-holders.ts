// Which checkpoints volumes have, and which backups hold them in whatever repository: what retention tells of them.
import type { Db } from './scope.ts';

/** A checkpoint as retention sees it. */
export interface HeldCheckpoint {
  id: string;
  name: string;
  /** creating, ready or deleting */
  state: string;
  pointInTime: Date | null;
  pinnedUntil: Date | null;
  /** In whatever state, oldest first. */
  backups: { id: string; repositoryId: string; repository: string }[];
}

export interface VolumeOfCheckpoints {
  id: string;
  name: string;
  /** Oldest first. */
  checkpoints: HeldCheckpoint[];
}

/** Of volumes that are still there. Give at most some hundred at once. */
export async function volumesOf(db: Db, volumeIds: readonly string[]): Promise<VolumeOfCheckpoints[]> {
  const volumeId = { in: [...volumeIds] };
  const order = [{ createdAt: 'asc' as const }, { id: 'asc' as const }];
  const volumes = await db.volume.findMany({ where: { id: volumeId }, select: { id: true, name: true } });
  const rows = await db.checkpoint.findMany({ where: { volumeId }, orderBy: order });
  const backups = await db.backup.findMany({
    where: { volumeId },
    select: { id: true, checkpointId: true, repositoryId: true, repository: { select: { name: true } } },
    orderBy: order,
  });
  const held = Map.groupBy(backups, ({ checkpointId }) => checkpointId);
  const checkpoints = Map.groupBy(rows, row => row.volumeId);
  return volumes.map(({ id, name }) => ({
    id,
    name,
    checkpoints: (checkpoints.get(id) ?? []).map(row => ({
      ...{ id: row.id, name: row.name, state: row.state },
      ...{ pointInTime: row.pointInTime, pinnedUntil: row.pinnedUntil },
      backups: (held.get(row.id) ?? []).map(({ checkpointId: _, repository, ...backup }) => ({
        ...backup,
        repository: repository.name,
      })),
    })),
  }));
}
