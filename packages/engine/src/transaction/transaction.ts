// Several changes at one instant, or none. Prepare does everything that can fail, on a staged view that
// only later actions of the same transaction see; commit publishes in order and cannot fail. Both happen
// under one drain, so the point in time is at commit and no guest sees a moment in between.
import { EngineError } from '../errors.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import { JobGroup } from '../job/job-group.ts';
import { StagedBitmaps } from './staged-bitmaps.ts';

/** individual: each job ends as it may. grouped: all succeed, or none does (scenarios TX-14, TX-15). */
export const COMPLETION_MODES = ['individual', 'grouped'] as const;
export type CompletionMode = (typeof COMPLETION_MODES)[number];

/** What the transaction as a whole gives to each of its actions. */
export interface PrepareContext {
  /** The group that the action's job belongs to; undefined: one of its own. */
  readonly group: JobGroup | undefined;
}

/** What `prepare` leaves behind. The transaction calls exactly one of commit and abort, then clean. */
export interface PreparedAction {
  commit?(): void;
  /** Undoes what prepare did; is awaited before the action before it is undone. */
  abort?(): void | Promise<void>;
  /** After all commits, or all aborts. */
  clean?(): void;
  /** After all commits, with guests running again: what takes time and may fail without anybody being told. */
  afterwards?(): Promise<void>;
}

export interface TransactionAction {
  readonly kind: string;
  /** True for what can be part of a transaction whose jobs complete together. Default false. */
  readonly groupable?: boolean;
  /** The nodes whose guests have to stand still; none for a node that is not known, which `prepare` refuses. */
  nodes(graph: BlockGraph): GraphNode[];
  /** Throws or rejects when the action cannot be done; must then have left nothing behind. */
  prepare(
    graph: BlockGraph,
    staged: StagedBitmaps,
    context: PrepareContext,
  ): PreparedAction | Promise<PreparedAction>;
}

/** An action whose preparation waits for nothing. */
export interface InstantAction extends TransactionAction {
  prepare(graph: BlockGraph, staged: StagedBitmaps, context: PrepareContext): PreparedAction;
}

/**
 * Resolves after commit. Rejects with the first action's error after the earlier ones were undone in
 * reverse order; later actions are then never looked at (scenario group 4).
 */
export async function runTransaction(
  graph: BlockGraph,
  actions: readonly TransactionAction[],
  options: { completionMode?: CompletionMode } = {},
): Promise<void> {
  const nodes = actions.flatMap(action => action.nodes(graph));
  const group = options.completionMode === 'grouped' ? new JobGroup() : undefined;
  const prepared: PreparedAction[] = [];
  try {
    await graph.drained(nodes, () => prepareAndCommit(graph, actions, { group, prepared }), { inTurn: true });
  } finally {
    for (const action of prepared) action.clean?.();
  }
  for (const action of prepared) await action.afterwards?.();
}

async function prepareAndCommit(
  graph: BlockGraph,
  actions: readonly TransactionAction[],
  { group, prepared }: PrepareContext & { prepared: PreparedAction[] },
): Promise<void> {
  try {
    await prepareAll(graph, actions, { group, prepared });
  } catch (error) {
    // With guests still waiting: none of them sees what was prepared.
    for (const action of prepared.toReversed()) await action.abort?.();
    throw error;
  }
  for (const action of prepared) action.commit?.();
}

async function prepareAll(
  graph: BlockGraph,
  actions: readonly TransactionAction[],
  { group, prepared }: PrepareContext & { prepared: PreparedAction[] },
): Promise<void> {
  const staged = new StagedBitmaps();
  for (const action of actions) {
    if (group !== undefined && action.groupable !== true) {
      const text = `Action '${action.kind}' does not support Transaction property completion-mode = grouped`;
      throw new EngineError('invalid-argument', text);
    }
    const ready = action.prepare(graph, staged, { group });
    prepared.push(ready instanceof Promise ? await ready : ready);
  }
}
