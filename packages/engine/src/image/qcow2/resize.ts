// Changes the size of the virtual disk. An L1 table that has become too small moves: the new one is durable before
// the header, which changes in one sector, points to it, so that a crash leaks clusters at worst.
import { EngineError } from '../../errors.ts';
import { QCOW2_L1_BYTES_MAX } from '../../limits.ts';
import type { BlockNode } from '../../node/block-node.ts';
import { alignUp, SECTOR_BYTES } from '../../units.ts';
import { HEADER, TABLE_ENTRY_BYTES } from './format.ts';
import { l1EntriesFor, type Qcow2Header } from './header.ts';
import type { MetadataTable } from './metadata-table.ts';
import type { HostRun, Refcounts } from './refcounts.ts';

export interface ResizeContext {
  file: BlockNode;
  header: Qcow2Header;
  l1: MetadataTable;
  refcounts: Refcounts;
  /** Makes all metadata durable. */
  writeBack: () => Promise<void>;
}

/** Throws kind `invalid-argument` or `unsupported`, in QEMU's words. */
export function assertQcow2Size(header: Qcow2Header, sizeBytes: number): void {
  if (sizeBytes % SECTOR_BYTES !== 0) {
    const hint = `Give a multiple of ${SECTOR_BYTES} bytes.`;
    throw new EngineError('invalid-argument', 'The new size must be a multiple of 512', {
      op: 'resize',
      hint,
    });
  }
  const l1Bytes = l1EntriesFor(sizeBytes, header.clusterBytes) * TABLE_ENTRY_BYTES;
  if (l1Bytes <= QCOW2_L1_BYTES_MAX) return;
  const hint = 'An image with larger clusters can be larger.';
  throw new EngineError('unsupported', 'Failed to grow the L1 table: File too large', { op: 'resize', hint });
}

/**
 * Writes the header for the new size. All metadata is durable and nothing is in flight; the image is to be read
 * anew afterwards. What lies beyond a smaller size must have been discarded, and reads as zeroes when it comes back.
 */
export async function rewriteSize(context: ResizeContext, sizeBytes: number): Promise<void> {
  const { header, l1, refcounts, writeBack } = context;
  const entries = l1EntriesFor(sizeBytes, header.clusterBytes);
  if (entries <= header.l1Entries)
    return writeHeader(context, sizeBytes, { l1Offset: header.l1Offset, entries: header.l1Entries });
  const clusters = Math.ceil((entries * TABLE_ENTRY_BYTES) / header.clusterBytes);
  const run = await allocateContiguous(refcounts, clusters);
  await writeBack();
  const table = Buffer.alloc(clusters * header.clusterBytes);
  l1.bytes.copy(table);
  await context.file.write(run.offset, table);
  await context.file.flush();
  await writeHeader(context, sizeBytes, { l1Offset: run.offset, entries });
  const oldBytes = header.l1Entries * TABLE_ENTRY_BYTES;
  if (oldBytes === 0) return;
  await refcounts.free({
    offset: header.l1Offset,
    count: alignUp(oldBytes, header.clusterBytes) / header.clusterBytes,
  });
  await writeBack();
}

/** Rejects with `io`; nothing is taken then. */
async function allocateContiguous(refcounts: Refcounts, count: number): Promise<HostRun> {
  const tooShort: HostRun[] = [];
  try {
    for (;;) {
      const run = await refcounts.allocate(count);
      if (run.count === count) return run;
      tooShort.push(run);
    }
  } finally {
    for (const run of tooShort) await refcounts.free(run);
  }
}

async function writeHeader(
  { file }: ResizeContext,
  sizeBytes: number,
  l1: { l1Offset: number; entries: number },
): Promise<void> {
  const sector = Buffer.alloc(SECTOR_BYTES);
  await file.read(0, sector);
  sector.writeBigUInt64BE(BigInt(sizeBytes), HEADER.size);
  sector.writeUInt32BE(l1.entries, HEADER.l1Size);
  sector.writeBigUInt64BE(BigInt(l1.l1Offset), HEADER.l1TableOffset);
  await file.write(0, sector);
  await file.flush();
}
