// A block node that loses power: what was not flushed survives sector by sector at random, in any order.
// Faults it may inject: lost and reordered sectors since the last flush. Never: torn sectors, lost flushes.

import type { Extent } from '../extent.ts';
import type { BlockNode, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import { SECTOR_BYTES } from '../units.ts';
import { MemoryNode } from './memory-node.ts';
import type { SeededRandom } from './seeded-random.ts';

export class CrashingNode implements BlockNode {
  readonly driver = 'crashing';
  readonly readOnly = false;
  readonly requestAlignmentBytes = 1;
  readonly clusterSizeBytes = undefined;
  readonly #now: MemoryNode;
  readonly #durable: MemoryNode;
  /** Since the last flush, in order; without bytes: zeroes. */
  #volatile: { offset: number; length: number; bytes: Buffer | undefined }[] = [];

  constructor(sizeBytes: number) {
    this.#now = new MemoryNode({ sizeBytes });
    this.#durable = new MemoryNode({ sizeBytes });
  }

  /** What the disk holds after a power cut at this moment. This node is not to be used afterwards. */
  crash(random: SeededRandom): MemoryNode {
    for (const { offset, length, bytes } of this.#volatile) {
      for (let at = 0; at < length; ) {
        const step = Math.min(SECTOR_BYTES - ((offset + at) % SECTOR_BYTES), length - at);
        if (random.chance(0.5)) {
          this.#durable.write(offset + at, bytes?.subarray(at, at + step) ?? Buffer.alloc(step));
        }
        at += step;
      }
    }
    this.#volatile = [];
    return this.#durable;
  }

  get sizeBytes(): number {
    return this.#now.sizeBytes;
  }

  read(offset: number, buffer: Buffer): Pending {
    return this.#now.read(offset, buffer);
  }

  write(offset: number, buffer: Buffer): Pending {
    this.#volatile.push({ offset, length: buffer.length, bytes: Buffer.from(buffer) });
    return this.#now.write(offset, buffer);
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    this.#volatile.push({ offset, length, bytes: undefined });
    return this.#now.writeZeroes(offset, length, options);
  }

  discard(offset: number, length: number): Pending {
    return this.writeZeroes(offset, length, { mayUnmap: true });
  }

  flush(): Pending {
    for (const { offset, length, bytes } of this.#volatile) {
      if (bytes === undefined) this.#durable.writeZeroes(offset, length, { mayUnmap: true });
      else this.#durable.write(offset, bytes);
    }
    this.#volatile = [];
    return undefined;
  }

  extents(offset: number, length: number): Extent[] {
    return this.#now.extents(offset, length);
  }

  async resize(sizeBytes: number): Promise<void> {
    await this.#now.resize(sizeBytes);
    await this.#durable.resize(sizeBytes);
  }

  async close(): Promise<void> {}
}
