// The transaction actions on dirty bitmaps: add, remove, clear, enable, disable, merge; and abort. Texts,
// and the order in which things are checked, are QEMU's.
import {
  type BitmapUse,
  DirtyBitmap,
  defaultGranularityBytes,
  validateGranularity,
  validateName,
} from '../bitmap/dirty-bitmap.ts';
import { EngineError } from '../errors.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import { StagedBitmaps } from './staged-bitmaps.ts';
import type { InstantAction } from './transaction.ts';

/** A bitmap by the name of its block node and its own. */
export interface BitmapReference {
  node: string;
  name: string;
}

export interface AddBitmapOptions extends BitmapReference {
  /** Default: the cluster size, within 4 KiB and 64 KiB; 64 KiB where there is none (scenario BM-01). */
  granularityBytes?: number;
  recording?: boolean;
  persistent?: boolean;
}

export function addBitmap(options: AddBitmapOptions): InstantAction {
  return {
    kind: 'block-dirty-bitmap-add',
    nodes: graph => known(graph, options),
    prepare(graph, staged) {
      // Before the block node is looked for, so that it is the name that is refused.
      if (options.name === '') validateName('');
      const node = graph.get(options.node);
      const granularityBytes = options.granularityBytes ?? defaultGranularityBytes(node.clusterSizeBytes);
      validateGranularity(granularityBytes);
      if (options.persistent === true) node.assertStoresBitmap({ name: options.name, granularityBytes });
      const bitmap = new DirtyBitmap(node.sizeBytes, { ...options, granularityBytes });
      staged.add(node, options.name, bitmap);
      return { commit: () => node.bitmaps.insert(bitmap, { inImage: bitmap.persistent }) };
    },
  };
}

/** The only thing that may be done to an inconsistent bitmap (scenario BM-08). */
export function removeBitmap(reference: BitmapReference): InstantAction {
  return {
    kind: 'block-dirty-bitmap-remove',
    nodes: graph => known(graph, reference),
    prepare(graph, staged) {
      const { node, bitmap } = find(graph, staged, reference, { inconsistent: true });
      bitmap.setBusy(true);
      return {
        commit: () => node.bitmaps.delete(bitmap),
        abort: () => bitmap.setBusy(false),
      };
    },
  };
}

export function clearBitmap(reference: BitmapReference): InstantAction {
  return onBitmap('block-dirty-bitmap-clear', reference, {}, bitmap => bitmap.bits.clear());
}

export function enableBitmap(reference: BitmapReference): InstantAction {
  const use = { readOnly: true };
  return onBitmap('block-dirty-bitmap-enable', reference, use, bitmap => bitmap.setRecording(true));
}

export function disableBitmap(reference: BitmapReference): InstantAction {
  const use = { readOnly: true };
  return onBitmap('block-dirty-bitmap-disable', reference, use, bitmap => bitmap.setRecording(false));
}

/**
 * Does one change of a bitmap on its own, at once: it is a single step, so that requests in flight need not
 * be waited for. To be called in one's turn (`BlockGraph.inTurn`). Throws as `prepare` does, with nothing changed.
 */
export function applyAction(graph: BlockGraph, action: InstantAction): void {
  const prepared = action.prepare(graph, new StagedBitmaps(), { group: undefined });
  prepared.commit?.();
  prepared.clean?.();
}

/** Adds the bits of `sources`, on any block node of the same size, to `target`; the sources stay as they are. */
export function mergeBitmaps(target: BitmapReference, sources: readonly BitmapReference[]): InstantAction {
  return {
    kind: 'block-dirty-bitmap-merge',
    nodes: graph => [target, ...sources].flatMap(reference => known(graph, reference)),
    prepare(graph, staged) {
      const into = staged.get(bitmapNode(graph, target.node), target.name);
      const from = sources.map(source => {
        const { bitmap } = find(graph, staged, source, { readOnly: true });
        into.bits.assertMergeable(bitmap.bits);
        return bitmap;
      });
      // After the sources were looked at: of two faults QEMU tells theirs.
      into.assertUsable();
      return {
        commit: () => {
          for (const source of from) into.bits.merge(source.bits);
        },
      };
    },
  };
}

/** Fails the transaction: for tests of it, and to ask whether the other actions could be done. */
export function abortTransaction(): InstantAction {
  return {
    kind: 'abort',
    groupable: true,
    nodes: () => [],
    prepare() {
      throw new EngineError('cancelled', 'Transaction aborted using Abort action');
    },
  };
}

function onBitmap(
  kind: string,
  reference: BitmapReference,
  use: BitmapUse,
  change: (bitmap: DirtyBitmap) => void,
): InstantAction {
  return {
    kind,
    nodes: graph => known(graph, reference),
    prepare(graph, staged) {
      const { node, bitmap } = find(graph, staged, reference, use);
      return {
        commit: () => {
          change(bitmap);
          node.bitmaps.refresh();
        },
      };
    },
  };
}

/** Nothing for an unknown block node: it is the action's turn that refuses it, not the drain before all. */
function known(graph: BlockGraph, reference: BitmapReference): GraphNode[] {
  return graph.has(reference.node) ? [graph.get(reference.node)] : [];
}

/** Throws kind `not-found`, and as `assertUsable` does. */
function find(
  graph: BlockGraph,
  staged: StagedBitmaps,
  reference: BitmapReference,
  use?: BitmapUse,
): { node: GraphNode; bitmap: DirtyBitmap } {
  const node = bitmapNode(graph, reference.node);
  const bitmap = staged.get(node, reference.name);
  bitmap.assertUsable(use);
  return { node, bitmap };
}

/** The block node of a bitmap, refused in the words that QEMU has for it here. Throws kind `not-found`. */
function bitmapNode(graph: BlockGraph, name: string): GraphNode {
  if (graph.has(name)) return graph.get(name);
  throw new EngineError('not-found', `Node '${name}' not found`, { node: name });
}

/** A bitmap by name, outside of transactions, in whatever state it is. Throws kind `not-found`. */
export function findBitmap(graph: BlockGraph, reference: BitmapReference): DirtyBitmap {
  return bitmapNode(graph, reference.node).bitmaps.get(reference.name);
}
