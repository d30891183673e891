// A block node that sits on top of an image and keeps it inside the limit of its repository or scratch: a
// write that would need more than is left fails with ENOSPC before anything is written.
//
// What a request costs is a bound from above. Each image cluster is paid once, when first touched, with
// its share of refcount blocks; each L2 table is paid once, with the first cluster under it. Nothing is
// given back before the end, not for writes that failed either, and the image is not allowed to give up
// clusters that it has.
import {
  alignDown,
  alignUp,
  Bitmap,
  type BlockNode,
  EngineError,
  type Extent,
  type Pending,
  type WriteZeroesOptions,
} from '@tidemark/engine';
import type { SpaceReservation } from './space-reservation.ts';

const CLUSTER_BYTES_DEFAULT = 65_536;
/** An L2 entry, in bytes: a table of one cluster maps `clusterBytes / 8` clusters. */
const L2_ENTRY_BYTES = 8;
/** Two bytes of refcount a cluster, doubled for tables that are half empty or moved when they grow. */
const REFCOUNT_BYTES_PER_CLUSTER = 4;

type Budget = Pick<SpaceReservation, 'limitBytes' | 'leftBytes' | 'tryTake'>;

export class QuotaNode implements BlockNode {
  readonly driver = 'quota';
  readonly #image: BlockNode;
  readonly #budget: Budget;
  readonly #owner: string;
  readonly #clusterBytes: number;
  /** Clusters and L2 tables' ranges that are paid for. */
  readonly #clusters: Bitmap;
  readonly #tables: Bitmap;
  #isTouched = false;

  /**
   * `clusterBytes`: what a write takes at least; default the image's clusters. `owner`: whose limit it is, for
   * people; default the repository.
   */
  constructor(image: BlockNode, options: { budget: Budget; clusterBytes?: number; owner?: string }) {
    this.#image = image;
    this.#owner = options.owner ?? 'The repository';
    this.#budget = options.budget;
    this.#clusterBytes = options.clusterBytes ?? image.clusterSizeBytes ?? CLUSTER_BYTES_DEFAULT;
    this.#clusters = new Bitmap(image.sizeBytes, this.#clusterBytes);
    this.#tables = new Bitmap(image.sizeBytes, (this.#clusterBytes / L2_ENTRY_BYTES) * this.#clusterBytes);
  }

  get sizeBytes(): number {
    return this.#image.sizeBytes;
  }
  get readOnly(): boolean {
    return this.#image.readOnly;
  }
  get requestAlignmentBytes(): number {
    return this.#image.requestAlignmentBytes;
  }
  get clusterSizeBytes(): number | undefined {
    return this.#image.clusterSizeBytes;
  }

  /** Nobody has written anything so far. */
  get isUntouched(): boolean {
    return !this.#isTouched;
  }

  read(offset: number, buffer: Buffer): Pending {
    return this.#image.read(offset, buffer);
  }

  write(offset: number, buffer: Buffer): Pending {
    return this.#pay(offset, buffer.length, offset, buffer.length) ?? this.#image.write(offset, buffer);
  }

  /** Space once paid stays in the image: what is given up and taken again could wait to be freed twice. */
  writeZeroes(offset: number, length: number, _options: WriteZeroesOptions): Pending {
    // Whole clusters become a flag in their table; what is left at both ends is written as data.
    const end = offset + length;
    const first = Math.min(alignUp(offset, this.#clusterBytes), end);
    const last = end === this.sizeBytes ? end : Math.max(first, alignDown(end, this.#clusterBytes));
    const refused = this.#pay(offset, length, offset, first - offset) ?? this.#pay(last, 0, last, end - last);
    return refused ?? this.#image.writeZeroes(offset, length, { mayUnmap: false });
  }

  /** Nothing: a hint that would give up space, see above. */
  discard(): Pending {
    return undefined;
  }

  flush(): Pending {
    return this.#image.flush();
  }

  extents(offset: number, length: number): Extent[] | Promise<Extent[]> {
    return this.#image.extents(offset, length);
  }

  async close(): Promise<void> {
    await this.#image.close();
  }

  /** Pays for the tables of one range and the clusters of another; a rejection where it does not fit. */
  #pay(tableOffset: number, tableLength: number, offset: number, length: number): Pending {
    this.#isTouched = true;
    const clusters = countClean(this.#clusters, offset, length);
    const tables = countClean(this.#tables, tableOffset, tableLength);
    if (clusters === 0 && tables === 0) return undefined;
    const bytes = (clusters + tables) * (this.#clusterBytes + REFCOUNT_BYTES_PER_CLUSTER);
    if (!this.#budget.tryTake(bytes)) {
      return Promise.reject(
        new EngineError(
          'io',
          `${this.#owner}'s limit of ${this.#budget.limitBytes} bytes is reached: ` +
            `${this.#budget.leftBytes} are left, ${bytes} are needed`,
          { op: 'write', node: this.driver, offset, length, errno: 'ENOSPC' },
        ),
      );
    }
    this.#clusters.set(offset, length);
    this.#tables.set(tableOffset, tableLength);
    return undefined;
  }
}

/** Most that the data of a backup takes in its image, as this counts: for room that is set aside before. */
export function imageBytesBound(options: { dataBytes: number; sizeBytes: number }): number {
  const clusters = Math.ceil(Math.min(options.dataBytes, options.sizeBytes) / CLUSTER_BYTES_DEFAULT);
  const tableSpan = (CLUSTER_BYTES_DEFAULT / L2_ENTRY_BYTES) * CLUSTER_BYTES_DEFAULT;
  const tables = Math.min(clusters, Math.ceil(options.sizeBytes / tableSpan));
  return (clusters + tables) * (CLUSTER_BYTES_DEFAULT + REFCOUNT_BYTES_PER_CLUSTER);
}

/** Granules that the range touches and that are not set. */
function countClean(bitmap: Bitmap, offset: number, length: number): number {
  if (length <= 0) return 0;
  const { granularityBytes } = bitmap;
  const end = Math.min(Math.ceil((offset + length) / granularityBytes) * granularityBytes, bitmap.sizeBytes);
  let clean = 0;
  for (let position = offset - (offset % granularityBytes); position < end; ) {
    const start = bitmap.nextZero(position, end);
    if (start < 0) break;
    const next = bitmap.nextDirty(start, end);
    position = next < 0 ? end : next;
    clean += Math.ceil((position - start) / granularityBytes);
  }
  return clean;
}
