// Records of checksums as a read-only block node, for an export: bytes as they would stand in a file.
import { type BlockNode, EngineError, type Extent } from '@tidemark/engine';
import { RECORD_BYTES, sumsBytes } from './sums-format.ts';
import type { RecordSource } from './sums-reader.ts';

/** Records asked for at once. */
const BATCH_RECORDS = 4096;

export class SumsNode implements BlockNode {
  readonly driver = 'checksums';
  readonly readOnly = true;
  readonly requestAlignmentBytes = 1;
  readonly clusterSizeBytes = undefined;
  readonly sizeBytes: number;
  readonly #source: RecordSource;

  constructor(source: RecordSource, diskBytes: number) {
    this.#source = source;
    this.sizeBytes = sumsBytes(diskBytes);
  }

  async read(offset: number, buffer: Buffer): Promise<void> {
    const { count } = this.#source;
    const last = Math.min(count, Math.ceil((offset + buffer.length) / RECORD_BYTES));
    let first = Math.min(last, Math.floor(offset / RECORD_BYTES));
    // What follows the last record.
    buffer.fill(0, Math.max(0, last * RECORD_BYTES - offset));
    while (first < last) {
      const records = await this.#source.records(first, Math.min(BATCH_RECORDS, last - first));
      const at = first * RECORD_BYTES - offset;
      records.copy(buffer, Math.max(0, at), Math.max(0, -at));
      first += records.length / RECORD_BYTES;
    }
  }

  write(): never {
    throw refused('write');
  }

  writeZeroes(): never {
    throw refused('write-zeroes');
  }

  discard(): undefined {
    return undefined;
  }

  flush(): undefined {
    return undefined;
  }

  extents(offset: number, length: number): Extent[] {
    return [{ offset, length, data: true, zero: false, depth: 1 }];
  }

  async close(): Promise<void> {}
}

function refused(op: string): EngineError {
  return new EngineError('invalid-argument', 'checksums of a backup are read-only', { op });
}
