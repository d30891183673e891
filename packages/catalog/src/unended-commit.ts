// A volume has one commit at a time, and while it has one its images are left alone.
import { CatalogError } from './errors.ts';
import type { VolumeCommitModel } from './generated/models.ts';
import type { Db } from './scope.ts';

export const ENDED_COMMIT_STATES = ['done', 'failed', 'cancelled'];

interface NamedVolume {
  id: string;
  name: string;
}

/** Rejects `volume-busy`. Hold the volume's row while the answer has to stay true. */
export async function requireNoCommit(db: Db, volume: NamedVolume): Promise<void> {
  const commit = await db.volumeCommit.findFirst({
    where: { volumeId: volume.id, state: { notIn: ENDED_COMMIT_STATES } },
  });
  if (!commit) return;
  const text = `Volume '${volume.name}' has commit ${commit.id}, which is ${commit.state}. ${nextStep(commit)}`;
  throw new CatalogError('volume', 'busy', text);
}

function nextStep({ state, runId }: VolumeCommitModel): string {
  if (state === 'ready') return 'End it first: pivot, or keep.';
  if (state === 'starting' || state === 'copying') return `Wait for it, or cancel its run ${runId}.`;
  return 'Wait until it has ended.';
}

/** The row stays as it is until the transaction ends. Rejects `not-found`. */
export async function lockVolume(db: Db, volumeId: string): Promise<NamedVolume> {
  const rows = await db.$queryRaw<NamedVolume[]>`
    SELECT id, name FROM volume WHERE id = ${volumeId}::uuid FOR UPDATE`;
  const volume = rows[0];
  if (volume) return volume;
  throw new CatalogError(
    'volume',
    'not-found',
    `There is no volume '${volumeId}'. It was deleted meanwhile.`,
  );
}
