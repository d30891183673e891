// Carries permissions through the graph: from the users of a node to what it does to its children, down to
// the files. Either all of it holds afterwards, or nothing has changed.
import { EngineError } from '../errors.ts';
import { GRAPH_DEPTH_MAX } from '../limits.ts';
import type { GraphNode } from './graph-node.ts';
import { assertNoConflict, PERMISSION, PERMISSIONS_ALL, totalPermissions } from './permissions.ts';

const WRITES = PERMISSION.write | PERMISSION.writeUnchanged;

type Undo = () => void;

/**
 * Throws kind `conflict` where two users of a node exclude each other, `denied` where somebody would write to
 * a node that is read-only, and what a driver has against its new permissions (a lock that another process
 * holds: `busy`).
 */
export function settlePermissions(nodes: Iterable<GraphNode>): void {
  const undo: Undo[] = [];
  try {
    for (const node of parentsFirst(nodes)) settle(node, undo);
  } catch (error) {
    for (const restore of undo.reverse()) restore();
    throw error;
  }
}

function settle(node: GraphNode, undo: Undo[]): void {
  assertNoConflict(node.name, node.parents);
  const total = totalPermissions(node.parents);
  if ((total.uses & WRITES) !== 0) node.assertWritable();
  undo.push(node.setPermissions(total));
  const state = {
    inserted: node.inserted,
    used: node.inserted || node.parents.size > 0,
    writable: node.writable,
  };
  for (const edge of node.children) {
    const { uses, shares } = edge;
    undo.push(() => Object.assign(edge, { uses, shares }));
    Object.assign(edge, node.childPermissions(edge.role, total, state));
    if (edge.node.forceShare) edge.shares = PERMISSIONS_ALL;
  }
}

/** All nodes that can be reached downwards, each after all of those above it. */
function parentsFirst(nodes: Iterable<GraphNode>): GraphNode[] {
  const done = new Set<GraphNode>();
  const order: GraphNode[] = [];
  const visit = (node: GraphNode): void => {
    if (done.has(node)) return;
    done.add(node);
    for (const edge of node.children) visit(edge.node);
    order.push(node);
  };
  for (const node of nodes) visit(node);
  return order.reverse();
}

/** Whether `node` is `other` or lies above it. */
export function reaches(node: GraphNode, other: GraphNode): boolean {
  const seen = new Set<GraphNode>();
  const visit = (at: GraphNode): boolean => {
    if (at === other) return true;
    if (seen.has(at)) return false;
    seen.add(at);
    return at.children.some(edge => visit(edge.node));
  };
  return visit(node);
}

/** How many levels of nodes hang below, this one included. */
function depthOf(node: GraphNode): number {
  const known = new Map<GraphNode, number>();
  const measure = (at: GraphNode): number => {
    const before = known.get(at);
    if (before !== undefined) return before;
    const depth = 1 + Math.max(0, ...at.children.map(edge => measure(edge.node)));
    known.set(at, depth);
    return depth;
  };
  return measure(node);
}

/** Throws kind `conflict` (a cycle) or `unsupported` (too deep) where the node cannot be a child of the other. */
export function assertDepth(parent: GraphNode, child: GraphNode): void {
  if (reaches(child, parent)) {
    const text = `Making '${child.name}' a child of '${parent.name}' would create a cycle`;
    throw new EngineError('conflict', text, { node: parent.name });
  }
  if (depthOf(child) < GRAPH_DEPTH_MAX) return;
  const text = `Block node '${child.name}' has ${GRAPH_DEPTH_MAX} levels of block nodes below it already`;
  throw new EngineError('unsupported', text, { node: child.name, hint: 'Shorten the chain of images.' });
}
