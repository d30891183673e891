// Compares what a backup's own image holds with its checksums, both ways: every cluster that the image has with its
// record, every record with the image. Used before a backup is published, and to verify it later.
import { type BlockNode, EngineError, type Extent } from '@tidemark/engine';
import {
  agreesAsync,
  CLUSTER_BYTES,
  isNothing,
  isZeroes,
  NOTHING_RECORD,
  RECORD_BYTES,
  recordsOf,
} from './sums-format.ts';
import type { RecordSource } from './sums-reader.ts';

/** Clusters looked at together: 256 MiB of disk, whose records are 64 KiB; half of what an L2 table maps. */
const WINDOW_CLUSTERS = 4096;
/** Clusters read and hashed together. */
const BATCH_CLUSTERS = 16;
const KIND = { none: 0, data: 1, zero: 2 } as const;

export type FaultKind =
  /** The bytes are not those that were sent. */
  | 'differs'
  /** It has a checksum, and the image has nothing. */
  | 'missing'
  /** The image has it, and there is no checksum. */
  | 'unexpected'
  | 'unreadable';

export interface ClusterFault {
  readonly kind: FaultKind;
  readonly offset: number;
  readonly length: number;
  readonly message: string;
}

export interface CompareOptions {
  /** The image without the ones below it: what it does not have itself counts as nothing. */
  readonly image: Pick<BlockNode, 'read' | 'extents' | 'sizeBytes'>;
  /** Without them the data is only read. */
  readonly records: RecordSource | undefined;
  /** Told of each fault, in order of offsets. What it throws ends the comparison. */
  readonly onFault: (fault: ClusterFault) => void;
  /** Called between steps with the bytes of the disk that were looked at, and those that were read. */
  readonly pace?: (step: { seenBytes: number; readBytes: number }) => Promise<void>;
}

/** Rejects where records cannot be read, and with what `onFault` or `pace` throw. */
export async function compareWithSums(options: CompareOptions): Promise<void> {
  const count = recordsOf(options.image.sizeBytes);
  // One for all of it: what every batch would leave behind adds up to a process several times as large.
  const batch = Buffer.allocUnsafeSlow(BATCH_CLUSTERS * CLUSTER_BYTES);
  for (let first = 0; first < count; ) {
    const next = await skipSilence(options, first, count);
    if (next === first) await new Window(options, first, batch).compare();
    first = next === first ? first + WINDOW_CLUSTERS : next;
  }
}

/** Whole windows of which neither image nor records say anything are not looked at one by one. */
async function skipSilence(options: CompareOptions, first: number, count: number): Promise<number> {
  const { image, records, pace } = options;
  const start = first * CLUSTER_BYTES;
  const silent = records === undefined ? count : ((await records.silentUntil?.(first)) ?? first);
  if (silent < Math.min(first + WINDOW_CLUSTERS, count)) return first;
  const wanted = Math.min(silent * CLUSTER_BYTES, image.sizeBytes);
  let at = start;
  try {
    for (const { offset, length, depth } of await image.extents(start, wanted - start)) {
      if (depth === 1) break;
      at = offset + length;
    }
  } catch {
    // The window itself tells of it.
    return first;
  }
  const clusters = at >= image.sizeBytes ? count : Math.floor(at / CLUSTER_BYTES);
  const next = clusters === count ? count : clusters - (clusters % WINDOW_CLUSTERS);
  if (next <= first) return first;
  await pace?.({ seenBytes: Math.min(next * CLUSTER_BYTES, image.sizeBytes) - start, readBytes: 0 });
  return next;
}

class Window {
  readonly #options: CompareOptions;
  readonly #first: number;
  readonly #count: number;
  readonly #kinds: Uint8Array;
  readonly #batch: Buffer;
  /** Clusters from this index on cannot be told of; the count where all can. */
  #lostFrom: number;

  constructor(options: CompareOptions, first: number, batch: Buffer) {
    this.#options = options;
    this.#batch = batch;
    this.#first = first;
    this.#count = Math.min(WINDOW_CLUSTERS, recordsOf(options.image.sizeBytes) - first);
    this.#kinds = new Uint8Array(this.#count);
    this.#lostFrom = this.#count;
  }

  async compare(): Promise<void> {
    const records = await this.#options.records?.records(this.#first, this.#count);
    const isSilent = records === undefined || NOTHING.subarray(0, records.length).equals(records);
    const hasNothing = !(await this.#findOwn());
    if (!isSilent || !hasNothing) await this.#compareClusters(records);
    const seenBytes = this.#end(this.#first + this.#count) - this.#first * CLUSTER_BYTES;
    await this.#options.pace?.({ seenBytes, readBytes: 0 });
  }

  /** Notes which clusters are the image's own; false where none is. */
  async #findOwn(): Promise<boolean> {
    const { image } = this.#options;
    const start = this.#first * CLUSTER_BYTES;
    const end = this.#end(this.#first + this.#count);
    let hasAny = false;
    for (let at = start; at < end; ) {
      let extents: Extent[];
      try {
        extents = await image.extents(at, end - at);
      } catch (error) {
        // The map itself is damaged. A window never reaches beyond what one table of it maps.
        this.#lostFrom = Math.floor(at / CLUSTER_BYTES) - this.#first;
        this.#options.onFault({ kind: 'unreadable', offset: at, length: end - at, message: textOf(error) });
        return true;
      }
      for (const { offset, length, data, depth } of extents) {
        at = offset + length;
        if (depth !== 1) continue;
        hasAny = true;
        const from = Math.floor(offset / CLUSTER_BYTES) - this.#first;
        this.#kinds.fill(data ? KIND.data : KIND.zero, from, Math.ceil(at / CLUSTER_BYTES) - this.#first);
      }
    }
    return hasAny;
  }

  async #compareClusters(records: Buffer | undefined): Promise<void> {
    for (let index = 0; index < this.#lostFrom; ) {
      const record = recordAt(records, index);
      const kind = this.#kinds[index];
      if (kind === KIND.none) {
        if (record !== undefined && !isNothing(record))
          this.#fault('missing', index, 'the image does not have it');
        index++;
      } else if (record !== undefined && isNothing(record)) {
        this.#fault('unexpected', index, 'it has no checksum');
        index++;
      } else if (kind === KIND.zero && (record === undefined || isZeroes(record))) index++;
      else index = await this.#compareBatch(index, records);
    }
  }

  /** Reads clusters as long as there is something to compare. Returns the index of the first one that it left. */
  async #compareBatch(from: number, records: Buffer | undefined): Promise<number> {
    let to = from;
    const recordOf = (index: number) => recordAt(records, index);
    while (to < this.#lostFrom && to - from < BATCH_CLUSTERS && this.#isToRead(to, recordOf(to))) to++;
    const start = (this.#first + from) * CLUSTER_BYTES;
    const bytes = this.#batch.subarray(0, this.#end(this.#first + to) - start);
    let isWhole = true;
    try {
      await this.#options.image.read(start, bytes);
    } catch {
      isWhole = false;
    }
    const clusters = Array.from({ length: to - from }, (_, index) =>
      this.#compareCluster(from + index, recordOf(from + index), isWhole ? bytes : undefined, start),
    );
    for (const report of await Promise.all(clusters)) report?.();
    await this.#options.pace?.({ seenBytes: 0, readBytes: bytes.length });
    return to;
  }

  /** Without bytes the cluster is read by itself. Resolves with how to report a fault, so that the order stays. */
  async #compareCluster(
    index: number,
    record: Buffer | undefined,
    batch: Buffer | undefined,
    batchStart: number,
  ): Promise<(() => void) | undefined> {
    const offset = (this.#first + index) * CLUSTER_BYTES;
    const length = this.#end(this.#first + index + 1) - offset;
    const bytes =
      batch?.subarray(offset - batchStart, offset - batchStart + length) ?? Buffer.allocUnsafe(length);
    try {
      if (batch === undefined) await this.#options.image.read(offset, bytes);
    } catch (error) {
      return () => this.#fault('unreadable', index, textOf(error));
    }
    if (record === undefined || (await agreesAsync(record, bytes))) return undefined;
    return () => this.#fault('differs', index, 'it is not what was copied');
  }

  #isToRead(index: number, record: Buffer | undefined): boolean {
    const kind = this.#kinds[index];
    if (kind === KIND.none) return false;
    if (record === undefined) return kind === KIND.data;
    return !isNothing(record) && !(kind === KIND.zero && isZeroes(record));
  }

  #fault(kind: FaultKind, index: number, message: string): void {
    const offset = (this.#first + index) * CLUSTER_BYTES;
    const length = this.#end(this.#first + index + 1) - offset;
    this.#options.onFault({ kind, offset, length, message });
  }

  /** Where the cluster of this number begins, or the disk ends. */
  #end(cluster: number): number {
    return Math.min(cluster * CLUSTER_BYTES, this.#options.image.sizeBytes);
  }
}

function recordAt(records: Buffer | undefined, index: number): Buffer | undefined {
  return records?.subarray(index * RECORD_BYTES, (index + 1) * RECORD_BYTES);
}

const NOTHING = Buffer.alloc(WINDOW_CLUSTERS * RECORD_BYTES, NOTHING_RECORD);

function textOf(error: unknown): string {
  return error instanceof EngineError || error instanceof Error ? error.message : String(error);
}
