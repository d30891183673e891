// What can be said against a commit, or a decision about one, before any storage node is asked: as far as the
// catalog knows. The rest the storage node says, and the run fails with it.
import type { CatalogTransaction, Commit, Snapshot, Volume } from '@tidemark/catalog';
import { TidemarkError } from '@tidemark/proto';
import type { CreateCommit } from '../schemas/commit.ts';

/** What a commit is between: what the guest writes to has no top, the oldest image no base. */
export interface CommitEnds {
  readonly top: Snapshot | null;
  readonly base: Snapshot | null;
}

/** Passes a commit that the flag `active` says the truth about. */
export function requireActiveFlag(volume: Volume, { top, active }: CreateCommit): void {
  if (active === (top === undefined)) return;
  const text = active
    ? `The commit of snapshot '${top}' of volume '${volume.name}' ends by itself: leave out 'active', or 'top'.`
    : `Committing what the guest of volume '${volume.name}' writes to takes two phases: when it is ready it ` +
      "waits for pivot or keep. Say so with 'active': true, or name a snapshot as 'top'.";
  throw new TidemarkError('commit-invalid', text);
}

export function requireReadySnapshot(volume: Volume, snapshot: Snapshot): void {
  if (snapshot.state === 'ready') return;
  throw new TidemarkError(
    'snapshot-not-ready',
    `Snapshot '${snapshot.name}' of volume '${volume.name}' is ${snapshot.state}. Wait until its run has ` +
      'ended, or choose another one.',
  );
}

export function requireBaseBelowTop(volume: Volume, { top, base }: CommitEnds): void {
  if (!top || !base) return;
  const isAbove = Number(base.pointInTime) > Number(top.pointInTime);
  if (top.id !== base.id && !isAbove) return;
  throw new TidemarkError(
    'commit-invalid',
    `Snapshot '${base.name}' of volume '${volume.name}' is not older than '${top.name}', so it is not below ` +
      'it. Choose an older one as base, or a later one as top.',
  );
}

/**
 * A commit that was given up leaves images below that no snapshot names any more. So only where there never
 * was a commit do the snapshots tell all images.
 */
export async function requireSomethingBelow(
  catalog: CatalogTransaction,
  volume: Volume,
  { top, base }: CommitEnds,
): Promise<void> {
  if (base !== null) return;
  const earlier = await catalog.commits.list(volume.id, { limit: 1 });
  if (earlier.items.length > 0) return;
  const [oldest] = (await catalog.snapshots.list(volume.id, { limit: 1 })).items;
  if (oldest && oldest.id !== top?.id) return;
  const text =
    top === null
      ? `Volume '${volume.name}' has no snapshot, so there is no image below the one its guest writes to. ` +
        'Take a snapshot first.'
      : `Snapshot '${top.name}' of volume '${volume.name}' is the oldest; there is no image below it. ` +
        'Choose a later snapshot as top.';
  throw new TidemarkError('commit-invalid', text);
}

/** Passes a commit that waits for a decision. */
export function requireWaiting(volume: Volume, commit: Commit): void {
  if (commit.state === 'ready') return;
  throw new TidemarkError(
    'commit-not-ready',
    `Commit ${commit.id} of volume '${volume.name}' is ${commit.state}, not ready. ${nextStep(commit)}`,
  );
}

function nextStep({ state, active, runId }: Commit): string {
  if (state === 'pivoting' || state === 'keeping') return 'It was decided already: wait until it has ended.';
  if (state !== 'starting' && state !== 'copying')
    return 'It has ended, and nothing is left to decide; start a new one.';
  if (!active) return `It ends by itself: wait for its run ${runId}, or cancel that.`;
  return `Wait until its run ${runId} has ended, or cancel that.`;
}
