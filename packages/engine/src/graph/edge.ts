// An edge of the graph: how a parent reaches a child. Drivers hold edges, never nodes, so that the graph
// can put a filter in between without telling them.

import type { Extent } from '../extent.ts';
import type { BlockNode, HostRange, SnapshotSource, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import type { GraphNode } from './graph-node.ts';
import type { NodeUser } from './permissions.ts';

export interface EdgeOptions {
  role: string;
  /** For people: `export 'vol-a'`. */
  user: string;
  /** As QEMU names it; default: a block device without a name, or the parent. */
  userText?: string | undefined;
  parent?: GraphNode;
  node: GraphNode;
  /** Mask of PERMISSION. */
  shares: number;
}

export class Edge implements BlockNode, NodeUser {
  readonly role: string;
  readonly user: string;
  readonly userText: string;
  /** The parent inside the graph; undefined for an attachment from outside. */
  readonly parent: GraphNode | undefined;
  /** By how many jobs: the child is not exchanged meanwhile. */
  frozen = 0;
  /** Changed by BlockGraph alone. */
  node: GraphNode;
  uses = 0;
  shares: number;

  constructor(options: EdgeOptions) {
    this.role = options.role;
    this.user = options.user;
    const { parent, userText } = options;
    this.userText = userText ?? (parent === undefined ? 'an unnamed block device' : `node '${parent.name}'`);
    this.parent = options.parent;
    this.node = options.node;
    this.shares = options.shares;
  }

  get driver(): string {
    return this.node.driver;
  }
  get sizeBytes(): number {
    return this.node.sizeBytes;
  }
  get readOnly(): boolean {
    return this.node.readOnly;
  }
  get requestAlignmentBytes(): number {
    return this.node.requestAlignmentBytes;
  }
  get clusterSizeBytes(): number | undefined {
    return this.node.clusterSizeBytes;
  }
  get canCompress(): boolean {
    return this.node.canCompress;
  }
  get snapshot(): SnapshotSource | undefined {
    return this.node.snapshot;
  }

  read(offset: number, buffer: Buffer): Pending {
    return this.node.read(offset, buffer);
  }
  write(offset: number, buffer: Buffer): Pending {
    return this.node.write(offset, buffer);
  }
  hostRange(offset: number, length: number): HostRange | undefined {
    return this.node.hostRange(offset, length);
  }
  writeHostRange(offset: number, from: HostRange, length: number): Promise<void> | undefined {
    return this.node.writeHostRange(offset, from, length);
  }
  writeCompressed(offset: number, buffer: Buffer): Pending {
    return this.node.writeCompressed(offset, buffer);
  }
  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    return this.node.writeZeroes(offset, length, options);
  }
  discard(offset: number, length: number): Pending {
    return this.node.discard(offset, length);
  }
  flush(): Pending {
    return this.node.flush();
  }
  extents(offset: number, length: number): Extent[] | Promise<Extent[]> {
    return this.node.extents(offset, length);
  }
  resize(sizeBytes: number): Promise<void> {
    return this.node.resize(sizeBytes);
  }
  allocatedBytes(): Promise<number> {
    return this.node.allocatedBytes();
  }
  debugEvent(event: string): void {
    this.node.debugEvent(event);
  }
  cancelInFlight(): void {
    this.node.cancelInFlight();
  }
  /** The graph closes nodes; an edge has nothing of its own. */
  async close(): Promise<void> {}
}
