// How is known of a group that it is one instant: every storage node says that its fence was there, unbroken, from
// before its commit until its release; and no commit was sent before all fences were there, no release before all
// commits had been answered. Then no guest's change was acknowledged anywhere between the first commit and the last.
import { type GroupCommitted, type GroupFenced, type GroupReleased, TidemarkError } from '@tidemark/proto';
import { NodesFailed, type PlannedNode } from './group-nodes.ts';

interface Timed<T> {
  readonly answer: T;
  /** When it was there, by the worker's monotonic clock. */
  readonly atMs: number;
}

/** Of one storage node. */
export interface NodeAnswers {
  readonly node: PlannedNode;
  readonly fence: Timed<GroupFenced>;
  readonly commit: Timed<GroupCommitted>;
  readonly release: Timed<GroupReleased>;
}

/** In milliseconds since the first fence was asked for, by the worker's monotonic clock. */
export interface CoordinatorTimes {
  readonly [moment: string]: number;
  readonly fenceSentMs: number;
  readonly allFencedMs: number;
  readonly commitSentMs: number;
  readonly allCommittedMs: number;
  readonly releaseSentMs: number;
  readonly allReleasedMs: number;
}

interface NodeProof {
  readonly [fact: string]: string | number | boolean | string[];
  readonly storageNodeId: string;
  readonly storageNode: string;
  readonly volumes: string[];
  /** Of fence, commit and release alike. */
  readonly fenceId: string;
  /** When its answers were there, as the coordinator's times are. */
  readonly fencedMs: number;
  readonly committedMs: number;
  readonly releasedMs: number;
  /** By the storage node's wall clock. */
  readonly fencedAtMs: number;
  readonly drainedInMs: number;
  readonly committedInMs: number;
  readonly held: boolean;
  readonly heldMs: number;
  readonly waits: number;
  readonly waitP99Ms: number;
  readonly waitMaxMs: number;
}

export interface GroupProof {
  readonly runId: string;
  readonly fenceLimitMs: number;
  readonly coordinator: CoordinatorTimes;
  readonly nodes: NodeProof[];
  /** Of any guest's request, for the fence. */
  readonly longestWaitMs: number;
}

/** Rejects with `NodesFailed` where a fence was not the same from before the commit until the release. */
export function requireHeld(group: string, answers: readonly NodeAnswers[]): void {
  const failures = answers.flatMap(({ node, ...timed }) => {
    const [fence, commit, release] = [timed.fence.answer, timed.commit.answer, timed.release.answer];
    const isOne = fence.fenceId === commit.fenceId && fence.fenceId === release.fenceId;
    if (release.held && isOne) return [];
    const why =
      release.reason || (isOne ? 'it was open before the release' : 'it is not the fence of the commit');
    const text =
      `The fence of group '${group}' on storage node ${node.storageNode} did not hold (${why}). ` +
      'Raise fenceLimitMs if guests may wait longer.';
    return [{ node, error: new TidemarkError('group-fence-broken', text) }];
  });
  if (failures.length > 0) throw new NodesFailed(failures);
}

/** To be kept with the group. */
export function proofOf(
  runId: string,
  { limitMs, times, answers }: { limitMs: number; times: CoordinatorTimes; answers: readonly NodeAnswers[] },
): GroupProof {
  const rounded = Object.entries(times).map(([name, ms]) => [name, round(ms)]);
  return {
    runId,
    fenceLimitMs: limitMs,
    coordinator: Object.fromEntries(rounded) as unknown as CoordinatorTimes,
    nodes: answers.map(nodeProof),
    longestWaitMs: round(Math.max(0, ...answers.map(({ release }) => release.answer.waitMaxMs))),
  };
}

function nodeProof({ node, ...timed }: NodeAnswers): NodeProof {
  const [fence, commit, release] = [timed.fence.answer, timed.commit.answer, timed.release.answer];
  return {
    storageNodeId: node.storageNodeId,
    storageNode: node.storageNode,
    volumes: node.members.map(({ volume }) => volume),
    fenceId: release.fenceId,
    fencedMs: round(timed.fence.atMs),
    committedMs: round(timed.commit.atMs),
    releasedMs: round(timed.release.atMs),
    fencedAtMs: fence.fencedAtMs,
    drainedInMs: round(fence.drainedInMs),
    committedInMs: round(commit.tookMs),
    held: release.held,
    heldMs: round(release.heldMs),
    waits: release.waits,
    waitP99Ms: round(release.waitP99Ms),
    waitMaxMs: round(release.waitMaxMs),
  };
}

/** A microsecond is more than any of it is good for. */
const round = (ms: number): number => Math.round(ms * 1000) / 1000;
