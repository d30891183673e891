// The reading half of a qcow2 image: follows the mapping to the file, to the backing image, to zeroes or through
// a decompressor. Small requests within one run of known clusters end without a promise where the child's do.
import { EngineError } from '../../errors.ts';
import { appendExtent, type Extent } from '../../extent.ts';
import { EXTENTS_PER_CALL_MAX } from '../../limits.ts';
import type { BlockNode } from '../../node/block-node.ts';
import type { Pending } from '../../pending.ts';
import type { ClusterMap, Mapping } from './clusters.ts';
import { decompressCluster } from './compressed-cluster.ts';
import type { Epoch, EpochGate } from './epoch-gate.ts';
import type { Qcow2Header } from './header.ts';
import { compressedPlace } from './l2-entry.ts';

export interface ImageReaderOptions {
  file: BlockNode;
  backing: BlockNode | undefined;
  header: Qcow2Header;
  clusters: ClusterMap;
  gate: EpochGate;
}

export class ImageReader {
  readonly #file: BlockNode;
  readonly #backing: BlockNode | undefined;
  readonly #header: Qcow2Header;
  readonly #clusters: ClusterMap;
  readonly #gate: EpochGate;

  constructor({ file, backing, header, clusters, gate }: ImageReaderOptions) {
    this.#file = file;
    this.#backing = backing;
    this.#header = header;
    this.#clusters = clusters;
    this.#gate = gate;
  }

  read(offset: number, buffer: Buffer): Pending {
    const found = this.#clusters.lookup(offset, buffer.length);
    if (found !== undefined && found.length >= buffer.length) return this.#readRun(found, offset, buffer);
    return this.#readRuns(offset, buffer);
  }

  async #readRuns(offset: number, buffer: Buffer): Promise<void> {
    const pending: Promise<void>[] = [];
    try {
      for (let done = 0; done < buffer.length; ) {
        const found = this.#clusters.lookup(offset + done, buffer.length - done);
        if (found === undefined) {
          await this.#clusters.load(offset + done);
          continue;
        }
        const part = buffer.subarray(done, done + found.length);
        const started = this.#readRun(found, offset + done, part);
        if (started !== undefined) {
          started.catch(() => undefined);
          pending.push(started);
        }
        done += part.length;
      }
    } finally {
      await Promise.allSettled(pending);
    }
    await Promise.all(pending);
  }

  #readRun(found: Mapping, offset: number, buffer: Buffer): Pending {
    switch (found.kind) {
      case 'data':
        return this.#readHost(found.hostOffset, buffer);
      case 'zero-plain':
      case 'zero-allocated':
        buffer.fill(0);
        return undefined;
      case 'unallocated':
        return this.#readBacking(offset, buffer);
      case 'compressed':
        return this.#readCompressed(found.entryHigh, found.entryLow, offset, buffer);
    }
  }

  #readHost(hostOffset: number, buffer: Buffer): Pending {
    // The last cluster of a file may be cut short; the rest of it reads as zeroes.
    const there = Math.min(buffer.length, this.#file.sizeBytes - hostOffset);
    if (there < buffer.length) buffer.fill(0, Math.max(0, there));
    if (there <= 0) return undefined;
    const part = there < buffer.length ? buffer.subarray(0, there) : buffer;
    this.#file.debugEvent?.('read_aio');
    return this.hostRequest(this.#gate.enter(), () => this.#file.read(hostOffset, part));
  }

  /** Keeps the clusters that the request uses from being given to others until it has ended. */
  hostRequest(epoch: Epoch, start: () => Pending): Pending {
    let pending: Pending;
    try {
      pending = start();
    } catch (error) {
      this.#gate.leave(epoch);
      throw error;
    }
    if (pending === undefined) {
      this.#gate.leave(epoch);
      return undefined;
    }
    return pending.finally(() => this.#gate.leave(epoch));
  }

  #readBacking(offset: number, buffer: Buffer): Pending {
    const there = this.#backing === undefined ? 0 : Math.min(buffer.length, this.#backing.sizeBytes - offset);
    if (there < buffer.length) buffer.fill(0, Math.max(0, there));
    if (there <= 0) return undefined;
    this.#file.debugEvent?.('read_backing_aio');
    return this.#backing!.read(offset, there < buffer.length ? buffer.subarray(0, there) : buffer);
  }

  async #readCompressed(high: number, low: number, offset: number, buffer: Buffer): Promise<void> {
    const place = compressedPlace(high, low, this.#header.clusterBits);
    if (place.offset >= this.#file.sizeBytes) {
      throw new EngineError(
        'corrupt',
        `a compressed cluster lies at ${place.offset}, past the end of the file`,
        { op: 'read', offset: place.offset },
      );
    }
    const data = Buffer.alloc(place.length);
    await this.#readHost(place.offset, data);
    const cluster = await decompressCluster(
      this.#header.compressionType,
      data,
      this.#header.clusterBytes,
      place.offset,
    );
    cluster.copy(buffer, 0, offset % this.#header.clusterBytes);
  }

  async extents(offset: number, length: number): Promise<Extent[]> {
    const extents: Extent[] = [];
    const end = offset + length;
    for (let position = offset; position < end && extents.length < EXTENTS_PER_CALL_MAX; ) {
      const found = this.#clusters.lookup(position, end - position);
      if (found === undefined) {
        await this.#clusters.load(position);
        continue;
      }
      const run = found.length;
      if (found.kind === 'unallocated') await this.#appendBacking(extents, position, run);
      else {
        const data = found.kind === 'data' || found.kind === 'compressed';
        appendExtent(extents, { offset: position, length: run, data, zero: !data, depth: 1 });
      }
      const last = extents[extents.length - 1]!;
      position = last.offset + last.length;
    }
    return extents;
  }

  /** Appends what the backing image says of the start of the range; past its end are zeroes of its layer. */
  async #appendBacking(extents: Extent[], offset: number, length: number): Promise<void> {
    if (this.#backing === undefined) {
      appendExtent(extents, { offset, length, data: false, zero: true, depth: 0 });
      return;
    }
    const there = Math.min(length, this.#backing.sizeBytes - offset);
    if (there <= 0) {
      appendExtent(extents, { offset, length, data: false, zero: true, depth: 2 });
      return;
    }
    for (const extent of await this.#backing.extents(offset, there)) {
      appendExtent(extents, { ...extent, depth: extent.depth === 0 ? 0 : extent.depth + 1 });
    }
  }
}
