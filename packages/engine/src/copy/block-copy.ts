// Copies a disk's clusters from source to target, each once, whoever comes first: the copy-before-write
// filter on behalf of a guest, or the job's loop. Both work on one copy bitmap.
//
// Bit meanings. copyBitmap: the cluster still has to be copied, and nobody is at it. A bit is cleared when
// a request claims its cluster and set again when that request fails. A cluster whose bit is clear and
// that no request in flight covers is on the target, or was never asked for.
//
// While a cluster's bit is set the source cannot have changed there since the filter appeared: the guest
// waits for the copy first. So block status that was asked for earlier still holds for it.
import { Bitmap } from '../bitmap/bitmap.ts';
import { EngineError, fromSystemError } from '../errors.ts';
import { COPY_CHUNK_BYTES_MAX, COPY_CLUSTER_BYTES_MIN, COPY_MEMORY_BYTES_MAX } from '../limits.ts';
import type { BlockNode } from '../node/block-node.ts';
import { alignDown, alignUp } from '../units.ts';
import { BufferBudget } from './buffer-budget.ts';
import { type CopyRequest, RequestList } from './request-list.ts';
import { StatusCursor } from './status-cursor.ts';

/** An error of a copy, and which side it came from: the policies differ. */
export interface CopyFailure {
  side: 'source' | 'target';
  error: EngineError;
  /** What was being copied; its bits are set again. */
  offset: number;
  length: number;
}

/** A piece of work for the job's loop, being done. */
export interface CopyPiece {
  offset: number;
  length: number;
  zero: boolean;
  done: Promise<CopyFailure | undefined>;
}

export interface BlockCopyOptions {
  source: BlockNode;
  target: BlockNode;
  /** The target reads as zeroes where nothing was written, so that zeroes need not be sent. */
  targetIsZero: boolean;
  /** Default: what `copyClusterBytes` says of the target. */
  clusterBytes?: number | undefined;
  /** Copies of at most this much; 0 or undefined: the default. */
  chunkBytesMax?: number | undefined;
  /** Store compressed: the target must be able to. */
  compressed?: boolean | undefined;
  /** Let the kernel move the bytes where both ends are files; without effect elsewhere. */
  copyRange?: boolean | undefined;
  /** Discard of the source what the job has copied: nobody reads it there again (scenario group 12). */
  discardSource?: boolean | undefined;
}

/** What a copy never does less than at once: 64 KiB or a larger cluster of the target (scenario BK-V7). */
export function copyClusterBytes(
  target: BlockNode,
  { minClusterBytes = 0 }: { minClusterBytes?: number | undefined } = {},
): number {
  return Math.max(COPY_CLUSTER_BYTES_MIN, target.clusterSizeBytes ?? 0, minClusterBytes);
}

export class BlockCopy {
  // Fixed at creation.
  readonly clusterBytes: number;
  /** One request copies at most this much data. */
  readonly chunkBytes: number;
  readonly copyBitmap: Bitmap;
  readonly #source: BlockNode;
  readonly #target: BlockNode;
  readonly #targetIsZero: boolean;
  readonly #compressed: boolean;
  readonly #discardSource: boolean;
  /** Cleared when the kernel could not. */
  #inKernel: boolean;
  readonly #sizeBytes: number;
  readonly #buffers: BufferBudget;
  readonly #status: StatusCursor;
  // Changing while it runs.
  readonly #requests = new RequestList();
  #stopped = false;
  #doneBytes = 0;
  #sentBytes = 0;

  constructor(options: BlockCopyOptions) {
    this.#source = options.source;
    this.#target = options.target;
    this.#targetIsZero = options.targetIsZero;
    this.#compressed = options.compressed ?? false;
    this.#inKernel = (options.copyRange ?? false) && !this.#compressed;
    this.#discardSource = options.discardSource ?? false;
    this.#sizeBytes = options.source.sizeBytes;
    this.clusterBytes = options.clusterBytes ?? copyClusterBytes(options.target);
    this.copyBitmap = new Bitmap(this.#sizeBytes, this.clusterBytes);
    const chunkBytes = options.chunkBytesMax || COPY_CHUNK_BYTES_MAX;
    this.chunkBytes = Math.max(Math.min(chunkBytes, COPY_CHUNK_BYTES_MAX), this.clusterBytes);
    this.#buffers = new BufferBudget({ totalBytes: COPY_MEMORY_BYTES_MAX, chunkBytes: this.chunkBytes });
    this.#status = new StatusCursor(options.source);
  }

  /** Bytes that are done with: copied, or found to be zero. */
  get doneBytes(): number {
    return this.#doneBytes;
  }

  /** Payload bytes written to the target. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** Bytes whose bits are set, without what the last cluster has beyond the end of the disk. */
  get remainingBytes(): number {
    if (this.#sizeBytes === 0) return 0;
    const beyond = alignUp(this.#sizeBytes, this.clusterBytes) - this.#sizeBytes;
    return this.copyBitmap.dirtyBytes - (this.copyBitmap.get(this.#sizeBytes - 1) ? beyond : 0);
  }

  /** No copy begins any more, for a guest neither. */
  get stopped(): boolean {
    return this.#stopped;
  }

  get inFlight(): number {
    return this.#requests.size;
  }

  get inFlightBytes(): number {
    return this.#requests.bytes;
  }

  /** Resolves when some request has ended; at once when none is in flight. */
  anyFinished(): Promise<void> {
    return this.#requests.anyFinished();
  }

  /** No copy begins from here on; resolves when those under way have ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    while (this.#requests.size > 0) await this.#requests.anyFinished();
  }

  /**
   * True when nothing has to happen before a guest changes [offset, offset + length): no cluster of it waits
   * to be copied or is being copied. The cheap question of the write path.
   */
  isDone(offset: number, length: number): boolean {
    const end = offset + length;
    if (!this.#stopped && this.copyBitmap.nextDirty(offset, end) >= 0) return false;
    if (this.#requests.size === 0) return true;
    return this.#requests.overlapping(this.#alignedStart(offset), this.#alignedEnd(end)) === undefined;
  }

  /**
   * Sees to it that every cluster of the range is on the target, copying what is not and waiting for what
   * others are copying. Afterwards the guest may change the range. Returns the failure of its own copy;
   * the bits of a failed cluster are set again, so the job comes back to it.
   */
  async copyRange(offset: number, length: number): Promise<CopyFailure | undefined> {
    const start = this.#alignedStart(offset);
    const end = this.#alignedEnd(offset + length);
    for (;;) {
      const area = this.#stopped ? undefined : this.copyBitmap.nextDirtyArea(start, end, this.chunkBytes);
      if (area !== undefined) {
        const request = this.#claim(area.offset, area.length);
        const failure = await this.#copy(request, { guest: true });
        if (failure !== undefined) return failure;
        continue;
      }
      const other = this.#requests.overlapping(start, end);
      if (other === undefined) return undefined;
      await this.#requests.ended(other);
    }
  }

  /**
   * Uses what a guest has just read: clusters of it that still wait to be copied are, at no cost to the guest.
   * To be called right when the read has ended: a set bit says that nothing was written there meanwhile. What
   * cannot begin at once is left to the job.
   */
  feed(offset: number, data: Buffer): void {
    const end = offset + data.length;
    const first = alignUp(offset, this.clusterBytes);
    const last = end === this.#sizeBytes ? end : alignDown(end, this.clusterBytes);
    for (let from = first; from < last && !this.#stopped; ) {
      const area = this.copyBitmap.nextDirtyArea(from, last, this.chunkBytes);
      if (area === undefined) return;
      const buffer = this.#buffers.takeNow(area.length);
      if (buffer === undefined) return;
      data.copy(buffer, 0, area.offset - offset, area.offset - offset + area.length);
      void this.#copyFrom(this.#claim(area.offset, area.length), buffer, true);
      from = area.offset + area.length;
    }
  }

  /**
   * How far from `offset` on, and at most to `end`, the frozen contents are in one place: `copied` says on the
   * target. Where it is false the source has them, as long as no guest may write there.
   */
  runAt(offset: number, end: number): { length: number; copied: boolean } {
    if (this.copyBitmap.get(offset)) {
      const zero = this.copyBitmap.nextZero(offset, end);
      return { length: (zero < 0 ? end : zero) - offset, copied: false };
    }
    const request = this.#requests.firstIn(offset, end);
    if (request !== undefined && request.offset <= offset) {
      return { length: Math.min(request.end, end) - offset, copied: false };
    }
    const dirty = this.copyBitmap.nextDirty(offset, end);
    const stop = Math.min(dirty < 0 ? end : dirty, request?.offset ?? end);
    return { length: stop - offset, copied: true };
  }

  /** Nobody wants the whole clusters of the range any more; resolves when no copy of them is under way. */
  async giveUp(offset: number, length: number): Promise<void> {
    const end = offset + length;
    for (;;) {
      // Again after each wait: a copy that fails sets its bits.
      this.copyBitmap.reset(offset, length);
      const request = this.#requests.overlapping(offset, end);
      if (request === undefined) return;
      await this.#requests.ended(request);
    }
  }

  /**
   * Takes what the source's own layer does not allocate out of the copy, for a stretch from `offset` on: to
   * be called until the end of the disk, before the first `copyNext`. A cluster that it holds only in part
   * stays. Rejects when the source cannot say its status.
   */
  async resetUnallocated(offset: number): Promise<{ nextOffset: number }> {
    const extent = await this.#status.at(offset);
    const end = extent.offset + extent.length;
    if (extent.depth !== 1) {
      const start = alignUp(offset, this.clusterBytes);
      const length = (end >= this.#sizeBytes ? end : alignDown(end, this.clusterBytes)) - start;
      if (length > 0) this.copyBitmap.reset(start, length);
    }
    return { nextOffset: end };
  }

  /**
   * Claims the next piece at or after `offset`, cut to one run of data or zeroes, and starts on it. Undefined
   * when no bit is set from there on. Throws when the source cannot say its status.
   * @param zeroBytesMax a run of zeroes is cut to this as well; it is as long as it goes by default.
   */
  async copyNext(offset: number, zeroBytesMax = Infinity): Promise<CopyPiece | undefined> {
    let from = offset;
    for (;;) {
      from = this.#stopped ? -1 : this.copyBitmap.nextDirty(from);
      if (from < 0) return undefined;
      const extent = await this.#status.at(from);
      const run = this.#wholeClusters(from, extent.offset + extent.length, extent.zero);
      const lengthMax = run.zero ? zeroBytesMax : this.chunkBytes;
      const area = this.#stopped ? undefined : this.copyBitmap.nextDirtyArea(from, run.end, lengthMax);
      if (area !== undefined) {
        const request = this.#claim(area.offset, area.length);
        const done = this.#copy(request, { zero: run.zero, guest: false });
        return { offset: area.offset, length: area.length, zero: run.zero, done };
      }
      from = run.end;
    }
  }

  /** Zeroes count as such in whole clusters; a cluster that is partly data is data (scenario ZR-08). */
  #wholeClusters(offset: number, end: number, zero: boolean): { end: number; zero: boolean } {
    if (!zero) return { end: this.#alignedEnd(end), zero: false };
    const zeroEnd = end >= this.#sizeBytes ? this.#sizeBytes : alignDown(end, this.clusterBytes);
    if (zeroEnd > offset) return { end: zeroEnd, zero: true };
    return { end: Math.min(offset + this.clusterBytes, this.#sizeBytes), zero: false };
  }

  /** For a guest, only what the source can say on the spot: a copy of zeroes as data is right as well. */
  #isZero(request: CopyRequest): boolean {
    const extents = this.#source.extents(request.offset, request.length);
    if (!Array.isArray(extents)) {
      // Nobody waits for the answer, so nobody would be told that there is none.
      extents.catch(() => undefined);
      return false;
    }
    const covered = extents.reduce((sum, extent) => sum + (extent.zero ? extent.length : 0), 0);
    return covered === request.length;
  }

  #alignedStart(offset: number): number {
    return alignDown(offset, this.clusterBytes);
  }

  #alignedEnd(end: number): number {
    return Math.min(alignUp(end, this.clusterBytes), this.#sizeBytes);
  }

  #claim(offset: number, length: number): CopyRequest {
    this.copyBitmap.reset(offset, length);
    return this.#requests.start(offset, length);
  }

  async #copy(
    request: CopyRequest,
    how: { zero?: boolean; guest: boolean },
  ): Promise<CopyFailure | undefined> {
    const { offset, length } = request;
    try {
      const zero = how.zero ?? this.#isZero(request);
      if (!zero) {
        if (this.#inKernel && (await this.#copyInKernel(request))) {
          return await this.#settle(request, how.guest, async () => {});
        }
        const buffer = await this.#buffers.take(length, how.guest);
        try {
          await this.#source.read(offset, buffer);
        } catch (error) {
          this.#buffers.give(buffer);
          throw error;
        }
        return await this.#copyFrom(request, buffer, how.guest);
      }
    } catch (cause) {
      return this.#failed(request, 'source', cause);
    }
    return this.#settle(request, how.guest, async () => {
      if (!this.#targetIsZero) await this.#target.writeZeroes(offset, length, { mayUnmap: true });
    });
  }

  /** False where the bytes have to come through here. What went wrong shows when they do. */
  async #copyInKernel({ offset, length }: CopyRequest): Promise<boolean> {
    const from = this.#source.hostRange?.(offset, length);
    try {
      const written = from && this.#target.writeHostRange?.(offset, from, length);
      if (written === undefined) return false;
      await written;
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      this.#inKernel = false;
      return false;
    }
    this.#sentBytes += length;
    return true;
  }

  /** The second half of a copy; the buffer is given back. */
  #copyFrom(request: CopyRequest, buffer: Buffer, guest: boolean): Promise<CopyFailure | undefined> {
    const { offset, length } = request;
    return this.#settle(request, guest, async () => {
      try {
        if (this.#compressed) await this.#target.writeCompressed!(offset, buffer);
        else await this.#target.write(offset, buffer);
      } finally {
        this.#buffers.give(buffer);
      }
      this.#sentBytes += length;
    });
  }

  async #settle(
    request: CopyRequest,
    guest: boolean,
    store: () => Promise<void>,
  ): Promise<CopyFailure | undefined> {
    try {
      await store();
    } catch (cause) {
      return this.#failed(request, 'target', cause);
    }
    if (this.#discardSource && !guest) await this.#giveBack(request);
    this.#doneBytes += request.length;
    this.#requests.finish(request);
    return undefined;
  }

  /** Space that cannot be given back is no reason to fail: the copy is where it should be. */
  async #giveBack({ offset, length }: CopyRequest): Promise<void> {
    try {
      await this.#source.discard(offset, length);
    } catch {
      // The source keeps it.
    }
  }

  #failed(request: CopyRequest, side: CopyFailure['side'], cause: unknown): CopyFailure {
    const { offset, length } = request;
    this.copyBitmap.set(offset, length);
    this.#requests.finish(request);
    return { side, error: fromSystemError(cause, { op: `copy (${side})`, offset, length }), offset, length };
  }
}

/** Why the frozen moment cannot be trusted any more, for those who read or wait for what it kept. */
export function brokenSnapshot({ side, error, offset, length }: CopyFailure): EngineError {
  const where = `${length} bytes at ${offset}`;
  const text = `The frozen moment was given up: copying ${where} failed on the ${side}: ${error.message}`;
  return new EngineError('denied', text, { op: 'copy-before-write', offset, length }, error);
}
