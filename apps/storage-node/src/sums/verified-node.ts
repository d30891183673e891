// A backup that is read with its checksums at hand: what does not have its checksum fails to be read, and is never
// called a hole.
import {
  alignDown,
  alignUp,
  appendExtent,
  type BlockNode,
  EngineError,
  type Extent,
  type Pending,
} from '@tidemark/engine';
import { agreesAsync, CLUSTER_BYTES, isNothing, isZeroes, RECORD_BYTES } from './sums-format.ts';
import type { RecordSource } from './sums-reader.ts';

/** One look at the extents goes no further: as many records as a page of them has. */
const EXTENTS_WINDOW_BYTES = 4096 * CLUSTER_BYTES;

export class VerifiedNode implements BlockNode {
  readonly driver = 'verified';
  readonly readOnly = true;
  readonly requestAlignmentBytes = 1;
  readonly clusterSizeBytes = CLUSTER_BYTES;
  readonly #image: BlockNode;
  readonly #records: RecordSource;

  constructor(image: BlockNode, records: RecordSource) {
    this.#image = image;
    this.#records = records;
  }

  get sizeBytes(): number {
    return this.#image.sizeBytes;
  }

  /** Whole clusters are read and compared. Rejects with kind `corrupt`, naming the first that is not as it was. */
  async read(offset: number, buffer: Buffer): Promise<void> {
    const start = alignDown(offset, CLUSTER_BYTES);
    const end = Math.min(alignUp(offset + buffer.length, CLUSTER_BYTES), this.sizeBytes);
    const isWhole = start === offset && end === offset + buffer.length;
    const bytes = isWhole ? buffer : Buffer.allocUnsafe(end - start);
    const first = start / CLUSTER_BYTES;
    const count = Math.ceil(end / CLUSTER_BYTES) - first;
    const [records] = await Promise.all([
      this.#records.records(first, count),
      this.#image.read(start, bytes),
    ]);
    const verdicts = Array.from({ length: count }, (_, index) => {
      const record = records.subarray(index * RECORD_BYTES, (index + 1) * RECORD_BYTES);
      if (isNothing(record)) return true;
      return agreesAsync(record, bytes.subarray(index * CLUSTER_BYTES, (index + 1) * CLUSTER_BYTES));
    });
    const wrong = (await Promise.all(verdicts)).indexOf(false);
    if (wrong >= 0) {
      const at = start + wrong * CLUSTER_BYTES;
      throw new EngineError('corrupt', `the data at ${at} does not have its checksum`, {
        op: 'read',
        offset: at,
        length: Math.min(CLUSTER_BYTES, end - at),
      });
    }
    if (!isWhole) bytes.copy(buffer, 0, offset - start, offset - start + buffer.length);
  }

  write(): never {
    throw refused('write');
  }

  writeZeroes(): never {
    throw refused('write-zeroes');
  }

  discard(): Pending {
    return undefined;
  }

  flush(): Pending {
    return undefined;
  }

  /** Where the image has lost a cluster and says that it is zero, it is called data: reading it tells. */
  async extents(offset: number, length: number): Promise<Extent[]> {
    const part = Math.min(length, EXTENTS_WINDOW_BYTES);
    const found: Extent[] = [];
    for (const extent of await this.#image.extents(offset, part)) {
      if (extent.zero) await this.#appendZeroes(found, extent);
      else appendExtent(found, extent);
    }
    return found;
  }

  async #appendZeroes(found: Extent[], extent: Extent): Promise<void> {
    const first = Math.floor(extent.offset / CLUSTER_BYTES);
    const end = extent.offset + extent.length;
    const records = await this.#records.records(first, Math.ceil(end / CLUSTER_BYTES) - first);
    for (let at = extent.offset, index = 0; at < end; index++) {
      const next = Math.min(end, (first + index + 1) * CLUSTER_BYTES);
      const record = records.subarray(index * RECORD_BYTES, (index + 1) * RECORD_BYTES);
      const isRight = isZeroes(record) || isNothing(record);
      appendExtent(found, {
        ...extent,
        ...(!isRight && { data: true, zero: false }),
        offset: at,
        length: next - at,
      });
      at = next;
    }
  }

  close(): Promise<void> {
    return this.#image.close();
  }
}

function refused(op: string): EngineError {
  return new EngineError('invalid-argument', 'a backup is read-only', { op });
}
