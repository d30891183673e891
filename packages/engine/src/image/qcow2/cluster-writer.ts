// Requests that change the mapping: writes into clusters that cannot be written in place, zeroes, discards.
//
// An allocating write takes host clusters, writes the whole of each (the parts outside the request come
// from what the guest cluster read as before), and lets the mapping point to them only then. A lock on the
// guest clusters keeps other changes of the same ones away meanwhile, so that two partial writes to one
// fresh cluster both arrive.
import {
  FILE_ZERO_CHUNK_BYTES,
  QCOW2_PENDING_FREE_BYTES_MAX,
  QCOW2_PENDING_FREE_RUNS_MAX,
} from '../../limits.ts';
import type { Pending } from '../../pending.ts';
import { alignDown, alignUp } from '../../units.ts';
import { type ClusterLock, ClusterLocks } from './cluster-locks.ts';
import type { ClusterMap, EraseMode, Mapping } from './clusters.ts';
import type { MetadataWriter } from './metadata-writer.ts';
import type { AllocatedRun, Refcounts } from './refcounts.ts';

export interface ClusterWriterOptions {
  clusters: ClusterMap;
  refcounts: Refcounts;
  metadata: MetadataWriter;
  clusterBytes: number;
  sizeBytes: number;
  /** Size of the backing image in bytes; 0 without one. */
  backingBytes: number;
  /** An entry can say that its cluster reads as zeroes: not so in version 2. */
  hasZeroFlag: boolean;
  /** Writes to the file under the image. */
  writeHost: (hostOffset: number, buffer: Buffer) => Pending;
  /** Reads the virtual disk as it is now. */
  readGuest: (offset: number, buffer: Buffer) => Pending;
}

const ZEROES = Buffer.alloc(FILE_ZERO_CHUNK_BYTES);

export class ClusterWriter {
  readonly #options: ClusterWriterOptions;
  /** Of guest clusters whose mapping is being changed. */
  readonly locks = new ClusterLocks();

  constructor(options: ClusterWriterOptions) {
    this.#options = options;
  }

  /** Writes any range; the parts run in parallel. Rejects with the first failure when all have ended. */
  async write(offset: number, buffer: Buffer): Promise<void> {
    const pending: Promise<void>[] = [];
    try {
      for (let done = 0; done < buffer.length; ) {
        done += await this.#startPart(offset + done, buffer.subarray(done), pending);
      }
    } finally {
      await Promise.allSettled(pending);
    }
    await Promise.all(pending);
  }

  /** Starts on the first run of the rest; returns its bytes, or 0 after waiting for another request. */
  async #startPart(offset: number, rest: Buffer, pending: Promise<void>[]): Promise<number> {
    const { clusters, writeHost } = this.#options;
    const mapping = clusters.lookup(offset, rest.length);
    if (mapping === undefined) {
      await clusters.load(offset);
      return 0;
    }
    if (mapping.kind === 'data' && mapping.copied) {
      const part = rest.subarray(0, mapping.length);
      const started = writeHost(mapping.hostOffset, part);
      if (started !== undefined) pending.push(quiet(started));
      return part.length;
    }
    const start = this.#clusterStart(offset);
    let end = Math.min(this.#clusterEnd(offset + mapping.length), this.#tableEnd(offset));
    const overlap = this.locks.firstOverlap(start, end);
    if (overlap !== undefined && overlap.start <= start) {
      await overlap.released;
      return 0;
    }
    if (overlap !== undefined) end = overlap.start;
    const lock = this.locks.acquire(start, end);
    const part = rest.subarray(0, end - offset);
    pending.push(quiet(this.#writeLocked(lock, offset, part, { ...mapping })));
    return part.length;
  }

  async #writeLocked(lock: ClusterLock, offset: number, data: Buffer, old: Mapping): Promise<void> {
    const { clusters, refcounts, clusterBytes } = this.#options;
    try {
      await clusters.ensureTable(offset, refcounts);
      for (let done = 0; done < data.length; ) {
        const position = offset + done;
        const start = this.#clusterStart(position);
        const wanted = (this.#clusterEnd(offset + data.length) - start) / clusterBytes;
        // Clusters that kept their space when they were zeroed are used again.
        const kept = old.kind === 'zero-allocated' && old.copied;
        const run: AllocatedRun = kept
          ? {
              offset: old.hostOffset - (offset % clusterBytes) + (start - lock.start),
              count: wanted,
              fresh: false,
            }
          : await refcounts.allocate(wanted);
        const part = data.subarray(done, start + run.count * clusterBytes - offset);
        try {
          await this.#fill(run, position, part, this.#readsZero(old, start));
          await clusters.link(start, run);
        } catch (error) {
          // Never linked, so free at once; where even that fails they leak, which a check repairs.
          if (!kept) await refcounts.free(run).catch(() => undefined);
          throw error;
        }
        done += part.length;
      }
    } finally {
      this.locks.release(lock);
    }
    await this.limitUnlinked();
  }

  /** Whether the guest cluster, as it was, reads as zeroes throughout. */
  #readsZero(old: Mapping, start: number): boolean {
    if (old.kind === 'zero-plain' || old.kind === 'zero-allocated') return true;
    return old.kind === 'unallocated' && start >= this.#options.backingBytes;
  }

  /** Writes the run: the data, and before and after it what the guest clusters read as until now. */
  async #fill(run: AllocatedRun, offset: number, data: Buffer, oldIsZero: boolean): Promise<void> {
    const { clusterBytes, writeHost } = this.#options;
    const head = offset % clusterBytes;
    const tail = run.count * clusterBytes - head - data.length;
    if ((head === 0 && tail === 0) || (run.fresh && oldIsZero)) {
      await writeHost(run.offset + head, data);
    } else if (run.count === 1) {
      const cluster = Buffer.allocUnsafe(clusterBytes);
      await this.#readOld(offset - head, cluster.subarray(0, head), oldIsZero);
      data.copy(cluster, head);
      await this.#readOld(offset + data.length, cluster.subarray(clusterBytes - tail), oldIsZero);
      await writeHost(run.offset, cluster);
    } else {
      const before = Buffer.allocUnsafe(head);
      const after = Buffer.allocUnsafe(tail);
      await this.#readOld(offset - head, before, oldIsZero);
      await this.#readOld(offset + data.length, after, oldIsZero);
      if (head > 0) await writeHost(run.offset, before);
      await writeHost(run.offset + head, data);
      if (tail > 0) await writeHost(run.offset + head + data.length, after);
    }
  }

  /** Past the end of the virtual disk there is nothing to read: zeroes. */
  async #readOld(offset: number, buffer: Buffer, oldIsZero: boolean): Promise<void> {
    const readable = oldIsZero ? 0 : Math.max(0, Math.min(buffer.length, this.#options.sizeBytes - offset));
    buffer.fill(0, readable);
    if (readable > 0) await this.#options.readGuest(offset, buffer.subarray(0, readable));
  }

  /** Whole clusters change in the mapping alone; what is left at both ends is written. */
  async writeZeroes(offset: number, length: number, mode: EraseMode): Promise<void> {
    const { hasZeroFlag, backingBytes, sizeBytes } = this.#options;
    const end = offset + length;
    const first = Math.min(this.#clusterEnd(offset), end);
    const last = end === sizeBytes ? end : Math.max(first, this.#clusterStart(end));
    await this.#zeroPart(offset, first - offset);
    if (hasZeroFlag) await this.erase(first, last, mode);
    else if (backingBytes === 0 && mode !== 'keep') await this.erase(first, last, 'discard');
    else await this.#writeAllZeroes(first, last - first);
    await this.#zeroPart(last, end - last);
  }

  /**
   * Lets go of the whole clusters inside the range: they read as zeroes then, also over a backing image, where
   * the format cannot say that nothing is let go of.
   */
  async discard(offset: number, length: number): Promise<void> {
    if (!this.#options.hasZeroFlag && this.#options.backingBytes > 0) return;
    const end = offset + length;
    const last = end === this.#options.sizeBytes ? end : this.#clusterStart(end);
    await this.erase(this.#clusterEnd(offset), last, 'discard');
  }

  /** Zeroes in a part of one cluster; one that reads as zeroes already stays as it is. */
  async #zeroPart(offset: number, length: number): Promise<void> {
    if (length <= 0) return;
    const { clusters } = this.#options;
    let found = clusters.lookup(offset, length);
    while (found === undefined) {
      await clusters.load(offset);
      found = clusters.lookup(offset, length);
    }
    if (
      found.kind !== 'compressed' &&
      found.kind !== 'data' &&
      this.#readsZero(found, this.#clusterStart(offset))
    ) {
      return;
    }
    await this.#writeAllZeroes(offset, length);
  }

  async #writeAllZeroes(offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; done += ZEROES.length) {
      await this.write(offset + done, ZEROES.subarray(0, Math.min(ZEROES.length, length - done)));
    }
  }

  /** Gives clusters without a place one of their own, full of zeroes. Nothing else may be in flight. */
  async preallocate(offset: number, length: number): Promise<void> {
    const { clusters, refcounts, clusterBytes } = this.#options;
    for (let position = offset; position < offset + length; ) {
      const found = clusters.lookup(position, offset + length - position);
      if (found === undefined) {
        await clusters.load(position);
        continue;
      }
      const end = Math.min(position + found.length, this.#tableEnd(position));
      if (found.kind !== 'unallocated' && found.kind !== 'zero-plain') {
        position = end;
        continue;
      }
      await clusters.ensureTable(position, refcounts);
      const run = await refcounts.allocate((this.#clusterEnd(end) - position) / clusterBytes);
      if (!run.fresh) await this.#options.writeHost(run.offset, Buffer.alloc(run.count * clusterBytes));
      await clusters.link(position, run);
      position += run.count * clusterBytes;
    }
  }

  /** `start` is a cluster's; `end` as well, or the end of the disk. */
  async erase(start: number, end: number, mode: EraseMode): Promise<void> {
    const { clusters, refcounts } = this.#options;
    for (let position = start; position < end; ) {
      const found = clusters.lookup(position, end - position);
      if (found === undefined) {
        await clusters.load(position);
        continue;
      }
      const blank = found.kind === 'unallocated' && this.#options.backingBytes === 0;
      const missing = blank && mode === 'discard';
      const stop = Math.min(end, missing ? position + found.length : this.#tableEnd(position));
      const overlap = this.locks.firstOverlap(position, stop);
      if (overlap !== undefined && overlap.start <= position) {
        await overlap.released;
        continue;
      }
      const until = overlap === undefined ? stop : overlap.start;
      if (!missing) {
        const lock = this.locks.acquire(position, this.#clusterEnd(until));
        try {
          await clusters.ensureTable(position, refcounts);
          await clusters.erase(position, until, mode);
        } finally {
          this.locks.release(lock);
        }
        await this.limitUnlinked();
      }
      position = until;
    }
  }

  /** Clusters that wait to be freed are bounded, in number and in the space that they keep. */
  async limitUnlinked(): Promise<void> {
    const { clusters, metadata } = this.#options;
    const tooMany = clusters.unlinked.length >= QCOW2_PENDING_FREE_RUNS_MAX;
    if (tooMany || clusters.unlinkedBytes >= QCOW2_PENDING_FREE_BYTES_MAX) await metadata.writeBack();
  }

  #clusterStart(offset: number): number {
    return alignDown(offset, this.#options.clusterBytes);
  }

  #clusterEnd(offset: number): number {
    return alignUp(offset, this.#options.clusterBytes);
  }

  #tableEnd(offset: number): number {
    return alignDown(offset, this.#options.clusters.spanBytes) + this.#options.clusters.spanBytes;
  }
}

/** A part may fail while others still run: the failure is looked at when all have ended. */
function quiet(promise: Promise<void>): Promise<void> {
  promise.catch(() => undefined);
  return promise;
}
