// Allocation of host clusters: the refcount table and its blocks. Section "Host cluster management".
//
// Invariants: every cluster below `#hint` is in use. A cluster is counted before anything refers to it and
// counted down only after nothing durable does, so that a crash leaks clusters and never shares them.
import { EngineError } from '../../errors.ts';
import {
  QCOW2_CACHED_TABLES_MIN,
  QCOW2_FILE_GAP_BYTES_MAX,
  QCOW2_FILE_GROWTH_BYTES,
  QCOW2_REFCOUNT_CACHE_BYTES_MAX,
} from '../../limits.ts';
import type { BlockNode } from '../../node/block-node.ts';
import { alignUp } from '../../units.ts';
import { REFCOUNT_TABLE_RESERVED_MASK, TABLE_ENTRY_BYTES } from './format.ts';
import type { HeaderFile } from './header-file.ts';
import { MetadataTable } from './metadata-table.ts';
import { writeLargerTable } from './refcount-growth.ts';
import { RefcountWidth } from './refcount-width.ts';
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

export class Refcounts {
  readonly blocks: TableCache;
  #table: MetadataTable;
  readonly #file: BlockNode;
  readonly #headerFile: HeaderFile;
  readonly #clusterBytes: number;
  readonly #width: RefcountWidth;
  readonly #perBlock: number;
  readonly #writeBack: () => Promise<void>;
  readonly #queue = new SerialQueue();
  /** Index of the first cluster that may be free. */
  #hint = 0;
  /** Bytes; from here on the file was never written to. */
  #freshFrom: number;
  readonly #openedBytes: number;
  /** Bytes of all clusters that were ever allocated here. */
  #takenBytes = 0;

  private constructor(
    file: BlockNode,
    headerFile: HeaderFile,
    table: MetadataTable,
    writeBack: () => Promise<void>,
  ) {
    const { clusterBytes, refcountOrder } = headerFile.header;
    this.#file = file;
    this.#headerFile = headerFile;
    this.#clusterBytes = clusterBytes;
    this.#width = new RefcountWidth(refcountOrder);
    this.#perBlock = this.#width.perBlock(clusterBytes);
    this.#table = table;
    this.#writeBack = writeBack;
    this.#openedBytes = file.sizeBytes;
    this.#freshFrom = alignUp(file.sizeBytes, clusterBytes);
    this.blocks = new TableCache({
      file,
      tableBytes: clusterBytes,
      capacity: Math.max(QCOW2_CACHED_TABLES_MIN, QCOW2_REFCOUNT_CACHE_BYTES_MAX / clusterBytes),
      writeBack,
    });
  }

  static async open(
    file: BlockNode,
    headerFile: HeaderFile,
    writeBack: () => Promise<void>,
  ): Promise<Refcounts> {
    const { refcountTableOffset, refcountTableClusters, clusterBytes } = headerFile.header;
    const bytes = Buffer.alloc(refcountTableClusters * clusterBytes);
    await file.read(refcountTableOffset, bytes);
    return new Refcounts(file, headerFile, new MetadataTable(0, refcountTableOffset, bytes), writeBack);
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

  /** Takes `count` clusters in one run. Rejects with `io`; nothing is taken then. */
  async allocateContiguous(count: number): Promise<HostRun> {
    // A block that is made takes the first of its clusters for itself.
    if (count >= this.#perBlock) return this.#queue.run(() => this.#allocateAcrossBlocks(count));
    const tooShort: HostRun[] = [];
    try {
      for (;;) {
        const run = await this.allocate(count);
        if (run.count === count) return run;
        tooShort.push(run);
      }
    } finally {
      for (const run of tooShort) await this.free(run);
    }
  }

  /** Counts used clusters up. Rejects with `unsupported` where a count has no room, and nothing is counted. */
  share(run: HostRun): Promise<void> {
    return this.#queue.run(() => this.#share(run));
  }

  /** How often each of the clusters is used. */
  countsOf(offsets: readonly number[]): Promise<number[]> {
    return this.#queue.run(async () => {
      const counts: number[] = [];
      for (const offset of offsets) {
        const index = Math.floor(offset / this.#clusterBytes);
        const blockIndex = Math.floor(index / this.#perBlock);
        const block = this.blocks.peek(blockIndex) ?? (await this.#existingBlock(blockIndex));
        counts.push(block === undefined ? 0 : this.#width.get(block.bytes, index % this.#perBlock));
      }
      return counts;
    });
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
      const first = this.#width.nextZero(block.bytes, index % this.#perBlock, this.#perBlock);
      if (first === this.#perBlock) {
        index = (blockIndex + 1) * this.#perBlock;
        this.#hint = index;
        continue;
      }
      let end = first + 1;
      const limit = Math.min(this.#perBlock, first + count);
      while (end < limit && this.#width.get(block.bytes, end) === 0) end++;
      const run = { offset: (blockIndex * this.#perBlock + first) * this.#clusterBytes, count: end - first };
      this.#assertFree(run);
      this.#takenBytes += run.count * this.#clusterBytes;
      await this.#reach(run.offset + run.count * this.#clusterBytes);
      const fresh = run.offset >= this.#freshFrom;
      await this.#setCounts(run, () => 1);
      this.#hint = blockIndex * this.#perBlock + end;
      return { ...run, fresh };
    }
  }

  /** Behind all that any block covers: first the blocks that cover the run and themselves, then the run. */
  async #allocateAcrossBlocks(count: number): Promise<HostRun> {
    let firstBlock = this.#table.bytes.length / TABLE_ENTRY_BYTES;
    while (firstBlock > 0 && this.#table.bytes.readBigUInt64BE((firstBlock - 1) * TABLE_ENTRY_BYTES) === 0n)
      firstBlock--;
    let blockCount = 1;
    while (blockCount * this.#perBlock < count + blockCount) blockCount++;
    const lastBlock = firstBlock + blockCount - 1;
    if (lastBlock >= this.#table.bytes.length / TABLE_ENTRY_BYTES) {
      // The larger table takes what comes next for itself and its blocks.
      await this.#growTable(lastBlock);
      return this.#allocateAcrossBlocks(count);
    }
    const start = firstBlock * this.#perBlock * this.#clusterBytes;
    const run = { offset: start + blockCount * this.#clusterBytes, count };
    this.#takenBytes += (blockCount + count) * this.#clusterBytes;
    await this.#reach(run.offset + count * this.#clusterBytes);
    for (let index = 0; index < blockCount; index++) {
      await this.#insertBlock(firstBlock + index, start + index * this.#clusterBytes);
      const clusters = Math.min(this.#perBlock, blockCount + count - index * this.#perBlock);
      const offset = start + index * this.#perBlock * this.#clusterBytes;
      await this.#setCounts({ offset, count: clusters }, () => 1);
    }
    return run;
  }

  async #share(run: HostRun): Promise<void> {
    this.#assertInFile(run, 'share');
    const counted: HostRun[] = [];
    for (let done = 0; done < run.count; ) {
      const index = run.offset / this.#clusterBytes + done;
      const block = await this.#existingBlock(Math.floor(index / this.#perBlock));
      const first = index % this.#perBlock;
      const count = Math.min(this.#perBlock - first, run.count - done);
      for (let at = first; at < first + count; at++) {
        const value = block === undefined ? 0 : this.#width.get(block.bytes, at);
        if (value > 0 && value < this.#width.max) continue;
        for (const part of counted) await this.#setCounts(part, old => old - 1);
        throw this.#cannotShare((index + at - first) * this.#clusterBytes, value);
      }
      const part = { offset: index * this.#clusterBytes, count };
      await this.#setCounts(part, old => old + 1);
      counted.push(part);
      done += count;
    }
  }

  #cannotShare(offset: number, value: number): EngineError {
    const context = { op: 'share', offset };
    if (value === 0)
      return new EngineError('corrupt', `the cluster at ${offset} is used but has refcount 0`, context);
    const text = `the cluster at ${offset} is used ${value} times, all that its refcount can count`;
    return new EngineError('unsupported', text, context);
  }

  #assertInFile(run: HostRun, op: string): void {
    const end = run.offset + run.count * this.#clusterBytes;
    if (run.offset % this.#clusterBytes === 0 && end <= alignUp(this.#file.sizeBytes, this.#clusterBytes))
      return;
    const text = `${run.count} clusters at ${run.offset} are to be counted but are not in the file`;
    throw new EngineError('corrupt', text, { op, offset: run.offset });
  }

  /** What is in use in any image, whatever its counts say. */
  #assertFree(run: HostRun): void {
    const { header } = this.#headerFile;
    const end = run.offset + run.count * this.#clusterBytes;
    const used = [
      { what: 'the header', offset: 0, bytes: this.#clusterBytes },
      { what: 'the L1 table', offset: header.l1Offset, bytes: header.l1Entries * TABLE_ENTRY_BYTES },
      { what: 'the refcount table', offset: this.#table.offset, bytes: this.#table.bytes.length },
    ].find(({ offset, bytes }) => offset < end && offset + bytes > run.offset);
    if (used === undefined) return;
    const text = `${used.what} at ${used.offset} has refcount 0; repair the image`;
    throw new EngineError('corrupt', text, { op: 'allocate', offset: used.offset });
  }

  async #free(run: HostRun): Promise<void> {
    this.#assertInFile(run, 'free');
    for (let done = 0; done < run.count; ) {
      const index = run.offset / this.#clusterBytes + done;
      const block = await this.#blockFor(Math.floor(index / this.#perBlock));
      const inBlock = index % this.#perBlock;
      const value = this.#width.get(block.bytes, inBlock);
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
      while (count < limit && this.#width.get(block.bytes, inBlock + count) === value) count++;
      const part = { offset: index * this.#clusterBytes, count };
      // Given back before it can be taken again; that it may fail is the nature of a hint.
      if (value === 1) await this.#discard(part);
      await this.#setCounts(part, old => old - 1);
      if (value === 1) this.#hint = Math.min(this.#hint, index);
      done += count;
    }
  }

  async #discard({ offset, count }: HostRun): Promise<void> {
    // The last cluster of a file may be cut short.
    const length = Math.min(count * this.#clusterBytes, this.#file.sizeBytes - offset);
    try {
      if (length > 0) await this.#file.discard(offset, length);
    } catch {
      // Space that is not given back is space that is used again.
    }
  }

  /** All of the run lies in one block. */
  async #setCounts(run: HostRun, change: (old: number) => number): Promise<void> {
    const index = run.offset / this.#clusterBytes;
    const block = await this.#blockFor(Math.floor(index / this.#perBlock));
    const first = index % this.#perBlock;
    for (let at = first; at < first + run.count; at++) {
      this.#width.set(block.bytes, at, change(this.#width.get(block.bytes, at)));
    }
    const { from, to } = this.#width.bytes(first, first + run.count);
    block.markDirty(from, to);
    this.#freshFrom = Math.max(this.#freshFrom, run.offset + run.count * this.#clusterBytes);
  }

  /** As `#blockFor`; undefined where no cluster of the block was ever used. */
  async #existingBlock(blockIndex: number): Promise<MetadataTable | undefined> {
    if (blockIndex >= this.#table.bytes.length / TABLE_ENTRY_BYTES) return undefined;
    const entry = this.#table.bytes.readBigUInt64BE(blockIndex * TABLE_ENTRY_BYTES);
    return entry === 0n ? undefined : this.#blockFor(blockIndex);
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
    await this.#insertBlock(blockIndex, offset);
    const block = this.blocks.peek(blockIndex);
    if (block !== undefined) this.#width.set(block.bytes, 0, 1);
  }

  async #insertBlock(blockIndex: number, offset: number): Promise<void> {
    await this.blocks.insert(blockIndex, offset);
    const position = blockIndex * TABLE_ENTRY_BYTES;
    this.#table.bytes.writeBigUInt64BE(BigInt(offset), position);
    this.#table.markDirty(position, position + TABLE_ENTRY_BYTES);
    this.#freshFrom = Math.max(this.#freshFrom, offset + this.#clusterBytes);
  }

  /** Moves the table to a larger place. The header changes last, when all else is durable. */
  async #growTable(blockIndex: number): Promise<void> {
    await this.#writeBack();
    const old = this.#table;
    const { table, end } = await writeLargerTable({
      file: this.#file,
      clusterBytes: this.#clusterBytes,
      width: this.#width,
      old,
      blockIndex,
      reach: offset => this.#reach(offset),
    });
    await this.#file.flush();
    const refcountTableClusters = table.bytes.length / this.#clusterBytes;
    await this.#headerFile.patch({ refcountTableOffset: table.offset, refcountTableClusters });
    this.#table = table;
    this.#freshFrom = Math.max(this.#freshFrom, end);
    await this.#free({ offset: old.offset, count: old.bytes.length / this.#clusterBytes });
  }

  /** Lets the file reach that far, in steps. */
  async #reach(end: number): Promise<void> {
    if (end <= this.#file.sizeBytes) return;
    if (end > this.#openedBytes + this.#takenBytes + QCOW2_FILE_GAP_BYTES_MAX) {
      const text = `all clusters up to ${end} have a refcount, in a file of ${this.#file.sizeBytes} bytes`;
      throw new EngineError('corrupt', `${text}; repair the image`, { op: 'allocate', offset: end });
    }
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
