// A block node in front of a backup's target that keeps a checksum of each cluster that goes there: made here, at the
// source, from the bytes that were read, so that whatever happens to them on the way is noticed.
import { setImmediate } from 'node:timers/promises';
import type { BlockNode, Extent, Pending, WriteZeroesOptions } from '@tidemark/engine';
import { CLUSTER_BYTES, clusterDigest, ZEROES_RECORD } from './sums-format.ts';
import { type RunOfRecords, SumsWriter } from './sums-writer.ts';

export class ChecksummingNode implements BlockNode {
  readonly driver = 'checksumming';
  readonly #target: BlockNode;
  readonly #sums: BlockNode;
  readonly #writer: SumsWriter;

  /** Both are closed with it. */
  constructor(target: BlockNode, sums: BlockNode) {
    this.#target = target;
    this.#sums = sums;
    this.#writer = new SumsWriter(sums);
  }

  get sizeBytes(): number {
    return this.#target.sizeBytes;
  }
  get readOnly(): boolean {
    return this.#target.readOnly;
  }
  get requestAlignmentBytes(): number {
    return this.#target.requestAlignmentBytes;
  }
  /** Copies of whole clusters alone have records. */
  get clusterSizeBytes(): number {
    return Math.max(CLUSTER_BYTES, this.#target.clusterSizeBytes ?? 0);
  }

  read(offset: number, buffer: Buffer): Pending {
    return this.#target.read(offset, buffer);
  }

  /** Of whole clusters; the last one of the disk may be short. */
  async write(offset: number, buffer: Buffer): Promise<void> {
    const [first] = this.#records(offset, buffer.length);
    const [records] = await Promise.all([digests(buffer), this.#target.write(offset, buffer)]);
    for (const [index, record] of records.entries()) await this.#writer.set(first + index, record);
  }

  async writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Promise<void> {
    const [first, count] = this.#records(offset, length);
    await this.#target.writeZeroes(offset, length, options);
    await this.#writer.set(first, ZEROES_RECORD, count);
  }

  /** A hint, which would leave it open what the clusters read as. */
  discard(): Pending {
    return undefined;
  }

  async flush(): Promise<void> {
    await this.#writer.flush();
    await this.#target.flush();
  }

  extents(offset: number, length: number): Extent[] | Promise<Extent[]> {
    return this.#target.extents(offset, length);
  }

  /** Checksums of what was written that may not be there; after a failure, with nothing under way. */
  unwrittenSums(): RunOfRecords[] {
    return this.#writer.unwritten();
  }

  /** Checksums that an earlier one left unwritten, of what is at the target. */
  takeOver(unwritten: readonly RunOfRecords[]): Promise<void> {
    return this.#writer.takeOver(unwritten);
  }

  cancelInFlight(): void {
    this.#target.cancelInFlight?.();
    this.#sums.cancelInFlight?.();
  }

  async close(): Promise<void> {
    await Promise.allSettled([this.#target.close(), this.#sums.close()]);
  }

  #records(offset: number, length: number): [first: number, count: number] {
    const end = offset + length;
    const isWhole = offset % CLUSTER_BYTES === 0 && (end % CLUSTER_BYTES === 0 || end === this.sizeBytes);
    if (!isWhole) throw new Error(`checksums are of whole clusters, not of ${length} bytes at ${offset}`);
    return [offset / CLUSTER_BYTES, Math.ceil(length / CLUSTER_BYTES)];
  }
}

/** Guests' requests have their turn after each cluster. */
async function digests(buffer: Buffer): Promise<Buffer[]> {
  const records: Buffer[] = [];
  for (let offset = 0; offset < buffer.length; offset += CLUSTER_BYTES) {
    if (offset > 0) await setImmediate();
    records.push(clusterDigest(buffer.subarray(offset, offset + CLUSTER_BYTES)));
  }
  return records;
}
