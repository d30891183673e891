// What a stretch of a disk holds, as block status reports it.

/**
 * A run of bytes with one status. `data: false` with `zero: true` is a hole that reads as zeroes;
 * `data: true` with `zero: true` is allocated space known to read as zeroes.
 */
export interface Extent {
  /** Bytes from the start of the block node. */
  offset: number;
  /** Bytes, never 0. */
  length: number;
  /** Bytes are stored somewhere in the chain. */
  data: boolean;
  /** The range is known to read as zeroes, so that nobody needs to read it. */
  zero: boolean;
  /**
   * In which layer the range is allocated, as NBD's `qemu:allocation-depth` counts: 1 = this image,
   * 2 = its backing image, and so on; 0 = in none of them.
   */
  depth: number;
}

/** Appends an extent, growing the last one instead where both say the same. */
export function appendExtent(extents: Extent[], next: Extent): void {
  const last = extents[extents.length - 1];
  if (
    last !== undefined &&
    last.data === next.data &&
    last.zero === next.zero &&
    last.depth === next.depth &&
    last.offset + last.length === next.offset
  ) {
    last.length += next.length;
  } else {
    extents.push(next);
  }
}
