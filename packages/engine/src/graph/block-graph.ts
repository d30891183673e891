// All block nodes of a process by name, the edges between them, and the rules for changing them: every
// change either holds with everybody's permissions or has not happened.
import { strict as assert } from 'node:assert';
import { EngineError } from '../errors.ts';
import type { BlockNode } from '../node/block-node.ts';
import { Attachment } from './attachment.ts';
import { Edge } from './edge.ts';
import { type DrainedWriter, GraphNode } from './graph-node.ts';
import {
  assertNoConflict,
  type ChildPermissions,
  formatPermissions,
  PERMISSIONS_ALL,
  totalPermissions,
} from './permissions.ts';

export interface AddOptions {
  name: string;
  /** Role to name of an existing block node. */
  children?: Readonly<Record<string, string>>;
  /** Default: an image format's. */
  permissions?: ChildPermissions;
}

export interface AttachOptions {
  /** For messages, such as `export 'vol-a'`. */
  user: string;
  /** Masks of PERMISSION. */
  uses: number;
  /** Default: everything. */
  shares?: number;
}

export class BlockGraph {
  readonly #nodes = new Map<string, GraphNode>();
  readonly #attachments = new Map<Edge, Attachment>();
  #generated = 0;

  /**
   * Throws kind `exists`, for an unknown child `not-found`, `conflict` with a child's other users. `create`
   * gets the children's edges.
   */
  add(options: AddOptions, create: (children: Record<string, Edge>) => BlockNode): GraphNode {
    const { name } = options;
    if (this.#nodes.has(name))
      throw new EngineError('exists', `Node '${name}' exists already`, { node: name });
    const node = new GraphNode(name, options.permissions ?? formatPermissions);
    const edges: Record<string, Edge> = {};
    for (const [role, childName] of Object.entries(options.children ?? {})) {
      const child = this.get(childName);
      const edge = new Edge({
        role,
        user: `block node '${name}' as '${role}'`,
        parent: node,
        node: child,
        shares: PERMISSIONS_ALL,
      });
      edges[role] = edge;
      node.children.push(edge);
    }
    node.setDriver(create(edges));
    for (const edge of node.children) edge.node.parents.add(edge);
    this.#nodes.set(name, node);
    try {
      this.#settleAll([node]);
    } catch (error) {
      this.#nodes.delete(name);
      for (const edge of node.children) edge.node.parents.delete(edge);
      throw error;
    }
    return node;
  }

  find(name: string): GraphNode | undefined {
    return this.#nodes.get(name);
  }

  get(name: string): GraphNode {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new EngineError('not-found', `Cannot find node '${name}'`, { node: name });
    return node;
  }

  /** A name for a node that nobody named; no user can choose such a name. */
  freeName(): string {
    return `#block${String(++this.#generated).padStart(3, '0')}`;
  }

  has(name: string): boolean {
    return this.#nodes.has(name);
  }

  get nodes(): Iterable<GraphNode> {
    return this.#nodes.values();
  }

  /** Closes the driver and forgets the node; refused with kind `busy` while anybody uses it. */
  async remove(name: string): Promise<void> {
    const node = this.get(name);
    const [user] = node.parents;
    if (user !== undefined) {
      throw new EngineError('busy', `Node '${name}' is busy: it is used by ${user.user}`, { node: name });
    }
    const bitmap = node.bitmaps.all.find(candidate => candidate.busy);
    if (bitmap !== undefined) bitmap.assertUsable();
    this.#nodes.delete(name);
    await node.close();
    for (const edge of node.children) edge.node.parents.delete(edge);
    for (const edge of node.children) this.#settleAll([edge.node]);
  }

  /** Throws kind `conflict` when another user of the node, or of one below, excludes it. */
  attach(name: string, options: AttachOptions): Attachment {
    const node = this.get(name);
    const edge = new Edge({
      role: 'root',
      user: options.user,
      node,
      shares: options.shares ?? PERMISSIONS_ALL,
    });
    edge.uses = options.uses;
    node.parents.add(edge);
    try {
      assertNoConflict(name, node.parents);
      this.#settleAll([node]);
    } catch (error) {
      node.parents.delete(edge);
      throw error;
    }
    const attachment = new Attachment(edge, () => this.#detach(edge));
    this.#attachments.set(edge, attachment);
    return attachment;
  }

  #detach(edge: Edge): void {
    if (!this.#attachments.delete(edge)) return;
    edge.node.parents.delete(edge);
    this.#settleAll([edge.node]);
  }

  /**
   * Puts `filter` between `below` and all its other users. To be called under drain. Throws kind
   * `conflict`, with nothing changed, when a user below cannot live with the filter.
   */
  insertAbove(below: GraphNode, filter: GraphNode): void {
    const moved = [...below.parents].filter(edge => edge.parent !== filter);
    this.#move(moved, filter);
    filter.inserted = true;
    try {
      this.#settleAll([filter]);
    } catch (error) {
      this.#move(moved, below);
      filter.inserted = false;
      this.#settleAll([filter, below]);
      throw error;
    }
  }

  /** Throws as insertAbove would, and changes nothing. */
  assertInsertable(below: GraphNode, filter: GraphNode): void {
    this.insertAbove(below, filter);
    this.bypass(filter);
  }

  /** Gives the users of `filter` to the node that it filters now. To be called under drain. */
  bypass(filter: GraphNode): void {
    const below = filter.children.find(edge => edge.role === 'file')!.node;
    this.#move([...filter.parents], below);
    filter.inserted = false;
    this.#settleAll([filter, below]);
  }

  /**
   * Closes the gate of everybody outside who reaches one of `nodes`, waits until nothing is in flight,
   * runs `section` without a pause, and opens the gates again whatever came of it.
   */
  async drained<T>(nodes: readonly GraphNode[], section: () => T): Promise<T> {
    const attachments = this.attachmentsAbove(nodes);
    const writers = this.#writersAbove(nodes);
    const held = [...this.#withAncestors(nodes)];
    try {
      for (const node of held) node.drainBegin();
      await Promise.all([
        ...attachments.map(attachment => attachment.quiesce()),
        ...writers.map(writer => writer.quiesce()),
      ]);
      return section();
    } finally {
      for (const node of held) node.drainEnd();
      for (const attachment of attachments) attachment.resume();
      for (const writer of writers) writer.unquiesce();
    }
  }

  attachmentsAbove(nodes: readonly GraphNode[]): Attachment[] {
    const edges = [...this.#withAncestors(nodes)].flatMap(node => [...node.parents]);
    const found = edges.map(edge => this.#attachments.get(edge));
    return found.filter(attachment => attachment !== undefined);
  }

  #writersAbove(nodes: readonly GraphNode[]): DrainedWriter[] {
    return [...new Set([...this.#withAncestors(nodes)].flatMap(node => [...node.writers]))];
  }

  #withAncestors(nodes: readonly GraphNode[]): Set<GraphNode> {
    const seen = new Set<GraphNode>();
    const visit = (node: GraphNode): void => {
      if (seen.has(node)) return;
      seen.add(node);
      for (const edge of node.parents) if (edge.parent !== undefined) visit(edge.parent);
    };
    for (const node of nodes) visit(node);
    return seen;
  }

  #move(edges: readonly Edge[], to: GraphNode): void {
    for (const edge of edges) {
      edge.node.parents.delete(edge);
      edge.node = to;
      to.parents.add(edge);
    }
  }

  /** Carries permissions downwards from `nodes`; on a conflict restores every mask and throws it. */
  #settleAll(nodes: readonly GraphNode[]): void {
    const undo: (() => void)[] = [];
    try {
      for (const node of nodes) this.#settle(node, undo, 0);
    } catch (error) {
      for (const restore of undo.reverse()) restore();
      throw error;
    }
  }

  #settle(node: GraphNode, undo: (() => void)[], depth: number): void {
    assert(depth < 1000, 'the block graph has a cycle');
    const total = totalPermissions(node.parents);
    for (const edge of node.children) {
      const { uses, shares } = edge;
      const next = node.childPermissions(edge.role, total, node.inserted);
      if (next.uses !== uses || next.shares !== shares) {
        undo.push(() => Object.assign(edge, { uses, shares }));
        Object.assign(edge, next);
      }
      assertNoConflict(edge.node.name, edge.node.parents);
      this.#settle(edge.node, undo, depth + 1);
    }
  }
}
