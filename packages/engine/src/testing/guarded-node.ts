// A file in memory that watches over what is done to it: nothing outside of it, nothing without end.
import type { Extent } from '../extent.ts';
import { QCOW2_FILE_GAP_BYTES_MAX } from '../limits.ts';
import type { BlockNode, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import { MiB } from '../units.ts';
import { MemoryNode } from './memory-node.ts';

/** A careful user of a small file is done long before. */
const REQUESTS_MAX = 200_000;
const REQUEST_BYTES_MAX = 64 * MiB;
/** Twice what the driver leaves empty before it does not believe the counts. */
const GROWTH_BYTES_MAX = 2 * QCOW2_FILE_GAP_BYTES_MAX;

/** What no image, however hostile, may lead to. */
class GuardViolation extends Error {}

export class GuardedNode implements BlockNode {
  readonly driver = 'guarded';
  readonly readOnly = false;
  readonly requestAlignmentBytes = 1;
  readonly clusterSizeBytes = undefined;
  readonly #node = new MemoryNode({ sizeBytes: 0 });
  readonly #sizeBytesMax: number;
  #requests = 0;

  constructor(content: Buffer) {
    this.#node.write(0, content);
    this.#sizeBytesMax = content.length + GROWTH_BYTES_MAX;
  }

  get sizeBytes(): number {
    return this.#node.sizeBytes;
  }

  read(offset: number, buffer: Buffer): Pending {
    this.#assertInside('read', offset, buffer.length);
    return this.#node.read(offset, buffer);
  }

  write(offset: number, buffer: Buffer): Pending {
    this.#assertInside('write', offset, buffer.length);
    return this.#node.write(offset, buffer);
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    this.#assertInside('write-zeroes', offset, length);
    return this.#node.writeZeroes(offset, length, options);
  }

  discard(offset: number, length: number): Pending {
    return this.writeZeroes(offset, length, { mayUnmap: true });
  }

  flush(): Pending {
    return undefined;
  }

  extents(offset: number, length: number): Extent[] {
    this.#assertInside('extents', offset, length);
    return this.#node.extents(offset, length);
  }

  async resize(sizeBytes: number): Promise<void> {
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0 || sizeBytes > this.#sizeBytesMax) {
      throw new GuardViolation(`resized to ${sizeBytes} bytes`);
    }
    await this.#node.resize(sizeBytes);
  }

  async close(): Promise<void> {}

  #assertInside(what: string, offset: number, length: number): void {
    const fits = Number.isSafeInteger(offset) && offset >= 0 && offset + length <= this.#node.sizeBytes;
    if (!fits || length > REQUEST_BYTES_MAX) {
      throw new GuardViolation(`${what} of ${length} bytes at ${offset} of ${this.#node.sizeBytes}`);
    }
    if (++this.#requests > REQUESTS_MAX) throw new GuardViolation(`more than ${REQUESTS_MAX} requests`);
  }
}
