// The host clusters that one L1 table leads to, as runs, each as often as it is used. Section "Snapshots": what a
// snapshot counts once more, and its removal counts once less.
import { EngineError } from '../../errors.ts';
import type { BlockNode } from '../../node/block-node.ts';
import { L1_RESERVED_MASK, TABLE_ENTRY_BYTES } from './format.ts';
import type { Qcow2Header } from './header.ts';
import { compressedPlace, hostOffsetOfEntry, kindOfEntry } from './l2-entry.ts';
import { readPadded } from './read-padded.ts';
import type { HostRun } from './refcounts.ts';

export interface L2Place {
  /** Index in the L1 table. */
  index: number;
  /** Bytes from the start of the file. */
  offset: number;
  /** The table itself; valid until the next one is asked for. */
  bytes: Buffer;
}

/** Every L2 table of the L1 table. Rejects with `corrupt`, naming the entry, or `io`. */
export async function* l2TablesOf(
  file: BlockNode,
  header: Qcow2Header,
  l1: Buffer,
): AsyncIterableIterator<L2Place> {
  const bytes = Buffer.alloc(header.clusterBytes);
  for (let position = 0; position < l1.length; position += TABLE_ENTRY_BYTES) {
    const high = l1.readUInt32BE(position);
    const low = l1.readUInt32BE(position + 4);
    const offset = hostOffsetOfEntry(high, low);
    const index = position / TABLE_ENTRY_BYTES;
    const reserved = (l1.readBigUInt64BE(position) & L1_RESERVED_MASK) !== 0n;
    if (reserved || offset % header.clusterBytes !== 0 || offset >= file.sizeBytes) {
      const text = `L1 entry ${index} points to ${offset}, which is no cluster of the file`;
      throw new EngineError('corrupt', text, { op: 'snapshot', offset });
    }
    if (offset === 0) continue;
    await readPadded(file, offset, bytes);
    yield { index, offset, bytes };
  }
}

/** The runs of clusters that the entries of an L2 table use, in their order. Throws `corrupt`. */
export function* runsOf(header: Qcow2Header, { offset, bytes }: L2Place): IterableIterator<HostRun> {
  const { clusterBytes, clusterBits } = header;
  let run: HostRun | undefined;
  for (let position = 0; position < bytes.length; position += TABLE_ENTRY_BYTES) {
    const high = bytes.readUInt32BE(position);
    const low = bytes.readUInt32BE(position + 4);
    const kind = kindOfEntry(high, low);
    if (kind === 'unallocated' || kind === 'zero-plain') continue;
    let next: HostRun = { offset: hostOffsetOfEntry(high, low), count: 1 };
    if (kind === 'compressed') {
      const place = compressedPlace(high, low, clusterBits);
      const first = Math.floor(place.offset / clusterBytes);
      const last = Math.floor((place.offset + place.length - 1) / clusterBytes);
      next = { offset: first * clusterBytes, count: last - first + 1 };
    }
    if (next.offset % clusterBytes !== 0) {
      const text = `L2 entry ${position / TABLE_ENTRY_BYTES} of the table at ${offset} points to ${next.offset}`;
      throw new EngineError('corrupt', `${text}, which is no cluster`, { op: 'snapshot', offset });
    }
    if (run !== undefined && run.offset + run.count * clusterBytes === next.offset) run.count += next.count;
    else {
      if (run !== undefined) yield run;
      run = next;
    }
  }
  if (run !== undefined) yield run;
}
