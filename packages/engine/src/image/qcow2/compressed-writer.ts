// Stores guest clusters compressed: one behind the other, across the borders of host clusters where the next
// one happens to be free. Section "Compressed Clusters Descriptor".
//
// A host cluster counts the compressed clusters that lie in it. The one that was begun last is written on only
// as long as no compressed cluster was unlinked since: its count might reach 0 otherwise, and it would be taken
// by somebody else.
import { EngineError } from '../../errors.ts';
import { QCOW2_COMPRESSIONS_AT_ONCE } from '../../limits.ts';
import type { Pending } from '../../pending.ts';
import type { ClusterLocks } from './cluster-locks.ts';
import type { ClusterMap } from './clusters.ts';
import { compressCluster } from './compressed-cluster.ts';
import type { CompressionType } from './format.ts';
import type { Refcounts } from './refcounts.ts';
import { SerialQueue } from './serial-queue.ts';

export interface CompressedWriterOptions {
  clusters: ClusterMap;
  refcounts: Refcounts;
  locks: ClusterLocks;
  clusterBytes: number;
  compressionType: CompressionType;
  /** Writes to the file under the image. */
  writeHost: (hostOffset: number, buffer: Buffer) => Pending;
  /** Stores a cluster as it is. */
  writePlain: (offset: number, buffer: Buffer) => Promise<void>;
}

/** Compressed bytes in the file. */
interface Place {
  offset: number;
  length: number;
}

export class CompressedWriter {
  readonly #options: CompressedWriterOptions;
  readonly #placing = new SerialQueue();
  /** Where the next bytes go, inside a host cluster that has begun; undefined: into a new one. */
  #next: { offset: number; unlinks: number } | undefined;

  constructor(options: CompressedWriterOptions) {
    this.#options = options;
  }

  /** `offset` is a cluster's; the buffer has whole clusters, the last one may end with the disk. */
  async write(offset: number, buffer: Buffer): Promise<void> {
    const { clusterBytes } = this.#options;
    const batchBytes = clusterBytes * QCOW2_COMPRESSIONS_AT_ONCE;
    for (let batch = 0; batch < buffer.length; batch += batchBytes) {
      const pending: Promise<void>[] = [];
      const end = Math.min(batch + batchBytes, buffer.length);
      for (let done = batch; done < end; done += clusterBytes) {
        pending.push(this.#writeCluster(offset + done, buffer.subarray(done, done + clusterBytes)));
      }
      await Promise.allSettled(pending);
      await Promise.all(pending);
    }
  }

  async #writeCluster(offset: number, data: Buffer): Promise<void> {
    const { clusterBytes, compressionType, writePlain } = this.#options;
    const compressed = await compressCluster(compressionType, padded(data, clusterBytes));
    if (compressed.length >= clusterBytes) await writePlain(offset, data);
    else await this.#store(offset, compressed);
  }

  async #store(offset: number, compressed: Buffer): Promise<void> {
    const { clusters, refcounts, locks, clusterBytes, writeHost } = this.#options;
    for (;;) {
      const overlap = locks.firstOverlap(offset, offset + clusterBytes);
      if (overlap === undefined) break;
      await overlap.released;
    }
    const lock = locks.acquire(offset, offset + clusterBytes);
    try {
      await clusters.ensureTable(offset, refcounts);
      const place = await this.#placing.run(() => this.#place(compressed.length));
      try {
        await writeHost(place.offset, compressed);
        await clusters.linkCompressed(offset, place);
      } catch (error) {
        // Never linked: counted down again; where even that fails they leak, which a check repairs.
        this.#next = undefined;
        await this.#giveBack(place).catch(() => undefined);
        throw error;
      }
    } finally {
      locks.release(lock);
    }
  }

  async #place(length: number): Promise<Place> {
    const { refcounts, clusters, clusterBytes } = this.#options;
    const unlinks = clusters.compressedUnlinks;
    const next = this.#next?.unlinks === unlinks ? this.#next : undefined;
    this.#next = undefined;
    const room = next === undefined ? 0 : clusterBytes - (next.offset % clusterBytes);
    if (next !== undefined && length <= room && (await this.#share(next.offset))) {
      return this.#placed(next.offset, length, unlinks);
    }
    const run = await refcounts.allocate(1);
    const mayGoOn = next !== undefined && unlinks === clusters.compressedUnlinks;
    if (mayGoOn && run.offset === next.offset + room && (await this.#share(next.offset))) {
      return this.#placed(next.offset, length, unlinks);
    }
    return this.#placed(run.offset, length, unlinks);
  }

  /** False where the count of the host cluster has no room for one more. */
  async #share(offset: number): Promise<boolean> {
    const { refcounts, clusterBytes } = this.#options;
    try {
      await refcounts.share({ offset: offset - (offset % clusterBytes), count: 1 });
      return true;
    } catch (error) {
      if (error instanceof EngineError && error.kind === 'unsupported') return false;
      throw error;
    }
  }

  #placed(offset: number, length: number, unlinks: number): Place {
    const end = offset + length;
    // Something may have been unlinked while the counts changed: then the cluster is closed after all.
    const isOpen =
      end % this.#options.clusterBytes !== 0 && unlinks === this.#options.clusters.compressedUnlinks;
    this.#next = isOpen ? { offset: end, unlinks } : undefined;
    return { offset, length };
  }

  async #giveBack({ offset, length }: Place): Promise<void> {
    const { refcounts, clusterBytes } = this.#options;
    const first = Math.floor(offset / clusterBytes);
    const last = Math.floor((offset + length - 1) / clusterBytes);
    await refcounts.free({ offset: first * clusterBytes, count: last - first + 1 });
  }
}

/** The last cluster of a disk may be cut short; compressed it is whole. */
function padded(data: Buffer, clusterBytes: number): Buffer {
  if (data.length === clusterBytes) return data;
  const cluster = Buffer.alloc(clusterBytes);
  data.copy(cluster);
  return cluster;
}
