// The disk as of the moment when a copy-before-write filter appeared, for readers: what guests have overwritten
// since lies on the target, all else still on the source.
//
// A read of the source holds up guests' writes into that range until it has ended. Reads outside of the access
// set are denied: nobody keeps the old contents there.
import type { Bitmap } from '../bitmap/bitmap.ts';
import type { BlockCopy } from '../copy/block-copy.ts';
import { RequestList } from '../copy/request-list.ts';
import { EngineError } from '../errors.ts';
import type { Extent } from '../extent.ts';
import type { BlockNode, SnapshotSource } from '../node/block-node.ts';
import { alignDown, alignUp } from '../units.ts';

export interface FrozenMomentOptions {
  source: BlockNode;
  target: BlockNode;
  copy: BlockCopy;
  /** What may be read; the copy's clusters to begin with. Changed by `discard`. */
  access: Bitmap;
  /** Why the moment is lost, once it is. */
  broken: () => EngineError | undefined;
}

export class FrozenMoment implements SnapshotSource {
  readonly #options: FrozenMomentOptions;
  readonly #reads = new RequestList();

  constructor(options: FrozenMomentOptions) {
    this.#options = options;
  }

  read(offset: number, buffer: Buffer): Promise<void> {
    return this.#read(offset, buffer);
  }

  async #read(offset: number, buffer: Buffer): Promise<void> {
    const { source, target, copy } = this.#options;
    const end = offset + buffer.length;
    for (let at = offset; at < end; ) {
      this.#assertReadable('read', at, end - at);
      const { length, copied } = copy.runAt(at, end);
      const part = buffer.subarray(at - offset, at - offset + length);
      if (copied) await target.read(at, part);
      else {
        const read = this.#reads.start(at, length);
        try {
          await source.read(at, part);
        } finally {
          this.#reads.finish(read);
        }
      }
      at += length;
    }
    // Guests did not wait any more for what was still on its way.
    this.#assertWhole();
  }

  /** May stop early, but never before the first. */
  async extents(offset: number, length: number): Promise<Extent[]> {
    const { source, target, copy, access } = this.#options;
    for (;;) {
      this.#assertReadable('block-status', offset, 1);
      const zero = access.nextZero(offset, offset + length);
      const run = copy.runAt(offset, zero < 0 ? offset + length : zero);
      const extents = await (run.copied ? target : source).extents(offset, run.length);
      this.#assertWhole();
      if (run.copied) return extents;
      // A guest may have changed the source while it looked: there the old contents are on the target by now.
      const still = copy.runAt(offset, offset + run.length);
      if (!still.copied) return startOf(extents, offset + still.length);
    }
  }

  /** Whole clusters inside the range alone: their space on the target is given back. */
  async discard(offset: number, length: number): Promise<void> {
    const { copy, access, target } = this.#options;
    const end = offset + length;
    const first = alignUp(offset, copy.clusterBytes);
    const last = end === target.sizeBytes ? end : alignDown(end, copy.clusterBytes);
    if (last <= first) return;
    access.reset(first, last - first);
    await copy.giveUp(first, last - first);
    await target.discard(first, last - first);
  }

  /** A guest may write there without waiting. */
  isFree(offset: number, length: number): boolean {
    return this.#reads.size === 0 || this.#reads.overlapping(offset, offset + length) === undefined;
  }

  /** Resolves when no read of the source overlaps the range. */
  async untilFree(offset: number, length: number): Promise<void> {
    for (;;) {
      const read = this.#reads.overlapping(offset, offset + length);
      if (read === undefined) return;
      await this.#reads.ended(read);
    }
  }

  #assertReadable(op: string, offset: number, length: number): void {
    this.#assertWhole();
    if (this.#options.access.nextZero(offset, offset + length) < 0) return;
    const text = `${op} of ${length} bytes at ${offset} is outside of what the frozen moment keeps`;
    throw new EngineError('denied', text, { op, offset, length, errno: 'EACCES' });
  }

  #assertWhole(): void {
    const broken = this.#options.broken();
    if (broken !== undefined) throw broken;
  }
}

/** What of the extents lies before `end`. */
function startOf(extents: readonly Extent[], end: number): Extent[] {
  const before = extents.filter(({ offset }) => offset < end);
  return before.map(extent => ({ ...extent, length: Math.min(extent.length, end - extent.offset) }));
}
