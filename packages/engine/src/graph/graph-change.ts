// A change of several block nodes and edges that takes place as a whole or not at all. Made and used under drain,
// by BlockGraph.change alone.
import { EngineError } from '../errors.ts';
import type { BlockNode } from '../node/block-node.ts';
import { isJobFilter } from './chain.ts';
import { Edge } from './edge.ts';
import type { GraphNode, NodePolicy } from './graph-node.ts';
import { PERMISSIONS_ALL } from './permissions.ts';
import { reaches, settlePermissions } from './settle.ts';

type Undo = () => void;

export class GraphChange {
  readonly #undo: Undo[] = [];
  readonly #touched = new Set<GraphNode>();
  readonly #left = new Set<GraphNode>();

  /** Nodes that lost a user. */
  get left(): readonly GraphNode[] {
    return [...this.#left];
  }

  /** Lets `parent` use `child` in that role instead of what it used; undefined: nothing. */
  setChild(parent: GraphNode, role: string, child: GraphNode | undefined): void {
    const edge = parent.children.find(candidate => candidate.role === role);
    if (edge?.node === child) return;
    if (edge !== undefined && isJobFilter(edge.node)) throw implicitChild(parent, role);
    if (child !== undefined) assertNoCycle(parent, role, child);
    if (edge !== undefined && edge.frozen > 0) throw frozenLink(parent, role, edge.node);
    this.#touched.add(parent);
    if (child !== undefined) this.#touched.add(child);
    if (edge !== undefined) this.#left.add(edge.node);
    if (edge === undefined) this.#addEdge(parent, role, child!);
    else if (child === undefined) this.#removeEdge(parent, edge);
    else this.#moveEdge(edge, child);
  }

  /**
   * Gives the users of `from` to `to`, which has come to stand above it. Those that `to` itself stands on stay.
   */
  moveUsers(from: GraphNode, to: GraphNode): void {
    this.#touched.add(to);
    this.#left.add(from);
    for (const edge of [...from.parents]) {
      const below = edge.parent !== undefined && reaches(to, edge.parent);
      if (!below) this.#moveEdge(edge, to);
    }
  }

  setReadOnly(node: GraphNode, readOnly: boolean): void {
    this.#touched.add(node);
    this.#undo.push(node.setReadOnly(readOnly));
  }

  setPolicy(node: GraphNode, policy: Required<NodePolicy>): void {
    this.#undo.push(node.setPolicy(policy));
  }

  /** Keeps what the old driver holds open: closing it is the caller's, once the change is final. */
  setDriver(node: GraphNode, driver: BlockNode): void {
    this.#undo.push(node.replaceDriver(driver));
  }

  /** Throws what settlePermissions does; the change is to be rolled back then. */
  settle(): void {
    try {
      settlePermissions(this.#concerned());
    } finally {
      for (const node of this.#touched) node.endTurning();
    }
  }

  rollback(): void {
    for (const undo of this.#undo.splice(0).reverse()) undo();
    settlePermissions(this.#concerned());
  }

  #concerned(): Set<GraphNode> {
    return new Set([...this.#touched, ...this.#left]);
  }

  #addEdge(parent: GraphNode, role: string, child: GraphNode): void {
    const user = `block node '${parent.name}' as '${role}'`;
    const edge = new Edge({ role, user, parent, node: child, shares: PERMISSIONS_ALL });
    parent.children.push(edge);
    child.parents.add(edge);
    this.#undo.push(() => {
      parent.children.splice(parent.children.indexOf(edge), 1);
      child.parents.delete(edge);
    });
  }

  #removeEdge(parent: GraphNode, edge: Edge): void {
    const index = parent.children.indexOf(edge);
    parent.children.splice(index, 1);
    edge.node.parents.delete(edge);
    this.#undo.push(() => {
      parent.children.splice(index, 0, edge);
      edge.node.parents.add(edge);
    });
  }

  #moveEdge(edge: Edge, to: GraphNode): void {
    const from = edge.node;
    from.parents.delete(edge);
    edge.node = to;
    to.parents.add(edge);
    this.#undo.push(() => {
      to.parents.delete(edge);
      edge.node = from;
      from.parents.add(edge);
    });
  }
}

function frozenLink({ name }: GraphNode, role: string, child: GraphNode): EngineError {
  const text = `Cannot change frozen '${role}' link from '${name}' to '${child.name}'`;
  const hint = 'Wait for the end of the job on this chain, or cancel it.';
  return new EngineError('busy', text, { node: name, hint });
}

function implicitChild({ name }: GraphNode, role: string): EngineError {
  const hint = 'Wait for the end of the job whose filter it is, or cancel it.';
  return new EngineError('busy', `Cannot replace implicit ${role} child of ${name}`, { node: name, hint });
}

function assertNoCycle(parent: GraphNode, role: string, child: GraphNode): void {
  if (!reaches(child, parent)) return;
  const text = `Making '${child.name}' a ${role} child of '${parent.name}' would create a cycle`;
  throw new EngineError('conflict', text, { node: parent.name, hint: 'Choose a block node from below.' });
}
