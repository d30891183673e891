// What keeps a volume from a new snapshot, and what its snapshots keep it from.
import { TidemarkError } from '@tidemark/proto';
import { VOLUME_SNAPSHOTS_MAX } from '../limits.ts';
import { layersOf, type VolumeRecord } from './volume-record.ts';

/** Throws `snapshot-limit`, and `invalid-request` for an id that was used before. */
export function assertMaySnapshot(record: VolumeRecord, snapshotId: string): void {
  assertNewLayer(record, snapshotId);
  if (record.snapshots.length >= VOLUME_SNAPSHOTS_MAX) throw tooManySnapshots(record);
}

/** The image that is made with a snapshot has its id, and may outlive it. */
function assertNewLayer(record: VolumeRecord, snapshotId: string): void {
  if (!layersOf(record).some(({ layerId }) => layerId === snapshotId)) return;
  throw new TidemarkError(
    'invalid-request',
    `Volume '${record.name}' had a snapshot ${snapshotId} before. Take the new one under a new id.`,
  );
}

function tooManySnapshots({ name, snapshots }: VolumeRecord): TidemarkError {
  return new TidemarkError(
    'snapshot-limit',
    `Volume '${name}' has ${snapshots.length} snapshots, which is as many as it can have. ` +
      'Commit one of them into the one below first.',
  );
}

/** A copy of the disk would lose them. Throws `volume-busy`. */
export function assertNoSnapshots({ name, snapshots }: VolumeRecord): void {
  if (snapshots.length === 0) return;
  const names = snapshots.map(snapshot => `'${snapshot.name}'`).join(', ');
  const text =
    `Volume '${name}' has snapshots (${names}), which cannot move to another storage node. ` +
    'Commit them into the volume first.';
  throw new TidemarkError('volume-busy', text);
}
