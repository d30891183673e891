// The mapping of guest clusters to host clusters: the L1 table and its L2 tables. Section "Cluster mapping".
// It answers where bytes are and records where they went; it moves no guest data itself.
import { EngineError } from '../../errors.ts';
import type { BlockNode } from '../../node/block-node.ts';
import { alignUp } from '../../units.ts';
import { TABLE_ENTRY_BYTES } from './format.ts';
import type { Qcow2Header } from './header.ts';
import {
  type ClusterKind,
  clearCopied,
  compressedPlace,
  hasReservedBits,
  hostOffsetOfEntry,
  isCopied,
  kindOfEntry,
  writeCompressedEntry,
  writeOwnedEntry,
  writePlainZeroEntry,
  writeUnallocatedEntry,
} from './l2-entry.ts';
import type { MetadataTable } from './metadata-table.ts';
import type { HostRun, Refcounts } from './refcounts.ts';
import { TableCache } from './table-cache.ts';

/** A run of guest bytes of one kind, contiguous in the file where it is there at all. */
export interface Mapping {
  kind: ClusterKind;
  /** Bytes. */
  length: number;
  /** Bytes from the start of the file, of the first byte asked for; kinds data and zero-allocated. */
  hostOffset: number;
  /** May be written in place. */
  copied: boolean;
  /** For kind compressed: the raw entry. */
  entryHigh: number;
  entryLow: number;
}

/**
 * Whole clusters that shall read as zeroes: keep their space where they have it, unmap, or discard, which does
 * not say anything where unallocated clusters read as zeroes anyway.
 */
export type EraseMode = 'keep' | 'unmap' | 'discard';

export interface ClusterMapOptions {
  file: BlockNode;
  header: Qcow2Header;
  l1: MetadataTable;
  /** Whether clusters that are let go would show a backing image's content. */
  hasBacking: boolean;
  l2Capacity: number;
  writeBack: () => Promise<void>;
}

export class ClusterMap {
  readonly l1: MetadataTable;
  readonly l2: TableCache;
  /** Host clusters that no entry refers to any more, as soon as the entries are durable. */
  readonly unlinked: HostRun[] = [];
  unlinkedBytes = 0;
  /** Counts upwards whenever a compressed cluster is unlinked: the space of others may become free. */
  compressedUnlinks = 0;
  readonly #options: ClusterMapOptions;
  readonly #clusterBytes: number;
  readonly #sizeBytes: number;
  /** Guest bytes that one L2 table maps. */
  readonly spanBytes: number;
  /** The answer of `lookup`, reused: a look-up allocates nothing. */
  readonly #found: Mapping = {
    kind: 'unallocated',
    length: 0,
    hostOffset: 0,
    copied: false,
    entryHigh: 0,
    entryLow: 0,
  };
  readonly #creating = new Map<number, Promise<void>>();

  constructor(options: ClusterMapOptions) {
    this.#options = options;
    this.l1 = options.l1;
    this.#clusterBytes = options.header.clusterBytes;
    this.#sizeBytes = options.header.sizeBytes;
    this.spanBytes = this.#clusterBytes * (this.#clusterBytes / TABLE_ENTRY_BYTES);
    this.l2 = new TableCache({
      file: options.file,
      tableBytes: this.#clusterBytes,
      capacity: options.l2Capacity,
      writeBack: options.writeBack,
    });
  }

  /**
   * What the bytes from `offset` on are, at most `length` of them and within one L2 table (or the tables
   * that are missing). Undefined where the L2 table has to be loaded first. The answer is valid until
   * the next call. Throws `corrupt` where an entry cannot be right.
   */
  lookup(offset: number, length: number): Mapping | undefined {
    const l1Index = Math.floor(offset / this.spanBytes);
    const table = this.l2.peek(l1Index);
    if (table !== undefined) return this.#lookupIn(table, offset, length);
    if (this.#l2Offset(l1Index) !== 0) return undefined;
    const end = Math.min(offset + length, this.#sizeBytes);
    let next = l1Index + 1;
    while (next * this.spanBytes < end && this.#l2Offset(next) === 0) next++;
    const found = this.#found;
    found.kind = 'unallocated';
    found.length = Math.min(end, next * this.spanBytes) - offset;
    return found;
  }

  hasTable(offset: number): boolean {
    return this.#l2Offset(Math.floor(offset / this.spanBytes)) !== 0;
  }

  /** Brings the L2 table for the offset here; `lookup` again right afterwards. */
  load(offset: number): Promise<void> {
    const l1Index = Math.floor(offset / this.spanBytes);
    return this.l2.load(l1Index, this.#l2Offset(l1Index));
  }

  /**
   * Makes sure that the offset has an L2 table of its own, taking a cluster for it: where there is none, and
   * where a snapshot has it too, whose copy it becomes.
   */
  async ensureTable(offset: number, refcounts: Refcounts): Promise<void> {
    const l1Index = Math.floor(offset / this.spanBytes);
    const shared = this.#l2Offset(l1Index) !== 0;
    if (shared && isCopied(this.l1.bytes.readUInt32BE(l1Index * TABLE_ENTRY_BYTES))) return;
    const running = this.#creating.get(l1Index);
    if (running !== undefined) return running;
    const making = shared ? this.#copyTable(l1Index, refcounts) : this.#createTable(l1Index, refcounts);
    const creating = making.finally(() => this.#creating.delete(l1Index));
    this.#creating.set(l1Index, creating);
    return creating;
  }

  async #createTable(l1Index: number, refcounts: Refcounts): Promise<void> {
    const run = await refcounts.allocate(1);
    try {
      await this.l2.insert(l1Index, run.offset);
    } catch (error) {
      // A leaked cluster is the lesser harm where even that fails.
      await refcounts.free({ offset: run.offset, count: 1 }).catch(() => undefined);
      throw error;
    }
    const position = l1Index * TABLE_ENTRY_BYTES;
    writeOwnedEntry(this.l1.bytes, position, run.offset);
    this.l1.markDirty(position, position + TABLE_ENTRY_BYTES);
  }

  async #copyTable(l1Index: number, refcounts: Refcounts): Promise<void> {
    const run = await refcounts.allocate(1);
    await this.#withTable(l1Index * this.spanBytes, shared => {
      const bytes = Buffer.from(shared.bytes);
      // What a snapshot has too is written in place by nobody.
      for (let position = 0; position < bytes.length; position += TABLE_ENTRY_BYTES)
        clearCopied(bytes, position);
      this.l2.replace(l1Index, run.offset, bytes);
      const position = l1Index * TABLE_ENTRY_BYTES;
      writeOwnedEntry(this.l1.bytes, position, run.offset);
      this.l1.markDirty(position, position + TABLE_ENTRY_BYTES);
      this.#noteUnlinked(shared.offset, 1);
    });
  }

  /** Lets the guest clusters from `offset` on point to the run; what they pointed to is unlinked. */
  link(offset: number, run: HostRun): Promise<void> {
    return this.#withTable(offset, table => {
      const first = (offset % this.spanBytes) / this.#clusterBytes;
      for (let index = 0; index < run.count; index++) {
        const position = (first + index) * TABLE_ENTRY_BYTES;
        const host = run.offset + index * this.#clusterBytes;
        this.#unlink(table, position, host);
        writeOwnedEntry(table.bytes, position, host);
      }
      table.markDirty(first * TABLE_ENTRY_BYTES, (first + run.count) * TABLE_ENTRY_BYTES);
    });
  }

  /** Lets the guest cluster point to its compressed bytes; what it pointed to is unlinked. */
  linkCompressed(offset: number, place: { offset: number; length: number }): Promise<void> {
    return this.#withTable(offset, table => {
      const position = ((offset % this.spanBytes) / this.#clusterBytes) * TABLE_ENTRY_BYTES;
      this.#unlink(table, position, 0);
      const { clusterBits } = this.#options.header;
      writeCompressedEntry(table.bytes, position, { ...place, clusterBits });
      table.markDirty(position, position + TABLE_ENTRY_BYTES);
    });
  }

  /** Erases whole clusters of one existing L2 table. */
  erase(start: number, end: number, mode: EraseMode): Promise<void> {
    return this.#withTable(start, table => {
      const first = (start % this.spanBytes) / this.#clusterBytes;
      const count = Math.ceil((end - start) / this.#clusterBytes);
      for (let index = first; index < first + count; index++)
        this.#eraseOne(table, index * TABLE_ENTRY_BYTES, mode);
    });
  }

  #eraseOne(table: MetadataTable, position: number, mode: EraseMode): void {
    const high = table.bytes.readUInt32BE(position);
    const low = table.bytes.readUInt32BE(position + 4);
    const kind = kindOfEntry(high, low);
    if (kind === 'zero-plain') return;
    // Zeroes are written down also where nothing is below: somebody may put a backing image there later.
    const mustSayZero = mode !== 'discard' || this.#options.hasBacking;
    if (kind === 'unallocated' && !mustSayZero) return;
    if (mode === 'keep' && kind === 'zero-allocated') return;
    if (mode === 'keep' && kind === 'data' && isCopied(high)) {
      writeOwnedEntry(table.bytes, position, hostOffsetOfEntry(high, low), true);
    } else {
      this.#unlink(table, position, 0);
      if (mustSayZero) writePlainZeroEntry(table.bytes, position);
      else writeUnallocatedEntry(table.bytes, position);
    }
    table.markDirty(position, position + TABLE_ENTRY_BYTES);
  }

  /** Notes the host clusters that the entry refers to as no longer needed, except `keep`. */
  #unlink(table: MetadataTable, position: number, keep: number): void {
    const high = table.bytes.readUInt32BE(position);
    const low = table.bytes.readUInt32BE(position + 4);
    const kind = kindOfEntry(high, low);
    if (kind === 'compressed') {
      this.compressedUnlinks++;
      const place = compressedPlace(high, low, this.#options.header.clusterBits);
      const first = Math.floor(place.offset / this.#clusterBytes);
      const last = Math.floor((place.offset + place.length - 1) / this.#clusterBytes);
      this.#noteUnlinked(first * this.#clusterBytes, last - first + 1);
    } else if (kind === 'data' || kind === 'zero-allocated') {
      const host = hostOffsetOfEntry(high, low);
      if (host !== keep) this.#noteUnlinked(host, 1);
    }
  }

  #noteUnlinked(offset: number, count: number): void {
    this.unlinkedBytes += count * this.#clusterBytes;
    const last = this.unlinked.at(-1);
    if (last !== undefined && last.offset + last.count * this.#clusterBytes === offset) last.count += count;
    else this.unlinked.push({ offset, count });
  }

  /** The runs that were unlinked so far; they are the caller's now. */
  takeUnlinked(): HostRun[] {
    this.unlinkedBytes = 0;
    return this.unlinked.splice(0);
  }

  /** Gives back what `takeUnlinked` gave, since the entries did not become durable. */
  restoreUnlinked(runs: HostRun[]): void {
    for (const run of runs) this.#noteUnlinked(run.offset, run.count);
  }

  /**
   * Calls `use` with the L2 table, which exists, in the same step in which it is seen in the cache: a step later
   * it may have left, and what is changed in it then is lost.
   */
  async #withTable(offset: number, use: (table: MetadataTable) => void): Promise<void> {
    const l1Index = Math.floor(offset / this.spanBytes);
    for (;;) {
      const table = this.l2.peek(l1Index);
      if (table !== undefined) return use(table);
      await this.load(offset);
    }
  }

  #lookupIn(table: MetadataTable, offset: number, length: number): Mapping {
    const { bytes } = table;
    const inCluster = offset % this.#clusterBytes;
    let position = (((offset - inCluster) % this.spanBytes) / this.#clusterBytes) * TABLE_ENTRY_BYTES;
    const high = bytes.readUInt32BE(position);
    const low = bytes.readUInt32BE(position + 4);
    const found = this.#found;
    found.kind = kindOfEntry(high, low);
    found.copied = isCopied(high);
    found.entryHigh = high;
    found.entryLow = low;
    found.hostOffset = 0;
    let covered = this.#clusterBytes - inCluster;
    if (found.kind !== 'compressed') {
      const host = this.#checkedHost(table, position, high, low);
      found.hostOffset = host + inCluster;
      const step = host === 0 ? 0 : this.#clusterBytes;
      let nextHost = host + step;
      for (position += TABLE_ENTRY_BYTES; covered < length && position < bytes.length; ) {
        const nextHigh = bytes.readUInt32BE(position);
        const nextLow = bytes.readUInt32BE(position + 4);
        const same = kindOfEntry(nextHigh, nextLow) === found.kind && isCopied(nextHigh) === found.copied;
        if (!same || this.#checkedHost(table, position, nextHigh, nextLow) !== nextHost) break;
        covered += this.#clusterBytes;
        nextHost += step;
        position += TABLE_ENTRY_BYTES;
      }
    }
    found.length = Math.min(covered, length);
    return found;
  }

  #checkedHost(table: MetadataTable, position: number, high: number, low: number): number {
    const host = hostOffsetOfEntry(high, low);
    // The last cluster may stick out of the file; one that begins past its end is not there.
    const valid = host % this.#clusterBytes === 0 && (host === 0 || host < this.#options.file.sizeBytes);
    const zeroInOld = this.#options.header.version === 2 && (low & 1) !== 0;
    if (valid && !zeroInOld && !hasReservedBits(high, low)) return host;
    const entry = table.bytes.readBigUInt64BE(position).toString(16);
    throw new EngineError(
      'corrupt',
      `L2 entry ${position / TABLE_ENTRY_BYTES} of the table at ${table.offset} is 0x${entry}, which is not possible`,
      { op: 'map', offset: table.offset + position },
    );
  }

  /** 0 where there is no L2 table. */
  #l2Offset(l1Index: number): number {
    const position = l1Index * TABLE_ENTRY_BYTES;
    const high = this.l1.bytes.readUInt32BE(position);
    const low = this.l1.bytes.readUInt32BE(position + 4);
    if (high === 0 && low === 0) return 0;
    const offset = hostOffsetOfEntry(high, low);
    const end = alignUp(this.#options.file.sizeBytes, this.#clusterBytes);
    if (offset % this.#clusterBytes === 0 && offset + this.#clusterBytes <= end) return offset;
    throw new EngineError(
      'corrupt',
      `L1 entry ${l1Index} points to ${offset}, which is no cluster of the file`,
      {
        op: 'map',
        offset: this.l1.offset + position,
      },
    );
  }
}
