// Several changes at one instant, or none. Prepare does everything that can fail, on a staged view that
// only later actions of the same transaction see; commit publishes in order and cannot fail. Both happen
// under one drain, so the point in time is at commit and no guest sees a moment in between.
import type { BlockGraph } from '../graph/block-graph.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import { StagedBitmaps } from './staged-bitmaps.ts';

/** What `prepare` leaves behind. The transaction calls exactly one of commit and abort, then clean. */
export interface PreparedAction {
  commit?(): void;
  /** Undoes what prepare did; what takes time is awaited before the transaction rejects. */
  abort?(): void | Promise<void>;
  /** After all commits, or all aborts. */
  clean?(): void;
}

export interface TransactionAction {
  readonly kind: string;
  /** The nodes whose guests have to stand still. Throws when one is not known. */
  nodes(graph: BlockGraph): GraphNode[];
  /** Throws when the action cannot be done; must then have left nothing behind. */
  prepare(graph: BlockGraph, staged: StagedBitmaps): PreparedAction;
}

/**
 * Resolves after commit. Rejects with the first action's error after the earlier ones were undone in
 * reverse order; later actions are then never looked at (scenario group 4).
 */
export async function runTransaction(
  graph: BlockGraph,
  actions: readonly TransactionAction[],
): Promise<void> {
  const nodes = actions.flatMap(action => action.nodes(graph));
  const undoing: (void | Promise<void>)[] = [];
  try {
    await graph.drained(nodes, () => commitAll(graph, actions, undoing));
  } finally {
    await Promise.all(undoing);
  }
}

function commitAll(
  graph: BlockGraph,
  actions: readonly TransactionAction[],
  undoing: (void | Promise<void>)[],
): void {
  const prepared: PreparedAction[] = [];
  const staged = new StagedBitmaps();
  try {
    for (const action of actions) prepared.push(action.prepare(graph, staged));
  } catch (error) {
    for (const action of prepared.reverse()) undoing.push(action.abort?.());
    for (const action of prepared) action.clean?.();
    throw error;
  }
  for (const action of prepared) action.commit?.();
  for (const action of prepared) action.clean?.();
}
