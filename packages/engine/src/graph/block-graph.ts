// All block nodes of a process by name, the edges between them, and the rules for changing them: every
// change either holds with everybody's permissions or has not happened.
import { EngineError } from '../errors.ts';
import type { BlockNode } from '../node/block-node.ts';
import { Attachment } from './attachment.ts';
import { Drain, type DrainedUsers } from './drain.ts';
import { Edge } from './edge.ts';
import { GraphChange } from './graph-change.ts';
import { GraphNode } from './graph-node.ts';
import type { AddOptions, AttachOptions, ChangeSteps, OpeningNode } from './graph-options.ts';
import { NodeNames } from './node-names.ts';
import { formatPermissions, PERMISSION, PERMISSIONS_ALL } from './permissions.ts';
import { assertDepth, reaches, settlePermissions } from './settle.ts';
import { Turns } from './turns.ts';
import { WriteFence, type WriteFenceOptions } from './write-fence.ts';

export class BlockGraph {
  readonly #nodes = new Map<string, GraphNode>();
  readonly #names = new NodeNames(name => this.#nodes.has(name));
  readonly #attachments = new Map<Edge, Attachment>();
  /** Under way: who attaches meanwhile waits for their ends. */
  readonly #drains = new Set<Drain | WriteFence>();
  readonly #turns = new Turns();

  /**
   * Throws kind `exists`, for an unknown child `not-found`, `conflict` with a child's other users. `create`
   * gets the children's edges.
   */
  add(options: AddOptions, create: (children: Record<string, Edge>) => BlockNode): GraphNode {
    const { name } = options;
    this.#names.assertFree(name);
    const node = this.#makeNode(options);
    try {
      const edges = this.#connect(node, options.children ?? {});
      node.setDriver(create(edges));
      settlePermissions([node]);
    } catch (error) {
      this.#disconnect(node);
      throw error;
    }
    this.#nodes.set(name, node);
    return node;
  }

  /**
   * As `add`, for drivers that take time to open. The permissions on the children hold before `create` starts
   * (an image is not read while somebody else writes to it). Failing, it closes the driver and leaves nothing
   * behind; rejects with what `create` does, too.
   */
  async open(options: AddOptions, create: (opening: OpeningNode) => Promise<BlockNode>): Promise<GraphNode> {
    const release = this.#names.reserve(options.name);
    const node = this.#makeNode(options);
    let driver: BlockNode | undefined;
    try {
      const children = this.#connect(node, options.children ?? {});
      settlePermissions([node]);
      driver = await create({ node, children, addChild: (role, child) => this.#addChild(node, role, child) });
      node.setDriver(driver);
      settlePermissions([node]);
      this.#nodes.set(node.name, node);
    } catch (error) {
      await (node.opened ? node : driver)?.close().catch(() => undefined);
      await this.#letGo(this.#disconnect(node));
      throw error;
    } finally {
      release();
    }
    return node;
  }

  #makeNode(options: AddOptions): GraphNode {
    const permissions = options.permissions ?? formatPermissions;
    return new GraphNode({
      ...options,
      childPermissions: permissions,
      sequence: this.#names.nextSequence(),
      owner: options.owner ?? 'user',
      readOnly: options.readOnly,
    });
  }

  #connect(node: GraphNode, children: Readonly<Record<string, string>>): Record<string, Edge> {
    const edges: Record<string, Edge> = {};
    for (const [role, childName] of Object.entries(children))
      edges[role] = this.#makeEdge(node, role, childName);
    return edges;
  }

  #addChild(node: GraphNode, role: string, childName: string): Edge {
    const edge = this.#makeEdge(node, role, childName);
    settlePermissions([node]);
    return edge;
  }

  #makeEdge(parent: GraphNode, role: string, childName: string): Edge {
    const child = this.get(childName);
    assertDepth(parent, child);
    const user = `block node '${parent.name}' as '${role}'`;
    const edge = new Edge({ role, user, parent, node: child, shares: PERMISSIONS_ALL });
    parent.children.push(edge);
    child.parents.add(edge);
    return edge;
  }

  /** Takes away all edges to children, who are returned. */
  #disconnect(node: GraphNode): GraphNode[] {
    const edges = node.children.splice(0);
    for (const edge of edges) edge.node.parents.delete(edge);
    const below = edges.map(edge => edge.node);
    settlePermissions(below);
    return below;
  }

  find(name: string): GraphNode | undefined {
    return this.#nodes.get(name);
  }

  get(name: string): GraphNode {
    const node = this.#nodes.get(name);
    if (node !== undefined) return node;
    const text = `Cannot find device='${name}' nor node-name='${name}'`;
    const hint = 'Look at the names of the block nodes there are.';
    throw new EngineError('not-found', text, { node: name, hint });
  }

  /** A name for a node that nobody named; no user can choose such a name. */
  freeName(): string {
    return this.#names.generate();
  }

  has(name: string): boolean {
    return this.#nodes.has(name);
  }

  get nodes(): Iterable<GraphNode> {
    return this.#nodes.values();
  }

  /**
   * Closes the driver and forgets the node, and those below that only this one kept; refused with kind `busy`
   * while anybody uses it or, unless `withBitmaps` says that they go as well, one of its bitmaps. Rejects where
   * closing failed; the node is gone then, too.
   */
  async remove(name: string, options: { withBitmaps?: boolean } = {}): Promise<void> {
    const node = this.get(name);
    node.assertUnused(options);
    await this.#close(node);
  }

  async #close(node: GraphNode): Promise<void> {
    this.#nodes.delete(node.name);
    try {
      await node.close();
    } finally {
      await this.#letGo(this.#disconnect(node));
    }
  }

  /** Lets go of a node that nobody asked for by name, if nobody uses it. */
  async release(node: GraphNode): Promise<void> {
    await this.#letGo([node]);
  }

  /** Closes those of the nodes that nobody asked for by name and nobody uses any more. */
  async #letGo(nodes: readonly GraphNode[]): Promise<void> {
    const failures: unknown[] = [];
    for (const node of nodes) {
      if (node.owner !== 'parents' || node.parents.size > 0 || this.#nodes.get(node.name) !== node) continue;
      // One that fails keeps no other one open.
      await this.#close(node).catch(error => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }

  /** Throws kind `conflict` when another user of the node, or of one below, excludes it. */
  attach(name: string, options: AttachOptions): Attachment {
    const node = this.get(name);
    const { shares = PERMISSIONS_ALL } = options;
    const edge = new Edge({
      role: 'root',
      ...options,
      node,
      shares: options.atOnce ? shares : PERMISSIONS_ALL,
    });
    edge.uses = options.uses;
    node.parents.add(edge);
    try {
      settlePermissions([node]);
      // In two steps, as QEMU: of two users who exclude each other, it matters who is told of which.
      edge.shares = shares;
      settlePermissions([node]);
    } catch (error) {
      node.parents.delete(edge);
      settlePermissions([node]);
      throw error;
    }
    const attachment = new Attachment(edge, () => this.#detach(edge));
    this.#attachments.set(edge, attachment);
    for (const drain of this.#drains) drain.admit(attachment);
    return attachment;
  }

  /** A node that was there for its users alone goes with the last one. */
  async #detach(edge: Edge): Promise<void> {
    if (!this.#attachments.delete(edge)) return;
    const { node } = edge;
    node.parents.delete(edge);
    settlePermissions([node]);
    await this.#letGo([node]);
  }

  /** Lets the user stay, who from here on uses nothing and excludes nobody. */
  loosen({ edge }: Attachment): void {
    edge.uses = 0;
    edge.shares = PERMISSIONS_ALL;
    settlePermissions([edge.node]);
  }

  /**
   * Puts `filter` between `below` and all its other users. To be called under drain. Throws kind
   * `conflict`, with nothing changed, when a user below cannot live with the filter.
   */
  insertAbove(below: GraphNode, filter: GraphNode): void {
    // Users that the filter itself stands on (its target may have the source as backing image) stay below.
    const moved = [...below.parents].filter(({ parent }) => parent === undefined || !reaches(filter, parent));
    this.#move(moved, filter);
    filter.inserted = true;
    try {
      settlePermissions([filter]);
    } catch (error) {
      this.#move(moved, below);
      filter.inserted = false;
      settlePermissions([filter, below]);
      throw error;
    }
  }

  /** Throws as insertAbove would, and changes nothing. */
  assertInsertable(below: GraphNode, filter: GraphNode): void {
    this.insertAbove(below, filter);
    this.bypass(filter);
  }

  /**
   * Gives the users of `filter` to the node that it filters now. To be called under drain. Cannot fail where
   * nobody has come to stand below the filter who would not have been let in above; otherwise throws kind
   * `conflict`, with nothing changed.
   */
  bypass(filter: GraphNode): void {
    const below = filter.children.find(edge => edge.role === 'file')!.node;
    const moved = [...filter.parents];
    this.#move(moved, below);
    filter.inserted = false;
    try {
      settlePermissions([filter, below]);
    } catch (error) {
      this.#move(moved, filter);
      filter.inserted = true;
      settlePermissions([filter, below]);
      throw error;
    }
  }

  /**
   * Closes the gate of everybody outside who reaches one of `nodes`, newcomers too, waits until nothing is in flight,
   * runs `section` (without a pause where it is synchronous), and opens the gates again whatever came of it.
   * @param options `inTurn`: with no other section of the kind under way; it must not begin one itself.
   */
  async drained<T>(
    nodes: readonly GraphNode[],
    section: () => T | Promise<T>,
    options: { inTurn?: boolean } = {},
  ): Promise<T> {
    const drain = new Drain(nodes);
    this.#drains.add(drain);
    let endTurn: (() => void) | undefined;
    try {
      while (drain.join(this.#usersAbove(nodes)) || (options.inTurn === true && endTurn === undefined)) {
        // Not in one's turn: whoever hangs there would keep all others.
        endTurn?.();
        await drain.rested();
        endTurn = options.inTurn === true ? await this.#turns.take() : undefined;
      }
      return await section();
    } finally {
      endTurn?.();
      this.#drains.delete(drain);
      drain.end();
    }
  }

  /** Closed at once for everybody outside who reaches one of `nodes`, newcomers too: changes wait, reads go on. */
  fence(nodes: readonly GraphNode[], options: WriteFenceOptions): WriteFence {
    return new WriteFence(nodes, this.attachmentsAbove(nodes), { ...options, closed: this.#drains });
  }

  /** Runs a step between the sections that are run in turn. */
  async inTurn<T>(step: () => T): Promise<T> {
    const endTurn = await this.#turns.take();
    try {
      return step();
    } finally {
      endTurn();
    }
  }

  #usersAbove(nodes: readonly GraphNode[]): DrainedUsers {
    const above = [...this.#withAncestors(nodes)];
    return {
      nodes: above.filter(node => node.isOpen),
      attachments: this.attachmentsAbove(nodes),
      writers: above.flatMap(node => [...node.writers]),
    };
  }

  /**
   * Changes nodes and edges as a whole or not at all, with nothing in flight at and above `nodes`, jobs included.
   * `apply` does what can be refused, `prepare` what takes time and can fail; `commit` cannot. Block nodes that
   * have lost their last user are closed afterwards.
   */
  async change(nodes: readonly GraphNode[], steps: ChangeSteps): Promise<void> {
    const change = new GraphChange();
    await this.drainedWithJobs(nodes, async () => {
      await steps.begin();
      try {
        steps.apply(change);
        change.settle();
        await steps.prepare(change);
      } catch (error) {
        change.rollback();
        for (const node of nodes) await node.resumeBitmaps().catch(() => undefined);
        throw error;
      }
      steps.commit();
      this.fitBitmaps(nodes);
      // Where that fails it is tried again by the next write, which fails then.
      for (const node of nodes) await node.resumeBitmaps().catch(() => undefined);
    });
    // The change has taken place, whatever closing what nobody uses any more comes to.
    await this.#letGo(change.left).catch(() => undefined);
  }

  /**
   * Changes the size of a disk, with nothing in flight and all jobs at it standing still; bitmaps follow. Rejects
   * with kind `conflict` where somebody relies on the size, `denied` on a read-only node, `unsupported` where the
   * driver cannot, and as the driver does.
   */
  async resize(name: string, sizeBytes: number): Promise<void> {
    const node = this.get(name);
    const attachment = this.attach(name, { user: 'the one who resizes it', uses: PERMISSION.resize });
    try {
      await this.drainedWithJobs([node], () => node.resize(sizeBytes));
      this.fitBitmaps([node]);
    } finally {
      await attachment.close();
    }
  }

  /** Lets the bitmaps at and above the nodes be as long as their nodes are now. */
  fitBitmaps(nodes: readonly GraphNode[]): void {
    for (const node of this.#withAncestors(nodes)) node.bitmaps.fit();
  }

  /** As `drained`, with all jobs standing still that read or write at or above `nodes`. */
  async drainedWithJobs<T>(nodes: readonly GraphNode[], section: () => Promise<T>): Promise<T> {
    const readers = new Set([...this.#withAncestors(nodes)].flatMap(node => [...node.readers]));
    const jobs = [...readers];
    try {
      await Promise.all(jobs.map(job => job.quiesce()));
      return await this.drained(nodes, section);
    } finally {
      for (const job of jobs) job.unquiesce();
    }
  }

  attachmentsAbove(nodes: readonly GraphNode[]): Attachment[] {
    const edges = [...this.#withAncestors(nodes)].flatMap(node => [...node.parents]);
    const found = edges.map(edge => this.#attachments.get(edge));
    return found.filter(attachment => attachment !== undefined);
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
}
