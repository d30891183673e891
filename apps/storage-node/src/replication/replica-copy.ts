// Copies what the checksums of a backup name from its export to the backup that becomes its replica. Each cluster is
// compared with its checksum when it comes, and that checksum is kept: none is made here. What an earlier copy has
// brought already is not asked for again.
import type { BlockNode } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import {
  agreesAsync,
  CLUSTER_BYTES,
  isNothing,
  isZeroes,
  RECORD_BYTES,
  recordsOf,
} from '../sums/sums-format.ts';
import type { RecordSource } from '../sums/sums-reader.ts';
import { SumsWriter } from '../sums/sums-writer.ts';

/** Clusters whose records are looked at together: 256 MiB of disk, whose records are 64 KiB. */
const WINDOW_CLUSTERS = 4096;
/** Clusters of one request, and requests under way: 4 MiB of memory, enough for hosts that are far apart. */
const REQUEST_CLUSTERS = 4;
const REQUESTS_MAX = 16;

type What = 'nothing' | 'zeroes' | 'data';

interface Run {
  readonly what: What;
  /** Indices of clusters within the disk. */
  readonly first: number;
  readonly end: number;
}

export interface ReplicaCopyOptions {
  readonly source: Pick<BlockNode, 'read'>;
  /** Of the source; records that say nothing name what is not its own. */
  readonly records: RecordSource;
  readonly target: Pick<BlockNode, 'write' | 'writeZeroes' | 'flush'>;
  readonly targetSums: Pick<BlockNode, 'read' | 'write' | 'flush'>;
  readonly sizeBytes: number;
  /** The source is a whole chain: all of its records have to say something, and zeroes are left out. */
  readonly isFlat: boolean;
  /** Told of a cluster that does not have its checksum, or cannot be read; what it throws ends the copy. */
  readonly onDamage: (offset: number, length: number, message: string) => never;
  /** Whether a failed read means that the bytes are lost, and not the way to them. */
  readonly isUnreadable: (error: unknown) => boolean;
  /** Called between requests with the bytes of the disk that are behind, and those that were asked for. */
  readonly pace: (step: { seenBytes: number; sentBytes: number }) => Promise<void>;
}

/**
 * Afterwards all of it is at the target, checksums too. Rejects with what `onDamage` and `pace` reject with, as reading
 * and writing do, and with `backup-not-usable` where checksums are missing; what came before stays at the target.
 */
export async function copyReplica(options: ReplicaCopyOptions): Promise<void> {
  const writer = new SumsWriter(options.targetSums);
  const copy = new ReplicaCopy(options, writer);
  try {
    await copy.run();
  } catch (error) {
    // What is there need not come again; that it cannot be noted costs no more than that.
    await writer.flush().catch(() => undefined);
    throw error;
  }
  await writer.flush();
  await options.target.flush();
}

class ReplicaCopy {
  readonly #options: ReplicaCopyOptions;
  readonly #writer: SumsWriter;
  readonly #underWay = new Set<Promise<void>>();
  #failures: unknown[] = [];

  constructor(options: ReplicaCopyOptions, writer: SumsWriter) {
    this.#options = options;
    this.#writer = writer;
  }

  async run(): Promise<void> {
    const count = recordsOf(this.#options.sizeBytes);
    try {
      for (let first = 0; first < count; ) {
        const next = await this.#skipSilence(first, count);
        if (next === first) await this.#copyWindow(first, Math.min(WINDOW_CLUSTERS, count - first));
        first = next === first ? first + WINDOW_CLUSTERS : next;
      }
    } finally {
      while (this.#underWay.size > 0) await Promise.race(this.#underWay);
    }
    if (this.#failures.length > 0) throw this.#failures[0];
  }

  /** Whole windows of which the records say nothing are not looked at. */
  async #skipSilence(first: number, count: number): Promise<number> {
    const { records, isFlat, pace } = this.#options;
    const silent = isFlat ? first : ((await records.silentUntil?.(first)) ?? first);
    const next = silent >= count ? count : silent - (silent % WINDOW_CLUSTERS);
    if (next <= first) return first;
    await pace({ seenBytes: this.#offset(next) - this.#offset(first), sentBytes: 0 });
    return next;
  }

  async #copyWindow(first: number, count: number): Promise<void> {
    const wanted = await this.#options.records.records(first, count);
    const there = Buffer.alloc(count * RECORD_BYTES);
    await this.#options.targetSums.read(first * RECORD_BYTES, there);
    let seen = first;
    for (const { what, first: from, end } of this.#runs({ wanted, there, first, count })) {
      if (what === 'zeroes')
        await this.#writeZeroes(from, end, wanted.subarray((from - first) * RECORD_BYTES));
      for (let at = from; what === 'data' && at < end; at += REQUEST_CLUSTERS) {
        const until = Math.min(end, at + REQUEST_CLUSTERS);
        const records = wanted.subarray((at - first) * RECORD_BYTES, (until - first) * RECORD_BYTES);
        const sentBytes = this.#offset(until) - this.#offset(at);
        await this.#begin(() => this.#copyRequest(at, until, records));
        await this.#options.pace({ seenBytes: this.#offset(until) - this.#offset(seen), sentBytes });
        seen = until;
      }
      await this.#options.pace({ seenBytes: this.#offset(end) - this.#offset(seen), sentBytes: 0 });
      seen = end;
    }
  }

  /** All of the window, in order. */
  *#runs(window: { wanted: Buffer; there: Buffer; first: number; count: number }): IterableIterator<Run> {
    const { wanted, there, first, count } = window;
    const at = (records: Buffer, index: number) =>
      records.subarray(index * RECORD_BYTES, (index + 1) * RECORD_BYTES);
    let from = 0;
    let what = this.#whatIs(at(wanted, 0), at(there, 0), first);
    for (let index = 1; index <= count; index++) {
      const next =
        index === count ? undefined : this.#whatIs(at(wanted, index), at(there, index), first + index);
      if (next === what) continue;
      yield { what, first: first + from, end: first + index };
      from = index;
      if (next !== undefined) what = next;
    }
  }

  #whatIs(wanted: Buffer, there: Buffer, cluster: number): What {
    const { isFlat } = this.#options;
    if (isNothing(wanted)) {
      if (isFlat) throw noChecksum(this.#offset(cluster));
      return 'nothing';
    }
    if (there.equals(wanted)) return 'nothing';
    if (!isZeroes(wanted)) return 'data';
    // A full backup reads as zeroes where it has nothing.
    return isFlat ? 'nothing' : 'zeroes';
  }

  async #writeZeroes(from: number, end: number, records: Buffer): Promise<void> {
    const offset = this.#offset(from);
    await this.#options.target.writeZeroes(offset, this.#offset(end) - offset, { mayUnmap: false });
    await this.#writer.set(from, records.subarray(0, RECORD_BYTES), end - from);
  }

  /** Waits for room among the requests; rejects with the first failure of one. */
  async #begin(request: () => Promise<void>): Promise<void> {
    while (this.#underWay.size >= REQUESTS_MAX) await Promise.race(this.#underWay);
    if (this.#failures.length > 0) throw this.#failures[0];
    const mine: Promise<void> = request()
      .catch((error: unknown) => void this.#failures.push(error))
      .finally(() => this.#underWay.delete(mine));
    this.#underWay.add(mine);
  }

  async #copyRequest(from: number, end: number, records: Buffer): Promise<void> {
    const offset = this.#offset(from);
    const bytes = Buffer.allocUnsafe(this.#offset(end) - offset);
    await this.#read(offset, bytes);
    for (let index = 0; index < end - from; index++) {
      const record = records.subarray(index * RECORD_BYTES, (index + 1) * RECORD_BYTES);
      await this.#compare(
        from + index,
        record,
        bytes.subarray(index * CLUSTER_BYTES, (index + 1) * CLUSTER_BYTES),
      );
    }
    await this.#options.target.write(offset, bytes);
    for (let index = 0; index < end - from; index++) {
      await this.#writer.set(
        from + index,
        records.subarray(index * RECORD_BYTES, (index + 1) * RECORD_BYTES),
      );
    }
  }

  async #read(offset: number, bytes: Buffer): Promise<void> {
    const { source, isUnreadable, onDamage } = this.#options;
    try {
      await source.read(offset, bytes);
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      onDamage(offset, bytes.length, error instanceof Error ? error.message : String(error));
    }
  }

  /** What was changed on its way is right the second time. */
  async #compare(cluster: number, record: Buffer, bytes: Buffer): Promise<void> {
    if (await agreesAsync(record, bytes)) return;
    const offset = this.#offset(cluster);
    await this.#read(offset, bytes);
    if (await agreesAsync(record, bytes)) return;
    this.#options.onDamage(offset, bytes.length, 'it does not have its checksum');
  }

  /** Where the cluster of this number begins, or the disk ends. */
  #offset(cluster: number): number {
    return Math.min(cluster * CLUSTER_BYTES, this.#options.sizeBytes);
  }
}

function noChecksum(offset: number): TidemarkError {
  return new TidemarkError(
    'backup-not-usable',
    `There is no checksum for what the backup holds at ${offset}: it, or what it stands on, was made without. Make a ` +
      'full backup, and replicate that one.',
  );
}
