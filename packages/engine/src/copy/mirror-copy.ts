// Keeps a target equal to a source that guests go on writing to: what they have written is marked in a bitmap,
// and copied, and copied again, until nothing is marked. With write-blocking, guests' writes go to both at once.
//
// Bit meanings. `dirty`: the granule has to be copied. A bit is cleared when a copy claims its granule, before the
// source is asked for anything, and set again when that copy fails. A change of the source sets the bits when it has
// ended: a copy that read the source before that saw old bytes, and one that begins afterwards sees the new ones.
//
// No two requests to the target overlap: a copy leaves out what another one is at, and a guest's write, with
// write-blocking, waits for it.
import type { Bitmap } from '../bitmap/bitmap.ts';
import { fromSystemError } from '../errors.ts';
import { COPY_CHUNK_BYTES_MAX, MIRROR_REQUESTS_MAX } from '../limits.ts';
import type { BlockNode } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import { alignDown, alignUp } from '../units.ts';
import type { CopyFailure } from './block-copy.ts';
import { BufferBudget } from './buffer-budget.ts';
import { type CopyRequest, RequestList } from './request-list.ts';

export interface MirrorCopyOptions {
  source: BlockNode;
  target: BlockNode;
  /** What has to be copied, of the source's size. */
  dirty: Bitmap;
  /** Memory for copies under way; at least one granule is used. */
  bufferBytes: number;
  /** Zeroes may become holes of the target. */
  unmap: boolean;
  /** Told of each copy that fails, before anybody can see that it has ended. */
  onFailure(failure: CopyFailure): void;
}

/** What a copy has been started for. */
export interface MirrorPiece {
  readonly offset: number;
  readonly length: number;
}

export class MirrorCopy {
  readonly dirty: Bitmap;
  /** So much may be claimed at once before the speed limit is looked at. */
  readonly bufferBytes: number;
  readonly #source: BlockNode;
  readonly #target: BlockNode;
  readonly #unmap: boolean;
  readonly #onFailure: (failure: CopyFailure) => void;
  readonly #ioBytes: number;
  readonly #buffers: BufferBudget;
  /** Copies, and guests' writes with write-blocking: each in whole granules. */
  readonly #requests = new RequestList();
  /** Changes of the source that the target gets as well. */
  readonly #both: { offset: number; length: number }[] = [];
  #copying = 0;
  #activeBytes = 0;
  #doneBytes = 0;
  #sentBytes = 0;

  constructor({ source, target, dirty, bufferBytes, unmap, onFailure }: MirrorCopyOptions) {
    this.#onFailure = onFailure;
    this.#source = source;
    this.#target = target;
    this.dirty = dirty;
    this.#unmap = unmap;
    const granule = dirty.granularityBytes;
    this.bufferBytes = Math.max(alignDown(bufferBytes, granule), granule);
    const share = Math.max(this.bufferBytes / MIRROR_REQUESTS_MAX, COPY_CHUNK_BYTES_MAX);
    this.#ioBytes = Math.min(alignUp(share, granule), this.bufferBytes);
    this.#buffers = new BufferBudget({ totalBytes: this.bufferBytes, chunkBytes: this.#ioBytes });
  }

  /** Bytes that were copied, by the job or along with guests' writes. */
  get doneBytes(): number {
    return this.#doneBytes;
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** Bytes that are marked or being copied. */
  get remainingBytes(): number {
    const { dirty } = this;
    if (dirty.sizeBytes === 0) return this.inFlightBytes;
    const beyond = alignUp(dirty.sizeBytes, dirty.granularityBytes) - dirty.sizeBytes;
    const marked = dirty.dirtyBytes - (beyond > 0 && dirty.get(dirty.sizeBytes - 1) ? beyond : 0);
    return marked + this.inFlightBytes;
  }

  get inFlightBytes(): number {
    return this.#requests.bytes - this.#activeBytes;
  }

  get inFlight(): number {
    return this.#requests.size;
  }

  /** No further copy should be started. */
  get isFull(): boolean {
    return this.#copying >= MIRROR_REQUESTS_MAX;
  }

  /** Target and source are equal at this moment, but for what guests are just writing. */
  get isEqual(): boolean {
    return this.dirty.dirtyGranules === 0 && this.#requests.size === 0;
  }

  /** Resolves when some request has ended; at once when none is in flight. */
  anyFinished(): Promise<void> {
    return this.#requests.anyFinished();
  }

  /**
   * Claims the next piece in [offset, end), one run of data or of zeroes, and starts on it. Undefined when nothing is
   * marked there that no other request is at. Rejects when the source cannot say its status.
   */
  async copyNext(offset: number, end: number): Promise<MirrorPiece | undefined> {
    for (let from = offset; ; ) {
      const area = this.dirty.nextDirtyArea(from, end);
      if (area === undefined) return undefined;
      const start = this.#alignedStart(area.offset);
      const other = this.#requests.firstIn(start, area.offset + area.length);
      if (other !== undefined && other.offset <= start) {
        from = other.end;
        continue;
      }
      const free = Math.min(other?.offset ?? Infinity, area.offset + area.length) - start;
      const { request, run } = await this.#claim(start, free);
      this.#copying++;
      void this.#copy(request, run.zero);
      return { offset: start, length: run.length };
    }
  }

  /** Takes the start of the range that is all zeroes, or all data; the rest stays marked. */
  async #claim(start: number, lengthMax: number) {
    const whole = this.#requests.start(start, lengthMax);
    this.dirty.reset(start, lengthMax);
    let taken = 0;
    try {
      const run = await this.#runAt(start, lengthMax);
      taken = run.length;
      return { run, request: this.#requests.start(start, taken) };
    } finally {
      this.dirty.set(start + taken, lengthMax - taken);
      this.#requests.finish(whole);
    }
  }

  /** Whole granules from `start` on that are all zeroes, or not. */
  async #runAt(start: number, lengthMax: number): Promise<{ length: number; zero: boolean }> {
    const [extent] = await this.#source.extents(start, lengthMax);
    const granule = this.dirty.granularityBytes;
    const end = start + extent!.length;
    const atEnd = end >= this.dirty.sizeBytes;
    if (extent!.zero) {
      const zeroEnd = atEnd ? this.dirty.sizeBytes : alignDown(end, granule);
      if (zeroEnd > start) return { length: Math.min(zeroEnd - start, lengthMax), zero: true };
    }
    const dataEnd = extent!.zero ? start + granule : alignUp(end, granule);
    return { length: Math.min(dataEnd - start, lengthMax, this.#ioBytes), zero: false };
  }

  async #copy(request: CopyRequest, zero: boolean): Promise<void> {
    const { offset, length } = request;
    let side: CopyFailure['side'] = 'source';
    try {
      if (zero) {
        side = 'target';
        await this.#target.writeZeroes(offset, length, { mayUnmap: this.#unmap });
      } else {
        const buffer = await this.#buffers.take(length, false);
        try {
          await this.#source.read(offset, buffer);
          side = 'target';
          await this.#target.write(offset, buffer);
        } finally {
          this.#buffers.give(buffer);
        }
        this.#sentBytes += length;
      }
    } catch (cause) {
      this.dirty.set(offset, length);
      this.#doneBytes -= length;
      this.#onFailure(this.#failure(side, cause, { offset, length }));
    }
    this.#doneBytes += length;
    this.#copying--;
    this.#requests.finish(request);
  }

  /** The source was changed. True where that is to be copied: the target does not have it by the same way. */
  mark(offset: number, length: number): boolean {
    const index = this.#both.findIndex(change => change.offset === offset && change.length === length);
    if (index >= 0) {
      this.#both.splice(index, 1);
      return false;
    }
    this.dirty.set(offset, length);
    return true;
  }

  /**
   * Lets a guest change the range of the source and then of the target. The outcome for the guest is the source's; a
   * failure of the target is returned, and the range is marked.
   */
  async changeBoth(
    offset: number,
    length: number,
    change: { source(): Pending; target(): Pending },
  ): Promise<CopyFailure | undefined> {
    const start = this.#alignedStart(offset);
    const end = Math.min(alignUp(offset + length, this.dirty.granularityBytes), this.dirty.sizeBytes);
    for (let other = this.#requests.overlapping(start, end); other !== undefined; ) {
      await this.#requests.ended(other);
      other = this.#requests.overlapping(start, end);
    }
    const request = this.#requests.start(start, end - start);
    this.#activeBytes += end - start;
    try {
      // Before the change: what is marked from here on comes from somebody else.
      this.dirty.reset(offset, length);
      await this.#changeSource({ offset, length }, change.source);
      try {
        await change.target();
      } catch (cause) {
        this.dirty.set(offset, length);
        return this.#failure('target', cause, { offset, length });
      }
      this.#doneBytes += length;
      return undefined;
    } finally {
      this.#activeBytes -= end - start;
      this.#requests.finish(request);
    }
  }

  async #changeSource(range: { offset: number; length: number }, change: () => Pending): Promise<void> {
    this.#both.push(range);
    try {
      await change();
    } catch (error) {
      // Nobody knows what of it has reached the source.
      this.dirty.set(range.offset, range.length);
      throw error;
    } finally {
      const index = this.#both.indexOf(range);
      if (index >= 0) this.#both.splice(index, 1);
    }
  }

  #alignedStart(offset: number): number {
    return alignDown(offset, this.dirty.granularityBytes);
  }

  #failure(
    side: CopyFailure['side'],
    cause: unknown,
    range: { offset: number; length: number },
  ): CopyFailure {
    return { side, error: fromSystemError(cause, { op: `mirror (${side})`, ...range }), ...range };
  }
}
