// Compares what the catalog says of a storage node with what that has. Pure: the same two sides give the same
// differences, in the order in which they can be repaired.
import { type Group, type Inventory, isId, type RunFact } from '@tidemark/catalog';
import { compareGroups, idsInDoubt } from './compare-groups.ts';
import { compareLeftovers } from './compare-leftovers.ts';
import { compareRepositories } from './compare-repositories.ts';
import { compareVolumes } from './compare-volumes.ts';
import { type FoundDifference, findings, keyOf, type RunsAbout } from './found-difference.ts';
import { idsOf } from './ids.ts';
import type { NodeView } from './node-view.ts';

export interface BothSides {
  readonly storageNodeId: string;
  readonly catalog: Inventory;
  readonly node: NodeView;
  /** Of those that the storage node holds undecided. */
  readonly groups: readonly Group[];
  /** About what the storage node has, newest first. */
  readonly runs: readonly RunFact[];
  readonly nowMs: number;
  readonly stuckMs: number;
}

/** Leaves out what a run that goes on works on. */
export function compare(sides: BothSides): FoundDifference[] {
  const { catalog, node, runs, storageNodeId } = sides;
  const { found, find } = findings();
  const runsAbout: RunsAbout = (id, kinds) =>
    runs.find(run => run.ids.includes(id) && (kinds === undefined || kinds.includes(run.kind)));
  const foreign = idsOf(node).filter(id => !isId(id));
  if (foreign.length > 0) {
    const text = `The storage node has things under ids that are none of ours: ${foreign.slice(0, 10).join(', ')}.`;
    find('foreign-ids', storageNodeId, text, { facts: { ids: foreign.slice(0, 100) } });
  }
  compareGroups({ ...sides, runsAbout }, find);
  compareRepositories({ catalog, node, runsAbout }, find);
  compareVolumes({ catalog, node, runsAbout }, find);
  compareLeftovers({ ...sides, runsAbout }, find);
  const busy = new Set([...busyIds(catalog.liveRuns), ...idsInDoubt(node)]);
  const quiet = found.filter(
    ({ kind, touches }) => kind === 'run-stuck' || !touches.some(id => busy.has(id.toLowerCase())),
  );
  // Of several of one name about one subject the first stands for all.
  return [...new Map(quiet.toReversed().map(one => [keyOf(one), one])).values()].reverse();
}

/** Their runs read a backup, or add one: the rest of the repository is as it was. */
const LEAVES_REPOSITORY: readonly string[] = ['backup', 'restore', 'audit', 'verify', 'export', 'replicate'];
/** They look at one backup alone: what it was made of is as it was, and may be long gone. */
const LEAVES_VOLUME: readonly string[] = ['verify'];
const LEAVES_ALL: readonly string[] = ['reconcile', 'repair-difference', 'register-storage-node'];

function busyIds(liveRuns: readonly RunFact[]): Set<string> {
  const busy = new Set<string>();
  for (const run of liveRuns) {
    if (LEAVES_ALL.includes(run.kind)) continue;
    const left = [run.storageNodeId];
    if (LEAVES_REPOSITORY.includes(run.kind)) left.push(run.repositoryId, run.sourceRepositoryId ?? null);
    if (LEAVES_VOLUME.includes(run.kind)) left.push(run.volumeId, run.checkpointId);
    for (const id of run.ids) if (!left.includes(id)) busy.add(id);
  }
  return busy;
}
