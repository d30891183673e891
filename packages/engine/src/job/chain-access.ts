// What jobs on chains of images need of whoever opened the images: their names, and changes of how they are open.
import type { GraphNode } from '../graph/graph-node.ts';
import type { BlockNode } from '../node/block-node.ts';

/** What an image's header says of its backing image. */
export interface BackingPointer {
  /** As it is to be stored: a relative one starts at the image's folder. */
  path: string;
  format: string | undefined;
}

export interface ChainAccess {
  /** What the header of an image above is to call it. */
  filenameOf(node: GraphNode): string;
  /** Whether `name` means the node; `overlay` is the image above it, whose folder a relative name starts at. */
  isCalled(node: GraphNode, name: string, overlay: GraphNode | undefined): boolean;
  /** Opens the node, with the files that it was opened with, for writing or read-only again. */
  setReadOnly(node: GraphNode, readOnly: boolean): Promise<void>;
  /**
   * To be called under drain, when the overlay's `backing` edge is as it is to be: rewrites its header, durably, and
   * returns a driver that reads from that edge. Rejects with the header as it was.
   */
  repoint(overlay: GraphNode, pointer: BackingPointer | undefined): Promise<BlockNode>;
}
