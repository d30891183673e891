// Follows every pointer of an image and counts how often each host cluster is used: header, active and
// snapshots' L1 and L2 tables, snapshot table, refcount structures, bitmaps. It believes no refcount.
import { EngineError } from '../../../errors.ts';
import { QCOW2_CHECKED_TABLES_MAX } from '../../../limits.ts';
import type { BlockNode } from '../../../node/block-node.ts';
import { readBitmapDirectory } from '../bitmap-directory.ts';
import { BITMAP_TABLE_OFFSET_MASK, L1_OFFSET_MASK, L1_RESERVED_MASK, TABLE_ENTRY_BYTES } from '../format.ts';
import type { Qcow2Header } from '../header.ts';
import { compressedPlace, hasReservedBits, hostOffsetOfEntry, kindOfEntry } from '../l2-entry.ts';
import { readPadded } from '../read-padded.ts';
import { readSnapshotTable } from '../snapshot-table.ts';
import { ClusterCounts } from './cluster-counts.ts';
import type { Findings } from './findings.ts';

/** Guest clusters as the active L1 table maps them. */
export interface AllocationCounts {
  allocated: number;
  compressed: number;
  /** Clusters that do not lie behind the one before. */
  fragmented: number;
}

interface L1Place {
  what: string;
  offset: number;
  entries: number;
  active: boolean;
}

export class ReferenceWalk {
  readonly uses = new ClusterCounts();
  /** Those of them by refcount blocks. */
  readonly refcountBlockUses = new ClusterCounts();
  readonly allocation: AllocationCounts = { allocated: 0, compressed: 0, fragmented: 0 };
  readonly #file: BlockNode;
  readonly #header: Qcow2Header;
  readonly #findings: Findings;
  #nextContiguous = 0;
  #tables = 0;

  constructor(file: BlockNode, header: Qcow2Header, findings: Findings) {
    this.#file = file;
    this.#header = header;
    this.#findings = findings;
  }

  /** Rejects with `io`; everything that the file says wrongly is a finding. */
  async walk(): Promise<void> {
    const header = this.#header;
    this.use('the header', 0, header.clusterBytes);
    await this.#walkL1({
      what: 'L1 table',
      offset: header.l1Offset,
      entries: header.l1Entries,
      active: true,
    });
    await this.#walkSnapshots();
    const tableBytes = header.refcountTableClusters * header.clusterBytes;
    this.use('the refcount table', header.refcountTableOffset, tableBytes);
    await this.#walkBitmaps();
  }

  /** Counts the clusters that the bytes touch; false where they lie past the end of the file. */
  use(what: string, offset: number, bytes: number): boolean {
    const { clusterBytes } = this.#header;
    if (bytes <= 0) return true;
    const first = Math.floor(offset / clusterBytes);
    const last = Math.floor((offset + bytes - 1) / clusterBytes);
    if (last * clusterBytes >= this.#file.sizeBytes) {
      this.#findings.corruption(`${what} at ${offset} reaches past the end of the file`);
      return false;
    }
    for (let cluster = first; cluster <= last; cluster++) this.uses.add(cluster, 1);
    return true;
  }

  async #walkSnapshots(): Promise<void> {
    const file = this.#file;
    const header = this.#header;
    try {
      const { entries, bytes } = await readSnapshotTable(file, header);
      this.use('the snapshot table', header.snapshotsOffset, bytes);
      for (const { l1Offset, l1Entries, name } of entries) {
        const what = `L1 table of snapshot '${name}'`;
        await this.#walkL1({ what, offset: l1Offset, entries: l1Entries, active: false });
      }
    } catch (error) {
      if (!(error instanceof EngineError) || error.kind !== 'invalid-format') throw error;
      this.#findings.corruption(error.message);
    }
  }

  async #walkL1({ what, offset, entries, active }: L1Place): Promise<void> {
    const file = this.#file;
    const header = this.#header;
    const l1 = Buffer.alloc(entries * TABLE_ENTRY_BYTES);
    if (!this.use(what, offset, l1.length)) return;
    await readPadded(file, offset, l1);
    const l2 = Buffer.alloc(header.clusterBytes);
    for (let position = 0; position < l1.length; position += TABLE_ENTRY_BYTES) {
      const entry = l1.readBigUInt64BE(position);
      const l2Offset = Number(entry & L1_OFFSET_MASK);
      if (l2Offset === 0) continue;
      const name = `entry ${position / TABLE_ENTRY_BYTES} of the ${what} (at ${offset + position})`;
      if ((entry & L1_RESERVED_MASK) !== 0n) this.#findings.corruption(`${name} has reserved bits set`);
      if (l2Offset % header.clusterBytes !== 0) {
        this.#findings.corruption(`${name} points to ${l2Offset}, which is no cluster`);
        continue;
      }
      if (!this.use(`the L2 table of ${name}`, l2Offset, header.clusterBytes)) continue;
      if (++this.#tables > QCOW2_CHECKED_TABLES_MAX) {
        const text = `the snapshots of the image lead to more than ${QCOW2_CHECKED_TABLES_MAX} L2 tables`;
        throw new EngineError('unsupported', text, { op: 'check', offset: l2Offset });
      }
      await readPadded(file, l2Offset, l2);
      this.#walkL2(l2, l2Offset, active);
    }
  }

  #walkL2(l2: Buffer, l2Offset: number, active: boolean): void {
    this.#nextContiguous = 0;
    const header = this.#header;
    for (let position = 0; position < l2.length; position += TABLE_ENTRY_BYTES) {
      const high = l2.readUInt32BE(position);
      const low = l2.readUInt32BE(position + 4);
      const kind = kindOfEntry(high, low);
      if (kind === 'unallocated') continue;
      const name = `L2 entry ${position / TABLE_ENTRY_BYTES} of the table at ${l2Offset}`;
      if (kind === 'compressed') {
        if ((high & 0x80000000) !== 0)
          this.#findings.corruption(`${name} is compressed and says it is not shared`);
        const place = compressedPlace(high, low, header.clusterBits);
        this.use(name, place.offset, place.length);
        if (active) this.#countCompressed();
        continue;
      }
      if (hasReservedBits(high, low)) this.#findings.corruption(`${name} has reserved bits set`);
      if (kind === 'zero-plain') continue;
      const host = hostOffsetOfEntry(high, low);
      if (host % header.clusterBytes !== 0) {
        this.#findings.corruption(`${name} points to ${host}, which is no cluster`);
      }
      if (active) this.#countAllocated(host);
      this.use(name, host, header.clusterBytes);
    }
  }

  #countCompressed(): void {
    this.allocation.allocated++;
    this.allocation.compressed++;
    this.allocation.fragmented++;
  }

  #countAllocated(host: number): void {
    this.allocation.allocated++;
    if (this.#nextContiguous !== 0 && host !== this.#nextContiguous) this.allocation.fragmented++;
    this.#nextContiguous = host + this.#header.clusterBytes;
  }

  async #walkBitmaps(): Promise<void> {
    const file = this.#file;
    const header = this.#header;
    if (header.bitmaps === undefined) return;
    try {
      const entries = await readBitmapDirectory(file, header);
      this.use('the bitmap directory', header.bitmaps.directoryOffset, header.bitmaps.directoryBytes);
      for (const { name, tableOffset, tableEntries } of entries) {
        await this.#walkBitmapTable(name, tableOffset, tableEntries);
      }
    } catch (error) {
      if (!(error instanceof EngineError) || error.kind !== 'invalid-format') throw error;
      this.#findings.corruption(error.message);
    }
  }

  async #walkBitmapTable(name: string, offset: number, entries: number): Promise<void> {
    const file = this.#file;
    const header = this.#header;
    const table = Buffer.alloc(entries * TABLE_ENTRY_BYTES);
    if (!this.use(`the table of bitmap '${name}'`, offset, table.length)) return;
    await readPadded(file, offset, table);
    for (let position = 0; position < table.length; position += TABLE_ENTRY_BYTES) {
      const entry = table.readBigUInt64BE(position);
      const host = Number(entry & BITMAP_TABLE_OFFSET_MASK);
      const what = `entry ${position / TABLE_ENTRY_BYTES} of the table of bitmap '${name}' at ${offset}`;
      const reserved = entry & ~BITMAP_TABLE_OFFSET_MASK;
      if (reserved > 1n || (host !== 0 && reserved !== 0n) || host % header.clusterBytes !== 0) {
        this.#findings.corruption(`${what} is 0x${entry.toString(16)}, which is not possible`);
        continue;
      }
      if (host !== 0) this.use(what, host, header.clusterBytes);
    }
  }
}
