// Changes the size of the virtual disk. An L1 table that has become too small moves: the new one is durable before
// the header, which changes in one sector, points to it, so that a crash leaks clusters at worst.
import { EngineError } from '../../errors.ts';
import { QCOW2_L1_BYTES_MAX } from '../../limits.ts';
import type { BlockNode } from '../../node/block-node.ts';
import { alignUp, SECTOR_BYTES } from '../../units.ts';
import { TABLE_ENTRY_BYTES } from './format.ts';
import { l1EntriesFor, type Qcow2Header } from './header.ts';
import type { HeaderFile } from './header-file.ts';
import type { MetadataTable } from './metadata-table.ts';
import type { Refcounts } from './refcounts.ts';

export interface ResizeContext {
  file: BlockNode;
  headerFile: HeaderFile;
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
  if (header.version === 2 && header.snapshotCount > 0) {
    const hint = 'Delete the snapshots first, or convert the image to version 3.';
    throw new EngineError('unsupported', "Can't resize a v2 image which has snapshots", {
      op: 'resize',
      hint,
    });
  }
  assertL1Fits(header, sizeBytes);
}

/** Throws kind `unsupported` where the L1 table of a disk of that size would be larger than one may be. */
export function assertL1Fits(header: Qcow2Header, sizeBytes: number): void {
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
  const { headerFile, l1, refcounts, writeBack } = context;
  const { header } = headerFile;
  const entries = l1EntriesFor(sizeBytes, header.clusterBytes);
  if (entries <= header.l1Entries) return headerFile.patch({ sizeBytes });
  const clusters = Math.ceil((entries * TABLE_ENTRY_BYTES) / header.clusterBytes);
  const run = await refcounts.allocateContiguous(clusters);
  await writeBack();
  const table = Buffer.alloc(clusters * header.clusterBytes);
  l1.bytes.copy(table);
  await context.file.write(run.offset, table);
  await context.file.flush();
  await headerFile.patch({ sizeBytes, l1Offset: run.offset, l1Entries: entries });
  const oldBytes = header.l1Entries * TABLE_ENTRY_BYTES;
  if (oldBytes === 0) return;
  await refcounts.free({
    offset: header.l1Offset,
    count: alignUp(oldBytes, header.clusterBytes) / header.clusterBytes,
  });
  await writeBack();
}
