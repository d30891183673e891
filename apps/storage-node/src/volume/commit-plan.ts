// Which images of a volume a commit merges into which, and what the volume consists of afterwards.
import { TidemarkError } from '@tidemark/proto';
import { type CommitRecord, type LayerRecord, layersOf, type VolumeRecord } from './volume-record.ts';

export interface CommitRequest {
  readonly commitId: string;
  /** The snapshot whose image is merged; empty: what the guest writes to. */
  readonly topSnapshotId: string;
  /** The snapshot whose image is merged into; empty: the oldest. */
  readonly baseSnapshotId: string;
  readonly shallow: boolean;
  readonly active: boolean;
  readonly deleteFiles: boolean;
}

export interface CommitPlan {
  readonly top: LayerRecord;
  readonly base: LayerRecord;
  /** From top down to above base. */
  readonly mergedLayers: readonly LayerRecord[];
  readonly commit: CommitRecord;
  /** Snapshots that the commit overwrites. */
  readonly lostSnapshotIds: readonly string[];
}

/** Throws `snapshot-not-found`, `commit-invalid`, `invalid-request` or `volume-busy`. */
export function planCommit(record: VolumeRecord, request: CommitRequest): CommitPlan {
  const { commitId, topSnapshotId, baseSnapshotId, shallow, active, deleteFiles } = request;
  const layers = layersOf(record);
  assertNoCommit(record);
  assertNotMerged(record, commitId);
  if (shallow && baseSnapshotId !== '') {
    throw new TidemarkError('invalid-request', "A commit is 'shallow' or names its base, not both.");
  }
  const at = topSnapshotId === '' ? layers.length - 1 : indexOf(record, topSnapshotId);
  assertActive(record, { wanted: active, is: at === layers.length - 1 });
  const lowest = shallow ? at - 1 : 0;
  const into = baseSnapshotId === '' ? lowest : indexOf(record, baseSnapshotId);
  if (into < 0 || into >= at) throw nothingBelow(record, topSnapshotId, baseSnapshotId);
  const [top, base] = [layers[at]!, layers[into]!];
  const lost = new Set(layers.slice(into, at).map(({ layerId }) => layerId));
  return {
    top,
    base,
    mergedLayers: layers.slice(into + 1, at + 1),
    commit: { commitId, topLayerId: top.layerId, baseLayerId: base.layerId, active, deleteFiles },
    lostSnapshotIds: record.snapshots.filter(one => lost.has(one.layerId)).map(one => one.snapshotId),
  };
}

/** The volume while the commit is under way. */
export function begun(record: VolumeRecord, { commit, lostSnapshotIds }: CommitPlan): VolumeRecord {
  const snapshots = record.snapshots.filter(({ snapshotId }) => !lostSnapshotIds.includes(snapshotId));
  return { ...record, snapshots, commit };
}

/** The volume without the merged images: base shows what top showed. */
export function merged(record: VolumeRecord, { top, base, mergedLayers, commit }: CommitPlan): VolumeRecord {
  const gone = mergedLayers.map(({ layerId }) => layerId);
  const snapshots = record.snapshots.map(snapshot =>
    snapshot.layerId === top.layerId ? { ...snapshot, layerId: base.layerId } : snapshot,
  );
  return withoutCommit({
    ...record,
    mergedCommitId: commit.commitId,
    keptLayers: commit.deleteFiles ? undefined : [...mergedLayers],
    snapshots,
    layers: layersOf(record).filter(({ layerId }) => !gone.includes(layerId)),
  });
}

export function withoutCommit({ commit: _, ...record }: VolumeRecord): VolumeRecord {
  return record;
}

/** Throws `volume-busy`. */
export function assertNoCommit({ name, commit }: VolumeRecord): void {
  if (commit === undefined) return;
  throw new TidemarkError(
    'volume-busy',
    `Volume '${name}' has commit ${commit.commitId} under way. Wait for its end, or end it by pivot, keep or cancel.`,
  );
}

/** A caller who never got the answer asks again, also of a storage node that has forgotten the job. */
function assertNotMerged({ name, mergedCommitId }: VolumeRecord, commitId: string): void {
  if (mergedCommitId !== commitId) return;
  throw new TidemarkError(
    'commit-invalid',
    `Commit ${commitId} of volume '${name}' is done: its images are merged. Start another one under a new id.`,
  );
}

function indexOf(record: VolumeRecord, snapshotId: string): number {
  const snapshot = record.snapshots.find(one => one.snapshotId === snapshotId);
  const index = layersOf(record).findIndex(({ layerId }) => layerId === snapshot?.layerId);
  if (index >= 0) return index;
  throw new TidemarkError(
    'snapshot-not-found',
    `Volume '${record.name}' has no snapshot ${snapshotId}. List them to see which there are.`,
  );
}

function assertActive({ name }: VolumeRecord, { wanted, is }: { wanted: boolean; is: boolean }): void {
  if (wanted === is) return;
  const text = is
    ? `Committing what the guest of volume '${name}' writes to takes two phases: when the job is ready it waits ` +
      "for pivot or keep. Say so with 'active': true, or name a snapshot as top."
    : `The commit of a snapshot of volume '${name}' ends by itself: leave 'active' out, or the top.`;
  throw new TidemarkError('commit-invalid', text);
}

function nothingBelow({ name, snapshots }: VolumeRecord, top: string, base: string): TidemarkError {
  const text =
    base === ''
      ? `Volume '${name}' has no image below ${top === '' ? 'the one its guest writes to' : `snapshot ${top}`}: ` +
        (snapshots.length === 0 ? 'take a snapshot first.' : 'choose a later snapshot as top.')
      : `Snapshot ${base} of volume '${name}' is not below the top: choose an older one as base.`;
  return new TidemarkError('commit-invalid', text);
}
