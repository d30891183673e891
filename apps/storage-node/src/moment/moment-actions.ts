// What belongs to the instant of a frozen moment beside the filter: which of the disk is kept, and what had changed
// by then since each checkpoint.
import { Bitmap, DirtyBitmap, type GraphNode, type TransactionAction } from '@tidemark/engine';
import { CHECKPOINT_GRANULARITY_BYTES } from '../limits.ts';
import type { CheckpointRecord } from '../volume/volume-record.ts';

export interface DiskRange {
  readonly offset: number;
  readonly length: number;
}

/**
 * A bitmap that later actions of the transaction find by `name`, and nobody else ever does: the union of others at
 * the instant, with some ranges besides.
 */
export function chooseContents(options: {
  node: GraphNode;
  name: string;
  /** Names of bitmaps of the node, which are there and trusted. */
  union: readonly string[];
  also: readonly DiskRange[];
}): TransactionAction {
  const { node, name, union, also } = options;
  return {
    kind: 'choose-contents',
    nodes: () => [node],
    prepare: (_graph, staged) => {
      const granularityBytes = CHECKPOINT_GRANULARITY_BYTES;
      const chosen = new DirtyBitmap(node.sizeBytes, { name, granularityBytes, recording: false });
      const bitmaps = union.map(one => node.bitmaps.get(one));
      staged.add(node, name, chosen);
      return {
        commit: () => {
          for (const bitmap of bitmaps) chosen.bits.merge(bitmap.bits);
          for (const { offset, length } of also) {
            chosen.bits.set(offset, Math.min(length, node.sizeBytes - offset));
          }
        },
      };
    },
  };
}

/** Keeps what had changed at the instant since some of the checkpoints; `records` oldest first, without a gap. */
export class ChangesAtMoment {
  readonly #node: GraphNode;
  readonly #records: readonly CheckpointRecord[];
  readonly #wanted: ReadonlySet<string>;
  readonly #changes = new Map<string, Bitmap>();

  constructor(node: GraphNode, records: readonly CheckpointRecord[], wanted: readonly string[]) {
    this.#node = node;
    this.#records = records;
    this.#wanted = new Set(wanted);
  }

  /** Of each that is wanted, by its id, oldest first; empty before the instant. */
  get all(): ReadonlyMap<string, Bitmap> {
    return this.#changes;
  }

  action(): TransactionAction {
    return {
      kind: 'keep-changes',
      nodes: () => [this.#node],
      prepare: () => ({ commit: () => this.#keep() }),
    };
  }

  #keep(): void {
    const kept: [string, Bitmap][] = [];
    if (this.#wanted.size === 0) return;
    let union: Bitmap | undefined;
    for (const { checkpointId, granularityBytes } of this.#records.toReversed()) {
      union ??= new Bitmap(this.#node.sizeBytes, granularityBytes);
      union.merge(this.#node.bitmaps.get(checkpointId).bits);
      if (this.#wanted.has(checkpointId)) kept.push([checkpointId, union.clone()]);
    }
    for (const [checkpointId, bits] of kept.reverse()) this.#changes.set(checkpointId, bits);
  }
}
