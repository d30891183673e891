// The `qcow2` driver: a sparse image with an optional backing image, over a file child. This is the face of it;
// reading, writing and what the header leads to are parts of their own.
import type { DirtyBitmap } from '../../bitmap/dirty-bitmap.ts';
import { EngineError } from '../../errors.ts';
import type { Extent } from '../../extent.ts';
import { QCOW2_CACHED_TABLES_MIN, QCOW2_L2_CACHE_BYTES_MAX } from '../../limits.ts';
import type { BlockNode, Child, WriteZeroesOptions } from '../../node/block-node.ts';
import type { Pending } from '../../pending.ts';
import { bitmapRefusal, type WantedBitmap } from './bitmap-refusal.ts';
import { ClusterMap } from './clusters.ts';
import { EpochGate } from './epoch-gate.ts';
import { TABLE_ENTRY_BYTES } from './format.ts';
import { type Qcow2Header, readQcow2Header } from './header.ts';
import { HeaderFile } from './header-file.ts';
import { ImageBitmaps } from './image-bitmaps.ts';
import { ImageReader } from './image-reader.ts';
import { MetadataTable } from './metadata-table.ts';
import { assertOpenable } from './openable.ts';
import { repairIfDirty } from './prepare-for-writing.ts';
import { Refcounts } from './refcounts.ts';
import { assertQcow2Size, rewriteSize } from './resize.ts';
import { readSnapshotTable, type SnapshotEntry } from './snapshot-table.ts';
import {
  applySnapshot,
  type CreateSnapshotOptions,
  createSnapshot,
  deleteSnapshot,
  findSnapshot,
  type SnapshotContext,
} from './snapshots.ts';
import { type StoredBitmapInfo, StoredBitmaps } from './stored-bitmaps.ts';
import { makeWriteSide, type WriteSide } from './write-side.ts';

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
  /**
   * The file cannot be written to yet, and will be before the first write: opening writes nothing then, the first
   * write (or `resumeBitmaps`) does what opening would have. Default false.
   */
  writableLater?: boolean;
}

/** What was read from the file, as long as the header's places hold. */
interface Opened {
  headerFile: HeaderFile;
  clusters: ClusterMap;
  reader: ImageReader;
  writeSide: WriteSide | undefined;
  stored: StoredBitmaps;
}

export class Qcow2Image implements BlockNode {
  readonly driver = 'qcow2';
  readonly readOnly: boolean;
  readonly requestAlignmentBytes: number;
  readonly clusterSizeBytes: number;
  readonly children: readonly Child[];
  readonly #file: BlockNode;
  readonly #options: Qcow2Options;
  readonly #bitmaps: ImageBitmaps;
  #opened: Opened;

  private constructor(file: BlockNode, options: Qcow2Options, opened: Opened, bitmaps: ImageBitmaps) {
    const { backing } = options;
    this.#file = file;
    this.#options = options;
    this.#opened = opened;
    this.#bitmaps = bitmaps;
    this.clusterSizeBytes = this.header.clusterBytes;
    this.readOnly = opened.writeSide === undefined;
    this.requestAlignmentBytes = Math.max(file.requestAlignmentBytes, backing?.requestAlignmentBytes ?? 1);
    this.children = [
      { role: 'file', node: file },
      ...(backing ? [{ role: 'backing' as const, node: backing }] : []),
    ];
  }

  /**
   * Reads header and tables. Rejects with `invalid-format`, `corrupt`, `io`, `unsupported` (features that
   * are not done here, by name) or `invalid-argument` (the backing image is missing). The children stay
   * the caller's where it rejects. An image that was not closed is repaired first, where its header says that
   * its refcounts may be wrong.
   */
  static async open(file: BlockNode, options: Qcow2Options = {}): Promise<Qcow2Image> {
    let header = await readQcow2Header(file);
    const readOnly = options.readOnly ?? file.readOnly;
    assertOpenable(file, header, options, readOnly);
    if (!readOnly) header = await repairIfDirty(file, header, { mayWrite: !options.writableLater });
    const opened = await load(file, header, options, readOnly);
    const bitmaps = await ImageBitmaps.open(opened.stored);
    const image = new Qcow2Image(file, options, opened, bitmaps);
    if (!readOnly && !options.writableLater) await bitmaps.resume();
    return image;
  }

  get header(): Qcow2Header {
    return this.#opened.headerFile.header;
  }

  get sizeBytes(): number {
    return this.header.sizeBytes;
  }

  /**
   * To be called with nothing in flight. What a smaller disk loses is gone for good; new bytes read as zeroes,
   * also over a backing image. Rejects with `invalid-argument`, `unsupported` or `io`.
   */
  async resize(sizeBytes: number): Promise<void> {
    assertQcow2Size(this.header, sizeBytes);
    const old = this.sizeBytes;
    const { refcounts, metadata, settle, writer } = this.#writable();
    if (sizeBytes < old) await writer.writeZeroes(sizeBytes, old - sizeBytes, 'unmap');
    await settle();
    const { headerFile, clusters } = this.#opened;
    const parts = { file: this.#file, headerFile, l1: clusters.l1, refcounts };
    await rewriteSize({ ...parts, writeBack: () => metadata.writeBack() }, sizeBytes);
    await this.#reload();
    this.#bitmaps.truncate(sizeBytes);
    await this.#zeroLeftovers(old);
    const shownFrom = Math.min(sizeBytes, this.#options.backing?.sizeBytes ?? 0);
    if (shownFrom > old) await this.#writable().writer.writeZeroes(old, shownFrom - old, 'unmap');
  }

  /** Old machine state lies behind the end of the disk: no part of a disk that grows over it. */
  async #zeroLeftovers(old: number): Promise<void> {
    const { clusters } = this.#opened;
    const first = Math.ceil(old / clusters.spanBytes) * clusters.spanBytes;
    for (let start = first; start < this.sizeBytes; start += clusters.spanBytes) {
      if (!clusters.hasTable(start)) continue;
      const length = Math.min(clusters.spanBytes, this.sizeBytes - start);
      await this.#writable().writer.writeZeroes(start, length, 'unmap');
    }
  }

  /** Names another backing image in the header, or none; the one that is read from stays. Rejects with `io`. */
  async setBackingName(backing: { path: string; format: string | undefined } | undefined): Promise<void> {
    this.#writable();
    await this.#opened.headerFile.rewrite({ backing: backing ?? null });
  }

  /** The internal snapshots, in the order in which they were made. Rejects with `invalid-format` or `io`. */
  async snapshots(): Promise<SnapshotEntry[]> {
    return (await readSnapshotTable(this.#file, this.header)).entries;
  }

  /** With nothing in flight, as the two below; all reject as the functions of their names do. */
  createSnapshot(options: CreateSnapshotOptions): Promise<SnapshotEntry> {
    return this.#changeSnapshots(context => createSnapshot(context, options));
  }

  applySnapshot(idOrName: string): Promise<void> {
    return this.#changeSnapshots(async context => {
      if (!this.#bitmaps.isEmpty) {
        const hint = 'Remove the bitmaps first: they would not show what changes.';
        throw new EngineError('conflict', 'Device has active dirty bitmaps', { op: 'snapshot', hint });
      }
      await applySnapshot(context, findSnapshot(await this.snapshots(), idOrName));
    });
  }

  deleteSnapshot(idOrName: string): Promise<void> {
    return this.#changeSnapshots(async context => {
      await deleteSnapshot(context, findSnapshot(await this.snapshots(), idOrName));
    });
  }

  async #changeSnapshots<T>(change: (context: SnapshotContext) => Promise<T>): Promise<T> {
    const { refcounts, metadata, settle } = this.#writable();
    const { headerFile } = this.#opened;
    await settle();
    const context = { file: this.#file, headerFile, refcounts, writeBack: () => metadata.writeBack() };
    try {
      return await change(context);
    } finally {
      await settle();
      await this.#reload();
    }
  }

  /** Reads everything anew; with all metadata written and nothing in flight. */
  async #reload(): Promise<void> {
    this.#opened = await load(this.#file, await readQcow2Header(this.#file), this.#options, this.readOnly);
    this.#bitmaps.replaceStored(this.#opened.stored);
  }

  refusesBitmap(bitmap: WantedBitmap): string | undefined {
    return bitmapRefusal(this.header, bitmap);
  }

  /** The bitmaps as the file has them now. */
  get storedBitmaps(): StoredBitmapInfo[] {
    return this.#bitmaps.stored.list;
  }

  takeBitmaps(): readonly DirtyBitmap[] {
    return this.#bitmaps.take();
  }

  storeBitmaps(bitmaps: readonly DirtyBitmap[]): Promise<void> {
    return this.#bitmaps.store(bitmaps);
  }

  resumeBitmaps(): Promise<void> {
    return this.#bitmaps.resume();
  }

  read(offset: number, buffer: Buffer): Pending {
    return this.#opened.reader.read(offset, buffer);
  }

  write(offset: number, buffer: Buffer): Pending {
    const { writer, writeHost } = this.#writable();
    const recorded = this.#bitmaps.record(offset, buffer.length);
    if (recorded !== undefined) return recorded.then(() => writer.write(offset, buffer));
    const found = this.#opened.clusters.lookup(offset, buffer.length);
    if (found?.kind === 'data' && found.copied && found.length >= buffer.length) {
      return writeHost(found.hostOffset, buffer);
    }
    return writer.write(offset, buffer);
  }

  get canCompress(): boolean {
    return !this.readOnly;
  }

  async writeCompressed(offset: number, buffer: Buffer): Promise<void> {
    const { compressed, writer } = this.#writable();
    await this.#bitmaps.record(offset, buffer.length);
    await compressed.write(offset, buffer);
    await writer.limitUnlinked();
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    const { writer } = this.#writable();
    const zero = () => writer.writeZeroes(offset, length, options.mayUnmap ? 'unmap' : 'keep');
    const recorded = this.#bitmaps.record(offset, length);
    return recorded === undefined ? zero() : recorded.then(zero);
  }

  /** Whole clusters are let go of and read as zeroes then, also over a backing image; parts are left alone. */
  discard(offset: number, length: number): Pending {
    const { writer } = this.#writable();
    const discard = () => writer.discard(offset, length);
    const recorded = this.#bitmaps.record(offset, length);
    return recorded === undefined ? discard() : recorded.then(discard);
  }

  /** Gives every cluster of the range a place in the file; those that read as zeroes still do. */
  preallocate(offset: number, length: number): Promise<void> {
    return this.#writable().writer.preallocate(offset, length);
  }

  flush(): Pending {
    return this.#opened.writeSide?.metadata.writeBack();
  }

  extents(offset: number, length: number): Promise<Extent[]> {
    return this.#opened.reader.extents(offset, length);
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
      if (!this.#options.keepChildren) {
        await this.#file.close();
        await this.#options.backing?.close();
      }
    }
  }

  /** Afterwards the file is as after `close`, and nothing is held back; the image stays open. */
  async settle(): Promise<void> {
    const { writeSide } = this.#opened;
    if (writeSide === undefined) return;
    // Data first: bitmaps that cannot be stored must not cost it.
    await writeSide.settle();
    await this.#bitmaps.settle();
    await writeSide.settle();
  }

  #writable(): WriteSide {
    const { writeSide } = this.#opened;
    if (writeSide !== undefined) return writeSide;
    throw new EngineError('invalid-argument', 'this qcow2 image is open read-only; open it for writing', {
      op: 'write',
    });
  }
}

async function load(
  file: BlockNode,
  header: Qcow2Header,
  options: Qcow2Options,
  readOnly: boolean,
): Promise<Opened> {
  const { backing } = options;
  const headerFile = new HeaderFile(file, header);
  const l1 = new MetadataTable(0, header.l1Offset, Buffer.alloc(header.l1Entries * TABLE_ENTRY_BYTES));
  await file.read(header.l1Offset, l1.bytes);
  let writeSide: WriteSide | undefined;
  const writeBack = () => writeSide?.metadata.writeBack() ?? Promise.resolve();
  const cacheBytes = options.l2CacheBytes ?? QCOW2_L2_CACHE_BYTES_MAX;
  const clusters = new ClusterMap({
    file,
    header,
    l1,
    hasBacking: backing !== undefined || header.backingPath !== undefined,
    l2Capacity: Math.max(QCOW2_CACHED_TABLES_MIN, Math.floor(cacheBytes / header.clusterBytes)),
    writeBack,
  });
  const gate = new EpochGate();
  const reader = new ImageReader({ file, backing, header, clusters, gate });
  if (!readOnly) {
    const refcounts = await Refcounts.open(file, headerFile, writeBack);
    writeSide = makeWriteSide({ file, backing, header, clusters, reader, gate, refcounts });
  }
  const stored = await StoredBitmaps.open({ file, headerFile, refcounts: writeSide?.refcounts, writeBack });
  return { headerFile, clusters, reader, writeSide, stored };
}
