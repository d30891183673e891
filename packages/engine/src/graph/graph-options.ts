// What callers of a block graph say of the nodes, users and changes that they want.
import type { Edge } from './edge.ts';
import type { GraphChange } from './graph-change.ts';
import type { GraphNode, NodeOwner, NodePolicy } from './graph-node.ts';
import type { ChildPermissions } from './permissions.ts';

export interface AddOptions extends NodePolicy {
  name: string;
  /** Role to name of an existing block node. */
  children?: Readonly<Record<string, string>>;
  /** Default: an image format's. */
  permissions?: ChildPermissions;
  /** Default: as the driver says. */
  readOnly?: boolean | undefined;
  /** Its users share everything: for looking at an image in use. Default false. */
  forceShare?: boolean;
  /** Who lets the node go; default `user`. */
  owner?: NodeOwner;
}

/** In this order. */
export interface ChangeSteps {
  /** Brings to rest what would no longer be possible under the change. */
  begin(): Promise<void>;
  apply(change: GraphChange): void;
  prepare(change: GraphChange): Promise<void>;
  commit(): void;
}

export interface AttachOptions {
  /** For messages, such as `export 'vol-a'`. */
  user: string;
  /** Masks of PERMISSION. */
  uses: number;
  /** Default: everything. */
  shares?: number;
  /** Uses and shares take hold together; by default what is used comes first. It decides who is told of a conflict. */
  atOnce?: boolean;
  /** What the user calls it; default: `root`. Of others a block node is not said to be in use. */
  role?: string;
  /** As QEMU names the user; default: a block device without a name. */
  userText?: string;
}

/** What a driver that is being opened can ask of its node. */
export interface OpeningNode {
  readonly node: GraphNode;
  /** The edges to the children that were named at the start. */
  readonly children: Readonly<Record<string, Edge>>;
  /** One more child, found only while opening (a backing image that a header names). */
  addChild(role: string, childName: string): Edge;
}
