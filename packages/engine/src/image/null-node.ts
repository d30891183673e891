// The `null-co` driver: swallows what is written, reads as zeroes or as whatever the buffer held.
import type { Clock } from '../clock.ts';
import type { Extent } from '../extent.ts';
import type { BlockNode } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import { GiB } from '../units.ts';

export interface NullNodeOptions {
  /** Bytes; default 1 GiB. */
  sizeBytes?: number;
  /** Reads fill the buffer with zeroes; default false. */
  readZeroes?: boolean;
  /** Nanoseconds that each request takes; default 0. */
  latencyNs?: number;
  readOnly?: boolean;
  clock: Clock;
}

export class NullNode implements BlockNode {
  readonly driver = 'null-co';
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly requestAlignmentBytes = 1;
  readonly clusterSizeBytes = undefined;
  readonly #readZeroes: boolean;
  readonly #latencyMs: number;
  readonly #clock: Clock;

  constructor(options: NullNodeOptions) {
    this.sizeBytes = options.sizeBytes ?? 1 * GiB;
    this.readOnly = options.readOnly ?? false;
    this.#readZeroes = options.readZeroes ?? false;
    this.#latencyMs = (options.latencyNs ?? 0) / 1e6;
    this.#clock = options.clock;
  }

  read(_offset: number, buffer: Buffer): Pending {
    if (this.#readZeroes) buffer.fill(0);
    return this.#late();
  }
  write(): Pending {
    return this.#late();
  }
  writeZeroes(): Pending {
    return this.#late();
  }
  discard(): Pending {
    return this.#late();
  }
  flush(): Pending {
    return this.#late();
  }

  extents(offset: number, length: number): Extent[] {
    const zero = this.#readZeroes;
    return [{ offset, length, data: !zero, zero, depth: 1 }];
  }

  async allocatedBytes(): Promise<number> {
    return 0;
  }
  async close(): Promise<void> {}

  #late(): Pending {
    return this.#latencyMs === 0 ? undefined : this.#clock.sleep(this.#latencyMs);
  }
}
