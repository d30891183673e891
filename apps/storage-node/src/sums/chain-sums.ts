// The checksums of a backup as one disk: of each cluster the record of the newest backup in its chain that says
// something. They come from the records alone, never from the images: where an image has lost a cluster, what shines
// through from below does not have this checksum.
import { CLUSTER_BYTES, isNothing, RECORD_BYTES, recordsOf, ZEROES_RECORD } from './sums-format.ts';
import type { RecordSource } from './sums-reader.ts';

export interface ChainMember {
  readonly sizeBytes: number;
  /** Undefined: it was copied without, so that nothing is known of what it and those below it hold. */
  readonly records: RecordSource | undefined;
}

/** A record of nothing means here that nothing is known. */
export class ChainSums implements RecordSource {
  readonly count: number;
  readonly #sizeBytes: number;
  readonly #members: readonly ChainMember[];

  /** Newest first, down to a full backup. */
  constructor(members: readonly ChainMember[]) {
    this.#members = members;
    this.#sizeBytes = members[0]!.sizeBytes;
    this.count = recordsOf(this.#sizeBytes);
  }

  async records(first: number, count: number): Promise<Buffer> {
    const found = Buffer.alloc(count * RECORD_BYTES);
    /** Indices within the range that no member has said anything of yet. */
    let open = Array.from({ length: count }, (_, index) => index);
    for (const member of this.#members) {
      if (open.length === 0) return found;
      if (member.records === undefined) return found;
      const there = Math.min(count, Math.max(0, member.records.count - first));
      if (there === 0) continue;
      const records = await member.records.records(first, there);
      open = open.filter(index => !this.#take({ found, records, index, first, member }));
    }
    for (const index of open) ZEROES_RECORD.copy(found, index * RECORD_BYTES);
    return found;
  }

  /** Whether the member settles the cluster. */
  #take(options: {
    found: Buffer;
    records: Buffer;
    index: number;
    first: number;
    member: ChainMember;
  }): boolean {
    const { found, records, index, first, member } = options;
    const record = records.subarray(index * RECORD_BYTES, (index + 1) * RECORD_BYTES);
    if (record.length === 0 || isNothing(record)) return false;
    // The last cluster of a disk that has grown since: the record is about fewer bytes than there are now.
    const end = Math.min((first + index + 1) * CLUSTER_BYTES, this.#sizeBytes);
    if (end <= member.sizeBytes) record.copy(found, index * RECORD_BYTES);
    return true;
  }
}
