// The transaction actions on dirty bitmaps: add, remove, clear, enable, disable, merge; and abort.
import { DirtyBitmap } from '../bitmap/dirty-bitmap.ts';
import { EngineError } from '../errors.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import type { TransactionAction } from './transaction.ts';

/** A bitmap by the name of its block node and its own. */
export interface BitmapReference {
  node: string;
  name: string;
}

export interface AddBitmapOptions extends BitmapReference {
  granularityBytes: number;
  recording?: boolean;
  persistent?: boolean;
}

export function addBitmap(options: AddBitmapOptions): TransactionAction {
  return {
    kind: 'block-dirty-bitmap-add',
    nodes: graph => [graph.get(options.node)],
    prepare(graph, staged) {
      const node = graph.get(options.node);
      const bitmap = new DirtyBitmap(node.sizeBytes, options);
      staged.add(node, options.name, bitmap);
      return { commit: () => node.bitmaps.insert(bitmap) };
    },
  };
}

/** The only thing that may be done to an inconsistent bitmap (scenario BM-08). */
export function removeBitmap(reference: BitmapReference): TransactionAction {
  return {
    kind: 'block-dirty-bitmap-remove',
    nodes: graph => [graph.get(reference.node)],
    prepare(graph, staged) {
      const node = graph.get(reference.node);
      const bitmap = staged.get(node, reference.name);
      if (!bitmap.inconsistent) bitmap.assertUsable();
      staged.remove(node, reference.name);
      return { commit: () => node.bitmaps.delete(bitmap) };
    },
  };
}

export function clearBitmap(reference: BitmapReference): TransactionAction {
  return onBitmap('block-dirty-bitmap-clear', reference, bitmap => bitmap.bits.clear());
}

export function enableBitmap(reference: BitmapReference): TransactionAction {
  return onBitmap('block-dirty-bitmap-enable', reference, bitmap => bitmap.setRecording(true));
}

export function disableBitmap(reference: BitmapReference): TransactionAction {
  return onBitmap('block-dirty-bitmap-disable', reference, bitmap => bitmap.setRecording(false));
}

/** Adds the bits of `sources`, on any block node of the same size, to `target`; the sources stay as they are. */
export function mergeBitmaps(
  target: BitmapReference,
  sources: readonly BitmapReference[],
): TransactionAction {
  return {
    kind: 'block-dirty-bitmap-merge',
    nodes: graph => [target, ...sources].map(reference => graph.get(reference.node)),
    prepare(graph, staged) {
      const into = usable(staged.get(graph.get(target.node), target.name));
      const from = sources.map(source => usable(staged.get(graph.get(source.node), source.name)));
      if (from.some(source => source.bits.sizeBytes !== into.bits.sizeBytes)) {
        throw new EngineError('invalid-argument', "Bitmaps are incompatible and can't be merged");
      }
      return {
        commit: () => {
          for (const source of from) into.bits.merge(source.bits);
        },
      };
    },
  };
}

/** Fails the transaction: for tests of it, and to ask whether the other actions could be done. */
export function abortTransaction(): TransactionAction {
  return {
    kind: 'abort',
    nodes: () => [],
    prepare() {
      throw new EngineError('cancelled', 'Transaction aborted using Abort action');
    },
  };
}

function onBitmap(
  kind: string,
  reference: BitmapReference,
  change: (bitmap: DirtyBitmap) => void,
): TransactionAction {
  return {
    kind,
    nodes: graph => [graph.get(reference.node)],
    prepare(graph, staged) {
      const node: GraphNode = graph.get(reference.node);
      const bitmap = usable(staged.get(node, reference.name));
      return {
        commit: () => {
          change(bitmap);
          node.bitmaps.refresh();
        },
      };
    },
  };
}

function usable(bitmap: DirtyBitmap): DirtyBitmap {
  bitmap.assertUsable();
  return bitmap;
}
