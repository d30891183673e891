// The `qcow2` driver: a sparse image with an optional backing image, over a file child. Small requests that
// stay within one run of known clusters are answered without a promise where the child can.
import { EngineError } from '../../errors.ts';
import { appendExtent, type Extent } from '../../extent.ts';
import { EXTENTS_PER_CALL_MAX, QCOW2_CACHED_TABLES_MIN, QCOW2_L2_CACHE_BYTES_MAX } from '../../limits.ts';
import type { BlockNode, Child, WriteZeroesOptions } from '../../node/block-node.ts';
import type { Pending } from '../../pending.ts';
import { bitmapRefusal } from './bitmap-refusal.ts';
import { ClusterWriter } from './cluster-writer.ts';
import { ClusterMap, type Mapping } from './clusters.ts';
import { decompressCluster } from './compressed-cluster.ts';
import { CompressedWriter } from './compressed-writer.ts';
import { EpochGate } from './epoch-gate.ts';
import { TABLE_ENTRY_BYTES } from './format.ts';
import { type Qcow2Header, readQcow2Header } from './header.ts';
import { compressedPlace } from './l2-entry.ts';
import { MetadataTable } from './metadata-table.ts';
import { MetadataWriter } from './metadata-writer.ts';
import { assertOpenable } from './openable.ts';
import { Refcounts } from './refcounts.ts';
import { assertQcow2Size, rewriteSize } from './resize.ts';

export interface Qcow2Options {
  /** Default: as the file child. */
  readOnly?: boolean;
  /** What unallocated clusters read from; needed where the header names one. */
  backing?: BlockNode;
  /** Open without the backing image that the header names: unallocated clusters read as zeroes. */
  ignoreBacking?: boolean;
  /** The children belong to somebody else and stay open at close; default false. */
  keepChildren?: boolean;
  /** Memory for L2 tables, in bytes; two tables are held in any case. */
  l2CacheBytes?: number;
}

/** What only a writable image has. */
interface WriteSide {
  metadata: MetadataWriter;
  writer: ClusterWriter;
  compressed: CompressedWriter;
  refcounts: Refcounts;
}

export class Qcow2Image implements BlockNode {
  readonly driver = 'qcow2';
  readonly readOnly: boolean;
  readonly requestAlignmentBytes: number;
  readonly clusterSizeBytes: number;
  #header: Qcow2Header;
  readonly children: readonly Child[];
  readonly #file: BlockNode;
  readonly #backing: BlockNode | undefined;
  #clusters: ClusterMap;
  #gate = new EpochGate();
  #writeSide: WriteSide | undefined;
  readonly #options: Qcow2Options;
  readonly #keepChildren: boolean;

  private constructor(
    file: BlockNode,
    header: Qcow2Header,
    l1: MetadataTable,
    options: Qcow2Options,
    refcounts?: Refcounts,
  ) {
    const { backing } = options;
    this.#file = file;
    this.#backing = backing;
    this.#header = header;
    this.#options = options;
    this.clusterSizeBytes = header.clusterBytes;
    this.readOnly = refcounts === undefined;
    this.requestAlignmentBytes = Math.max(file.requestAlignmentBytes, backing?.requestAlignmentBytes ?? 1);
    this.children = [
      { role: 'file', node: file },
      ...(backing ? [{ role: 'backing' as const, node: backing }] : []),
    ];
    this.#keepChildren = options.keepChildren ?? false;
    const cacheBytes = options.l2CacheBytes ?? QCOW2_L2_CACHE_BYTES_MAX;
    this.#clusters = new ClusterMap({
      file,
      header,
      l1,
      hasBacking: backing !== undefined || header.backingPath !== undefined,
      l2Capacity: Math.max(QCOW2_CACHED_TABLES_MIN, Math.floor(cacheBytes / header.clusterBytes)),
      writeBack: () => this.#writeBack(),
    });
    this.#writeSide = refcounts && this.#makeWriteSide(refcounts);
  }

  /**
   * Reads header and tables. Rejects with `invalid-format`, `corrupt`, `io`, `unsupported` (features that
   * are not done here, by name) or `invalid-argument` (the backing image is missing). The children stay
   * the caller's where it rejects.
   */
  static async open(file: BlockNode, options: Qcow2Options = {}): Promise<Qcow2Image> {
    const header = await readQcow2Header(file);
    const readOnly = options.readOnly ?? file.readOnly;
    assertOpenable(file, header, options, readOnly);
    const l1 = new MetadataTable(0, header.l1Offset, Buffer.alloc(header.l1Entries * TABLE_ENTRY_BYTES));
    await file.read(header.l1Offset, l1.bytes);
    if (readOnly) return new Qcow2Image(file, header, l1, options);
    let image: Qcow2Image | undefined;
    const refcounts = await Refcounts.open(file, header, () => image!.#writeBack());
    image = new Qcow2Image(file, header, l1, options, refcounts);
    return image;
  }

  get header(): Qcow2Header {
    return this.#header;
  }

  get sizeBytes(): number {
    return this.#header.sizeBytes;
  }

  /**
   * To be called with nothing in flight. What a smaller disk loses is gone for good; new bytes read as zeroes,
   * also over a backing image. Rejects with `invalid-argument`, `unsupported` or `io`.
   */
  async resize(sizeBytes: number): Promise<void> {
    assertQcow2Size(this.header, sizeBytes);
    const old = this.sizeBytes;
    if (sizeBytes < old) await this.writeZeroes(sizeBytes, old - sizeBytes, { mayUnmap: true });
    await this.settle();
    const { refcounts, metadata } = this.#writable();
    const parts = { file: this.#file, header: this.header, l1: this.#clusters.l1, refcounts };
    await rewriteSize({ ...parts, writeBack: () => metadata.writeBack() }, sizeBytes);
    const changed = await Qcow2Image.open(this.#file, { ...this.#options, readOnly: false });
    this.#header = changed.#header;
    this.#clusters = changed.#clusters;
    this.#gate = changed.#gate;
    this.#writeSide = changed.#writeSide;
    const shownFrom = Math.min(sizeBytes, this.#backing?.sizeBytes ?? 0);
    if (shownFrom > old) await this.writeZeroes(old, shownFrom - old, { mayUnmap: true });
  }

  refusesBitmap({ name }: { name: string }): string {
    return bitmapRefusal(this.header.version, name);
  }

  #makeWriteSide(refcounts: Refcounts): WriteSide {
    const metadata = new MetadataWriter({
      file: this.#file,
      refcounts,
      clusters: this.#clusters,
      gate: this.#gate,
    });
    const writeHost = (offset: number, buffer: Buffer): Pending => {
      this.#file.debugEvent?.('write_aio');
      return this.#hostRequest(this.#gate.enter(), () => this.#file.write(offset, buffer));
    };
    const shared = { clusters: this.#clusters, refcounts, clusterBytes: this.clusterSizeBytes, writeHost };
    const writer = new ClusterWriter({
      ...shared,
      metadata,
      sizeBytes: this.sizeBytes,
      backingBytes: this.#backing?.sizeBytes ?? (this.header.backingPath === undefined ? 0 : this.sizeBytes),
      readGuest: (offset, buffer) => this.read(offset, buffer),
    });
    const compressed = new CompressedWriter({
      ...shared,
      locks: writer.locks,
      compressionType: this.header.compressionType,
      writePlain: (offset, buffer) => writer.write(offset, buffer),
    });
    return { metadata, writer, compressed, refcounts };
  }

  #writeBack(): Promise<void> {
    return this.#writeSide === undefined ? Promise.resolve() : this.#writeSide.metadata.writeBack();
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
    return this.#hostRequest(this.#gate.enter(), () => this.#file.read(hostOffset, part));
  }

  /** Keeps the clusters that the request uses from being given to others until it has ended. */
  #hostRequest(epoch: 0 | 1, start: () => Pending): Pending {
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
    const place = compressedPlace(high, low, this.header.clusterBits);
    if (place.offset >= this.#file.sizeBytes) {
      throw new EngineError(
        'corrupt',
        `a compressed cluster lies at ${place.offset}, past the end of the file`,
        {
          op: 'read',
          offset: place.offset,
        },
      );
    }
    const data = Buffer.alloc(place.length);
    await this.#readHost(place.offset, data);
    const cluster = await decompressCluster(
      this.header.compressionType,
      data,
      this.clusterSizeBytes,
      place.offset,
    );
    cluster.copy(buffer, 0, offset % this.clusterSizeBytes);
  }

  write(offset: number, buffer: Buffer): Pending {
    const { writer } = this.#writable();
    const found = this.#clusters.lookup(offset, buffer.length);
    if (found?.kind === 'data' && found.copied && found.length >= buffer.length) {
      const { hostOffset } = found;
      this.#file.debugEvent?.('write_aio');
      return this.#hostRequest(this.#gate.enter(), () => this.#file.write(hostOffset, buffer));
    }
    return writer.write(offset, buffer);
  }

  get canCompress(): boolean {
    return !this.readOnly;
  }

  async writeCompressed(offset: number, buffer: Buffer): Promise<void> {
    const { compressed, writer } = this.#writable();
    await compressed.write(offset, buffer);
    await writer.limitUnlinked();
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    return this.#writable().writer.writeZeroes(offset, length, options.mayUnmap ? 'unmap' : 'keep');
  }

  /** Whole clusters are let go of and read as zeroes then, also over a backing image; parts are left alone. */
  discard(offset: number, length: number): Pending {
    return this.#writable().writer.discard(offset, length);
  }

  flush(): Pending {
    return this.#writeSide?.metadata.writeBack();
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

  /** Of the image's own file; the file's size where it cannot tell. */
  async allocatedBytes(): Promise<number> {
    return (await this.#file.allocatedBytes?.()) ?? this.#file.sizeBytes;
  }

  /**
   * Writes all metadata, frees what waits for it, and closes the children, these in any case. Rejects
   * where something could not be written: the file is consistent then, as after a crash.
   */
  async close(): Promise<void> {
    try {
      await this.settle();
    } finally {
      if (!this.#keepChildren) {
        await this.#file.close();
        await this.#backing?.close();
      }
    }
  }

  /** Afterwards the file is as after `close`, and nothing is held back; the image stays open. */
  async settle(): Promise<void> {
    if (this.#writeSide !== undefined) await this.#settle(this.#writeSide);
  }

  async #settle(side: WriteSide): Promise<void> {
    try {
      await side.metadata.writeBack();
    } finally {
      await side.metadata.released();
    }
    await side.metadata.writeBack();
    await side.refcounts.trim();
  }

  #writable(): WriteSide {
    if (this.#writeSide !== undefined) return this.#writeSide;
    throw new EngineError('invalid-argument', 'this qcow2 image is open read-only; open it for writing', {
      op: 'write',
    });
  }
}
