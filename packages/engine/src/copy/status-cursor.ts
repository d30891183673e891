// Block status for somebody who walks a disk from start to end: asks for a window at a time and answers
// from it.

import type { Extent } from '../extent.ts';
import type { BlockNode } from '../node/block-node.ts';
import { GiB } from '../units.ts';

/** One status call covers this much of an empty disk; the driver bounds the number of extents itself. */
const WINDOW_BYTES = 1 * GiB;

export class StatusCursor {
  readonly #source: BlockNode;
  #extents: Extent[] = [];
  #index = 0;

  constructor(source: BlockNode) {
    this.#source = source;
  }

  /** The extent that holds `offset`, which must lie on the disk. */
  async at(offset: number): Promise<Extent> {
    const known = this.#find(offset);
    if (known !== undefined) return known;
    const length = Math.min(WINDOW_BYTES, this.#source.sizeBytes - offset);
    this.#extents = await this.#source.extents(offset, length);
    this.#index = 0;
    const first = this.#extents[0];
    if (first === undefined || first.offset > offset) throw new Error(`no block status at ${offset}`);
    return first;
  }

  #find(offset: number): Extent | undefined {
    if ((this.#extents[this.#index]?.offset ?? Infinity) > offset) this.#index = 0;
    for (; this.#index < this.#extents.length; this.#index++) {
      const extent = this.#extents[this.#index]!;
      if (extent.offset <= offset && offset < extent.offset + extent.length) return extent;
    }
    return undefined;
  }
}
