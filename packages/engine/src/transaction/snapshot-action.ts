// The transaction action that puts an overlay above a block node, which from then on nobody writes to: an
// external snapshot. Exports and other users follow to the overlay at commit.
import { EngineError } from '../errors.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import { GraphChange } from '../graph/graph-change.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import type { BlockNode } from '../node/block-node.ts';
import type { PreparedAction, TransactionAction } from './transaction.ts';

/** What is to stand above: a block node that was there, or one that was made for it. */
export interface Overlay {
  readonly node: GraphNode;
  /** Its format can have a backing image. */
  readonly canHaveBacking: boolean;
  /** Opens its driver once more, over the backing edge that the node has by then. What fails leaves nothing. */
  reopen(): Promise<BlockNode>;
  /** It stays; must not fail. */
  commit?(): void;
  /** Takes back what was made for it, files included. */
  discard?(): Promise<void>;
  /** Once guests are running again; must not fail. */
  afterwards?(): Promise<void>;
}

export interface SnapshotActionOptions {
  kind: 'blockdev-snapshot' | 'blockdev-snapshot-sync';
  /** The block node that is to stay as it is; throws where there is none. */
  base(graph: BlockGraph): GraphNode;
  /** Block nodes besides whose guests have to stand still; none where something is not known. */
  alsoStill?(graph: BlockGraph): GraphNode[];
  /** Finds or makes the overlay. What fails leaves nothing behind. */
  overlay(base: GraphNode): Overlay | Promise<Overlay>;
}

/**
 * Prepare puts the overlay into its place under the transaction's drain, so that commit has nothing to fail at; abort
 * takes it out again before any guest goes on. Bitmaps stay at the base.
 */
export function takeSnapshot(options: SnapshotActionOptions): TransactionAction {
  return {
    kind: options.kind,
    nodes: graph => [...knownBase(graph, options), ...(options.alsoStill?.(graph) ?? [])],
    async prepare(graph): Promise<PreparedAction> {
      const base = options.base(graph);
      assertSnapshotAllowed(base);
      const overlay = await options.overlay(base);
      try {
        const change = await insert(base, overlay);
        graph.fitBitmaps([overlay.node]);
        return {
          commit: () => overlay.commit?.(),
          abort: async () => {
            change.rollback();
            graph.fitBitmaps([base]);
            await overlay.discard?.();
          },
          afterwards: async () => overlay.afterwards?.(),
        };
      } catch (error) {
        await overlay.discard?.();
        throw error;
      }
    },
  };
}

function knownBase(graph: BlockGraph, { base }: SnapshotActionOptions): GraphNode[] {
  try {
    return [base(graph)];
  } catch {
    // `prepare` says what is wrong.
    return [];
  }
}

/** Throws kind `busy` while a job or an image above relies on the node. */
function assertSnapshotAllowed(base: GraphNode): void {
  base.assertNotBlocked();
  const over = [...base.parents].find(edge => edge.role === 'backing')?.parent;
  if (over === undefined) return;
  const text = `Node '${base.name}' is busy: node is used as backing hd of '${over.name}'`;
  const hint = 'Take the snapshot of the topmost image.';
  throw new EngineError('busy', text, { node: base.name, hint });
}

/** Returns the change, which is to be rolled back where the transaction fails. */
async function insert(base: GraphNode, overlay: Overlay): Promise<GraphChange> {
  const { node } = overlay;
  assertFree(overlay);
  const change = new GraphChange();
  try {
    change.setChild(node, 'backing', base);
    change.moveUsers(base, node);
    change.settle();
    change.setDriver(node, await overlay.reopen());
  } catch (error) {
    change.rollback();
    throw error;
  }
  return change;
}

function assertFree({ node, canHaveBacking }: Overlay): void {
  const refuse = (kind: 'busy' | 'unsupported', text: string, hint: string) =>
    new EngineError(kind, text, { node: node.name, hint });
  if ([...node.parents].some(edge => edge.parent === undefined)) {
    throw refuse('busy', 'The overlay is already in use', 'End its export or choose another overlay.');
  }
  if (node.children.some(edge => edge.role === 'backing')) {
    const hint = "Open the overlay with 'backing': null.";
    throw refuse('busy', 'The overlay already has a backing image', hint);
  }
  if (canHaveBacking) return;
  throw refuse('unsupported', 'The overlay does not support backing images', 'Make it a qcow2 image.');
}
