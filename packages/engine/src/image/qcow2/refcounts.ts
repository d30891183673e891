// Allocation of host clusters: the refcount table and its blocks. Section "Host cluster management".
//
// Invariants: every cluster below `#hint` is in use. A cluster is counted before anything refers to it and
// counted down only after nothing durable does, so that a crash leaks clusters and never shares them.
import { EngineError } from '../../errors.ts';
import {
  QCOW2_CACHED_TABLES_MIN,
  QCOW2_FILE_GROWTH_BYTES,
  QCOW2_REFCOUNT_CACHE_BYTES_MAX,
  QCOW2_REFCOUNT_TABLE_BYTES_MAX,
} from '../../limits.ts';
import type { BlockNode } from '../../node/block-node.ts';
import { alignUp } from '../../units.ts';
import { HEADER, REFCOUNT_TABLE_RESERVED_MASK, TABLE_ENTRY_BYTES } from './format.ts';
import type { Qcow2Header } from './header.ts';
import { MetadataTable } from './metadata-table.ts';
import { SerialQueue } from './serial-queue.ts';
import { TableCache } from './table-cache.ts';

/** Contiguous host clusters. */
export interface HostRun {
  /** Bytes from the start of the file, cluster-aligned. */
  offset: number;
  /** Clusters. */
  count: number;
}

export interface AllocatedRun extends HostRun {
  /** Nothing was ever written there: it reads as zeroes. */
  fresh: boolean;
}

/** Only 16-bit counts are written. */
const COUNT_BYTES = 2;

export class Refcounts {
  readonly blocks: TableCache;
  #table: MetadataTable;
  readonly #file: BlockNode;
  readonly #clusterBytes: number;
  readonly #perBlock: number;
  readonly #writeBack: () => Promise<void>;
  readonly #queue = new SerialQueue();
  /** Index of the first cluster that may be free. */
  #hint = 0;
  /** Bytes; from here on the file was never written to. */
  #freshFrom: number;
  readonly #openedBytes: number;

  private constructor(
    file: BlockNode,
    header: Qcow2Header,
    table: MetadataTable,
    writeBack: () => Promise<void>,
  ) {
    this.#file = file;
    this.#clusterBytes = header.clusterBytes;
    this.#perBlock = header.clusterBytes / COUNT_BYTES;
    this.#table = table;
    this.#writeBack = writeBack;
    this.#openedBytes = file.sizeBytes;
    this.#freshFrom = alignUp(file.sizeBytes, header.clusterBytes);
    this.blocks = new TableCache({
      file,
      tableBytes: header.clusterBytes,
      capacity: Math.max(QCOW2_CACHED_TABLES_MIN, QCOW2_REFCOUNT_CACHE_BYTES_MAX / header.clusterBytes),
      writeBack,
    });
  }

  static async open(
    file: BlockNode,
    header: Qcow2Header,
    writeBack: () => Promise<void>,
  ): Promise<Refcounts> {
    const bytes = Buffer.alloc(header.refcountTableClusters * header.clusterBytes);
    await file.read(header.refcountTableOffset, bytes);
    return new Refcounts(file, header, new MetadataTable(0, header.refcountTableOffset, bytes), writeBack);
  }

  /** The refcount table; another one after it had to grow. */
  get table(): MetadataTable {
    return this.#table;
  }

  /**
   * Takes up to `count` contiguous free clusters, at least one; their count is 1 and the file reaches
   * over them. Rejects with `io` (`ENOSPC` where the file cannot grow) and has taken nothing then.
   */
  allocate(count: number): Promise<AllocatedRun> {
    return this.#queue.run(() => this.#allocate(count));
  }

  /**
   * Counts the clusters down. What reaches 0 is given back to the file's filesystem and is free.
   * The caller vouches that nothing durable refers to them.
   */
  free(run: HostRun): Promise<void> {
    return this.#queue.run(() => this.#free(run));
  }

  /** Counts one used cluster up: one more compressed cluster lies in it. */
  share(offset: number): Promise<void> {
    return this.#queue.run(() => this.#setCounts({ offset, count: 1 }, old => old + 1));
  }

  /** Cuts off what the file was grown by in advance. Nothing may be in flight. */
  async trim(): Promise<void> {
    const end = Math.max(this.#freshFrom, this.#openedBytes);
    if (this.#file.sizeBytes > end) await this.#file.resize?.(end);
  }

  async #allocate(count: number): Promise<AllocatedRun> {
    for (let index = this.#hint; ; ) {
      const blockIndex = Math.floor(index / this.#perBlock);
      const block = await this.#blockFor(blockIndex);
      const first = nextZero(block.bytes, index % this.#perBlock);
      if (first === this.#perBlock) {
        index = (blockIndex + 1) * this.#perBlock;
        this.#hint = index;
        continue;
      }
      let end = first + 1;
      const limit = Math.min(this.#perBlock, first + count);
      while (end < limit && block.bytes.readUInt16BE(end * COUNT_BYTES) === 0) end++;
      const run = { offset: (blockIndex * this.#perBlock + first) * this.#clusterBytes, count: end - first };
      await this.#reach(run.offset + run.count * this.#clusterBytes);
      const fresh = run.offset >= this.#freshFrom;
      await this.#setCounts(run, () => 1);
      this.#hint = blockIndex * this.#perBlock + end;
      return { ...run, fresh };
    }
  }

  async #free(run: HostRun): Promise<void> {
    if (run.offset + run.count * this.#clusterBytes > alignUp(this.#file.sizeBytes, this.#clusterBytes)) {
      throw new EngineError(
        'corrupt',
        `${run.count} clusters at ${run.offset} are freed but not in the file`,
        {
          op: 'free',
          offset: run.offset,
        },
      );
    }
    for (let done = 0; done < run.count; ) {
      const index = run.offset / this.#clusterBytes + done;
      const block = await this.#blockFor(Math.floor(index / this.#perBlock));
      const inBlock = index % this.#perBlock;
      const value = block.bytes.readUInt16BE(inBlock * COUNT_BYTES);
      if (value === 0) {
        throw new EngineError(
          'corrupt',
          `the cluster at ${index * this.#clusterBytes} is freed but has refcount 0`,
          {
            op: 'free',
            offset: index * this.#clusterBytes,
          },
        );
      }
      let count = 1;
      const limit = Math.min(this.#perBlock - inBlock, run.count - done);
      while (count < limit && block.bytes.readUInt16BE((inBlock + count) * COUNT_BYTES) === value) count++;
      const part = { offset: index * this.#clusterBytes, count };
      // Given back before it can be taken again; that it may fail is the nature of a hint.
      if (value === 1) {
        await Promise.resolve(this.#file.discard(part.offset, count * this.#clusterBytes)).catch(
          () => undefined,
        );
      }
      await this.#setCounts(part, old => old - 1);
      if (value === 1) this.#hint = Math.min(this.#hint, index);
      done += count;
    }
  }

  /** All of the run lies in one block. */
  async #setCounts(run: HostRun, change: (old: number) => number): Promise<void> {
    const index = run.offset / this.#clusterBytes;
    const block = await this.#blockFor(Math.floor(index / this.#perBlock));
    const from = (index % this.#perBlock) * COUNT_BYTES;
    const to = from + run.count * COUNT_BYTES;
    for (let position = from; position < to; position += COUNT_BYTES) {
      block.bytes.writeUInt16BE(change(block.bytes.readUInt16BE(position)), position);
    }
    block.markDirty(from, to);
    this.#freshFrom = Math.max(this.#freshFrom, run.offset + run.count * this.#clusterBytes);
  }

  /** The block, loaded or made. Between its return and the next await it does not leave the cache. */
  async #blockFor(blockIndex: number): Promise<MetadataTable> {
    for (;;) {
      const block = this.blocks.peek(blockIndex);
      if (block !== undefined) return block;
      if (blockIndex >= this.#table.bytes.length / TABLE_ENTRY_BYTES) await this.#growTable(blockIndex);
      const entry = this.#table.bytes.readBigUInt64BE(blockIndex * TABLE_ENTRY_BYTES);
      if (entry === 0n) await this.#makeBlock(blockIndex);
      else await this.blocks.load(blockIndex, this.#blockOffset(blockIndex, entry));
    }
  }

  #blockOffset(blockIndex: number, entry: bigint): number {
    const offset = Number(entry);
    const valid = (entry & REFCOUNT_TABLE_RESERVED_MASK) === 0n && offset % this.#clusterBytes === 0;
    if (valid && offset + this.#clusterBytes <= alignUp(this.#file.sizeBytes, this.#clusterBytes))
      return offset;
    throw new EngineError(
      'corrupt',
      `refcount table entry ${blockIndex} points to ${entry}, which is no cluster of the file`,
      { op: 'allocate', offset: this.#table.offset + blockIndex * TABLE_ENTRY_BYTES },
    );
  }

  /** A block that is missing covers free clusters only: it takes the first of them for itself. */
  async #makeBlock(blockIndex: number): Promise<void> {
    const offset = blockIndex * this.#perBlock * this.#clusterBytes;
    await this.#reach(offset + this.#clusterBytes);
    await this.blocks.insert(blockIndex, offset);
    const block = this.blocks.peek(blockIndex);
    if (block === undefined) return;
    block.bytes.writeUInt16BE(1, 0);
    const position = blockIndex * TABLE_ENTRY_BYTES;
    this.#table.bytes.writeBigUInt64BE(BigInt(offset), position);
    this.#table.markDirty(position, position + TABLE_ENTRY_BYTES);
    this.#freshFrom = Math.max(this.#freshFrom, offset + this.#clusterBytes);
  }

  /**
   * Moves the table to a place that it does not cover yet, twice as large: the table first, then the
   * blocks that count it and themselves. The header changes last, when all of that is durable.
   */
  async #growTable(blockIndex: number): Promise<void> {
    await this.#writeBack();
    const old = this.#table;
    const oldEntries = old.bytes.length / TABLE_ENTRY_BYTES;
    const bytes = alignUp(
      Math.max(old.bytes.length * 2, (blockIndex + 2) * TABLE_ENTRY_BYTES),
      this.#clusterBytes,
    );
    if (bytes > QCOW2_REFCOUNT_TABLE_BYTES_MAX) {
      throw new EngineError(
        'unsupported',
        `the image file is too large for clusters of ${this.#clusterBytes} bytes`,
        {
          op: 'allocate',
          offset: old.offset,
        },
      );
    }
    const tableClusters = bytes / this.#clusterBytes;
    let blockCount = 1;
    while (blockCount * this.#perBlock < tableClusters + blockCount) blockCount++;
    const start = oldEntries * this.#perBlock * this.#clusterBytes;
    const blocksStart = start + bytes;
    await this.#reach(blocksStart + blockCount * this.#clusterBytes);
    const table = new MetadataTable(0, start, Buffer.alloc(bytes));
    old.bytes.copy(table.bytes);
    const counts = Buffer.alloc(blockCount * this.#clusterBytes);
    for (let index = 0; index < tableClusters + blockCount; index++)
      counts.writeUInt16BE(1, index * COUNT_BYTES);
    for (let index = 0; index < blockCount; index++) {
      const place = BigInt(blocksStart + index * this.#clusterBytes);
      table.bytes.writeBigUInt64BE(place, (oldEntries + index) * TABLE_ENTRY_BYTES);
    }
    await this.#file.write(blocksStart, counts);
    await this.#file.write(start, table.bytes);
    await this.#file.flush();
    await this.#pointHeaderAt(start, tableClusters);
    this.#table = table;
    this.#freshFrom = Math.max(this.#freshFrom, blocksStart + counts.length);
    await this.#free({ offset: old.offset, count: old.bytes.length / this.#clusterBytes });
  }

  /** Both fields lie in the header's first sector and are replaced by one write. */
  async #pointHeaderAt(offset: number, clusters: number): Promise<void> {
    const sector = Buffer.alloc(512);
    await this.#file.read(0, sector);
    sector.writeBigUInt64BE(BigInt(offset), HEADER.refcountTableOffset);
    sector.writeUInt32BE(clusters, HEADER.refcountTableClusters);
    await this.#file.write(0, sector);
    await this.#file.flush();
  }

  /** Lets the file reach that far, in steps. */
  async #reach(end: number): Promise<void> {
    if (end <= this.#file.sizeBytes) return;
    if (this.#file.resize === undefined) {
      throw new EngineError('io', `the ${this.#file.driver} node under the image is full and cannot grow`, {
        op: 'allocate',
        offset: end,
        errno: 'ENOSPC',
      });
    }
    await this.#file.resize(alignUp(end, QCOW2_FILE_GROWTH_BYTES));
  }
}

/** Index of the first count of 0 at or after `from`, or the number of counts. */
function nextZero(block: Buffer, from: number): number {
  const end = block.length / COUNT_BYTES;
  let index = from;
  while (index < end && block.readUInt16BE(index * COUNT_BYTES) !== 0) index++;
  return index;
}
