// The flags of the active tables that say whether a cluster may be written in place: set where its refcount is
// exactly one, and nowhere else.
import type { BlockNode } from '../../../node/block-node.ts';
import { COPIED_FLAG, L1_OFFSET_MASK, TABLE_ENTRY_BYTES } from '../format.ts';
import type { Qcow2Header } from '../header.ts';
import { hostOffsetOfEntry, isCopied, kindOfEntry } from '../l2-entry.ts';
import { readPadded } from '../read-padded.ts';
import type { ClusterCounts } from './cluster-counts.ts';
import type { Findings } from './findings.ts';

export interface CopiedFlagsOptions {
  file: BlockNode;
  header: Qcow2Header;
  counts: ClusterCounts;
  findings: Findings;
  /**
   * Writes the flags as they should be, durable afterwards; `missing`: only those that should be set, since what
   * is said to be nobody else's and is not calls for more than a flag.
   */
  repair?: 'missing' | 'all';
}

/** Returns how many flags are, or were, wrong. Rejects with `io`. */
export async function checkCopiedFlags(options: CopiedFlagsOptions): Promise<number> {
  const { file, header, counts, findings, repair } = options;
  const { clusterBytes, l1Offset } = header;
  const l1 = Buffer.alloc(header.l1Entries * TABLE_ENTRY_BYTES);
  await readPadded(file, l1Offset, l1);
  const l2 = Buffer.alloc(clusterBytes);
  let wrong = 0;
  let l1Changed = false;
  for (let position = 0; position < l1.length; position += TABLE_ENTRY_BYTES) {
    const entry = l1.readBigUInt64BE(position);
    const l2Offset = Number(entry & L1_OFFSET_MASK);
    if (l2Offset === 0) continue;
    const owned = counts.get(Math.floor(l2Offset / clusterBytes)) === 1;
    if (owned !== ((entry & COPIED_FLAG) !== 0n)) {
      findings.corruption(flagText(`the L2 table at ${l2Offset}`, owned));
      if (owned || repair === 'all') {
        l1.writeBigUInt64BE(entry ^ COPIED_FLAG, position);
        l1Changed = true;
      }
      wrong++;
    }
    if (l2Offset % clusterBytes !== 0 || l2Offset >= file.sizeBytes) continue;
    await readPadded(file, l2Offset, l2);
    const inTable = flipWrong(l2, { clusterBytes, counts, findings, all: repair === 'all' });
    if (inTable > 0 && repair) await file.write(l2Offset, l2);
    wrong += inTable;
  }
  if (l1Changed && repair) await file.write(l1Offset, l1);
  if (wrong > 0 && repair) await file.flush();
  return wrong;
}

type TableOptions = Pick<CopiedFlagsOptions, 'counts' | 'findings'> & { clusterBytes: number; all: boolean };

/** Puts the flags in the buffer right, and returns how many were wrong. */
function flipWrong(l2: Buffer, { clusterBytes, counts, findings, all }: TableOptions): number {
  let wrong = 0;
  for (let position = 0; position < l2.length; position += TABLE_ENTRY_BYTES) {
    const high = l2.readUInt32BE(position);
    const low = l2.readUInt32BE(position + 4);
    const kind = kindOfEntry(high, low);
    if (kind !== 'data' && kind !== 'zero-allocated') continue;
    const host = hostOffsetOfEntry(high, low);
    const owned = counts.get(Math.floor(host / clusterBytes)) === 1;
    if (owned === isCopied(high)) continue;
    findings.corruption(flagText(`the data cluster at ${host}`, owned));
    if (owned || all) l2.writeUInt32BE((high ^ 0x80000000) >>> 0, position);
    wrong++;
  }
  return wrong;
}

function flagText(what: string, owned: boolean): string {
  return owned
    ? `${what} is used once and is said to be shared`
    : `${what} is not used once and is said to be`;
}
