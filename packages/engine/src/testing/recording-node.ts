// A block node that remembers every request that changes it, so that each moment of its past can be looked at: as a
// kill leaves it (everything that was written), or as a power cut does (what was not flushed survives at random).
import type { Extent } from '../extent.ts';
import type { BlockNode, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import { SECTOR_BYTES } from '../units.ts';
import { MemoryNode } from './memory-node.ts';
import type { SeededRandom } from './seeded-random.ts';

type Entry =
  | { kind: 'write'; offset: number; length: number; bytes: Buffer | undefined }
  | { kind: 'flush' }
  | { kind: 'resize'; sizeBytes: number };

export class RecordingNode implements BlockNode {
  readonly driver = 'recording';
  readonly readOnly = false;
  readonly requestAlignmentBytes = 1;
  readonly clusterSizeBytes = undefined;
  readonly #now = new MemoryNode({ sizeBytes: 0 });
  readonly #log: Entry[] = [];

  /** How many requests there were. */
  get moments(): number {
    return this.#log.length;
  }

  /** The moments at which most is on its way: right before each flush. */
  get beforeFlushes(): number[] {
    const moments: number[] = [];
    for (const [index, entry] of this.#log.entries()) {
      if (entry.kind === 'flush' && this.#log[index - 1]?.kind === 'write') moments.push(index);
    }
    return moments;
  }

  /**
   * The node after its first `moment` requests. With `random`, of what was not flushed by then each sector of each
   * write is there or not.
   */
  async at(moment: number, random?: SeededRandom): Promise<MemoryNode> {
    const node = new MemoryNode({ sizeBytes: 0 });
    const flushed = this.#log.findLastIndex((entry, index) => index < moment && entry.kind === 'flush');
    for (const [index, entry] of this.#log.slice(0, moment).entries()) {
      if (entry.kind === 'flush') continue;
      if (entry.kind === 'resize') await node.resize(entry.sizeBytes);
      else if (random === undefined || index < flushed) write(node, entry, 0, entry.length);
      else writeSectors(node, entry, random);
    }
    return node;
  }

  get sizeBytes(): number {
    return this.#now.sizeBytes;
  }

  read(offset: number, buffer: Buffer): Pending {
    return this.#now.read(offset, buffer);
  }

  write(offset: number, buffer: Buffer): Pending {
    this.#log.push({ kind: 'write', offset, length: buffer.length, bytes: Buffer.from(buffer) });
    return this.#now.write(offset, buffer);
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    this.#log.push({ kind: 'write', offset, length, bytes: undefined });
    return this.#now.writeZeroes(offset, length, options);
  }

  discard(offset: number, length: number): Pending {
    return this.writeZeroes(offset, length, { mayUnmap: true });
  }

  flush(): Pending {
    this.#log.push({ kind: 'flush' });
    return undefined;
  }

  extents(offset: number, length: number): Extent[] {
    return this.#now.extents(offset, length);
  }

  async resize(sizeBytes: number): Promise<void> {
    this.#log.push({ kind: 'resize', sizeBytes });
    await this.#now.resize(sizeBytes);
  }

  async close(): Promise<void> {}
}

interface WriteEntry {
  offset: number;
  bytes: Buffer | undefined;
  length: number;
}

function write(node: MemoryNode, { offset, bytes }: WriteEntry, from: number, to: number): void {
  if (bytes === undefined) node.writeZeroes(offset + from, to - from, { mayUnmap: true });
  else node.write(offset + from, bytes.subarray(from, to));
}

function writeSectors(node: MemoryNode, entry: WriteEntry, random: SeededRandom): void {
  for (let from = 0; from < entry.length; ) {
    const to = Math.min(entry.length, from + SECTOR_BYTES - ((entry.offset + from) % SECTOR_BYTES));
    if (random.chance(0.5)) write(node, entry, from, to);
    from = to;
  }
}
