// Where a qcow2 image's own clusters lie in its file, read from its tables; what is below does not count. Sections
// "Cluster mapping" and "L2 table entry" of the format's document.
import { EngineError, type FileNode, type Qcow2Header } from '@tidemark/engine';

export interface OwnRun {
  /** Bytes. */
  length: number;
  kind: 'unallocated' | 'zero' | 'data' | 'compressed';
  /** Bytes from the start of the file, where the run has a place there as it is. */
  hostOffset: number | undefined;
}

const ENTRY_BYTES = 8;
/** Bits 9 to 55. */
const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;
const COMPRESSED = 1n << 62n;
const ZERO = 1n;

/** Holds one L2 table at a time. */
export class Qcow2Map {
  readonly #file: FileNode;
  readonly #header: Qcow2Header;
  #l1: Buffer | undefined;
  #tableIndex = -1;
  #table: Buffer | undefined;

  constructor(file: FileNode, header: Qcow2Header) {
    this.#file = file;
    this.#header = header;
  }

  /** The run that starts at `offset`, at most `length` bytes. Rejects with `corrupt` or `io`. */
  async lookup(offset: number, length: number): Promise<OwnRun> {
    const { clusterBytes } = this.#header;
    const spanBytes = clusterBytes * (clusterBytes / ENTRY_BYTES);
    const index = Math.floor(offset / spanBytes);
    const end = Math.min(offset + length, (index + 1) * spanBytes);
    const table = await this.#load(index);
    if (table === undefined) return { length: end - offset, kind: 'unallocated', hostOffset: undefined };
    const first = this.#entry(table, offset, end);
    let run = first;
    for (let at = offset + first.length; at < end; at += run.length) {
      run = this.#entry(table, at, end);
      const expected = first.hostOffset === undefined ? undefined : first.hostOffset + (at - offset);
      if (run.kind !== first.kind || run.hostOffset !== expected) break;
      first.length += run.length;
    }
    return first;
  }

  /** The part of one cluster from `at` on. */
  #entry(table: Buffer, at: number, end: number): OwnRun {
    const { clusterBytes, version } = this.#header;
    const inside = at % clusterBytes;
    const length = Math.min(clusterBytes - inside, end - at);
    const entry = table.readBigUInt64BE((Math.floor(at / clusterBytes) * ENTRY_BYTES) % table.length);
    if ((entry & COMPRESSED) !== 0n) return { length, kind: 'compressed', hostOffset: undefined };
    const host = Number(entry & OFFSET_MASK);
    const hostOffset = host === 0 ? undefined : host + inside;
    if (version === 3 && (entry & ZERO) !== 0n) return { length, kind: 'zero', hostOffset };
    return { length, kind: host === 0 ? 'unallocated' : 'data', hostOffset };
  }

  async #load(index: number): Promise<Buffer | undefined> {
    if (index === this.#tableIndex) return this.#table;
    const { l1Entries, l1Offset, clusterBytes } = this.#header;
    if (this.#l1 === undefined) {
      this.#l1 = Buffer.alloc(l1Entries * ENTRY_BYTES);
      await this.#file.read(l1Offset, this.#l1);
    }
    const offset = Number(this.#l1.readBigUInt64BE(index * ENTRY_BYTES) & OFFSET_MASK);
    if (offset % clusterBytes !== 0 || offset >= this.#file.sizeBytes) {
      throw new EngineError(
        'corrupt',
        `L2 table ${index} lies at ${offset}, which is no cluster of the file`,
      );
    }
    this.#table = undefined;
    if (offset !== 0) {
      const table = Buffer.alloc(clusterBytes);
      await this.#file.read(offset, table.subarray(0, Math.min(clusterBytes, this.#file.sizeBytes - offset)));
      this.#table = table;
    }
    this.#tableIndex = index;
    return this.#table;
  }
}
