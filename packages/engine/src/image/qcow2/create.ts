// Making an empty qcow2 image. Layout: header, refcount table, refcount blocks, L1 table; then, where space is
// to be taken in advance, L2 tables and clusters.
import { rm } from 'node:fs/promises';
import { EngineError } from '../../errors.ts';
import { FILE_ZERO_CHUNK_BYTES, IMAGE_BYTES_MAX, QCOW2_L1_BYTES_MAX } from '../../limits.ts';
import type { BlockNode } from '../../node/block-node.ts';
import { isPowerOfTwo, SECTOR_BYTES } from '../../units.ts';
import { FileNode } from '../file-node.ts';
import { encodeHeader } from './create-header.ts';
import {
  BACKING_NAME_BYTES_MAX,
  CLUSTER_BITS_DEFAULT,
  CLUSTER_BITS_MAX,
  CLUSTER_BITS_MIN,
  type CompressionType,
  REFCOUNT_ORDER_DEFAULT,
  REFCOUNT_ORDER_MAX,
  TABLE_ENTRY_BYTES,
} from './format.ts';
import { l1EntriesFor } from './header.ts';
import { Qcow2Image } from './qcow2-image.ts';
import { RefcountWidth } from './refcount-width.ts';

const PREALLOCATIONS = ['off', 'metadata', 'falloc', 'full'] as const;
/** `metadata`: all clusters have their place; `falloc`: and the space is taken; `full`: by writing zeroes. */
export type Preallocation = (typeof PREALLOCATIONS)[number];

export interface CreateQcow2Options {
  /** Size of the virtual disk; a multiple of 512. */
  sizeBytes: number;
  /** A power of two from 512 to 2 MiB; default 64 KiB. */
  clusterBytes?: number;
  /** Stored as given: a relative path is one from the image's folder. */
  backing?: { path: string; format: 'raw' | 'qcow2' };
  /** Default 3; 2 for readers of before 2012. */
  version?: 2 | 3;
  /** A power of two up to 64; default 16. */
  refcountBits?: number;
  /** Of compressed clusters; default zlib. */
  compressionType?: CompressionType;
  /** Writers may leave refcounts for later, marking the image dirty; this engine never does. Default false. */
  lazyRefcounts?: boolean;
  /** Default off. */
  preallocation?: Preallocation;
}

export interface Layout {
  clusterBits: number;
  clusterBytes: number;
  refcountOrder: number;
  refcountTableClusters: number;
  refcountBlocks: number;
  l1Entries: number;
  l1Offset: number;
  clusters: number;
}

const ZERO_CHUNK = Buffer.alloc(FILE_ZERO_CHUNK_BYTES);

/**
 * Makes the image file, durable in itself. Rejects with kind `exists`, `invalid-argument` or `io`;
 * nothing that was made stays behind then.
 */
export async function createQcow2(path: string, options: CreateQcow2Options): Promise<void> {
  checkOptions(options, path);
  const file = await FileNode.open(path, { create: 'exclusive' });
  try {
    await formatQcow2(file, options);
    await file.close();
  } catch (error) {
    await file.close().catch(() => undefined);
    await rm(path, { force: true });
    throw error;
  }
}

/** Writes an empty image into an empty node that can grow. Durable after the node's next flush. */
export async function formatQcow2(file: BlockNode, options: CreateQcow2Options): Promise<void> {
  checkOptions(options, file.driver);
  const layout = planLayout(options);
  const { clusterBytes } = layout;
  const header = encodeHeader(options, layout);
  await file.resize?.(layout.clusters * clusterBytes);
  const table = Buffer.alloc(layout.refcountTableClusters * clusterBytes);
  const firstBlock = 1 + layout.refcountTableClusters;
  const width = new RefcountWidth(layout.refcountOrder);
  const perBlock = width.perBlock(clusterBytes);
  for (let index = 0; index < layout.refcountBlocks; index++) {
    const blockOffset = (firstBlock + index) * clusterBytes;
    table.writeBigUInt64BE(BigInt(blockOffset), index * TABLE_ENTRY_BYTES);
    const block = Buffer.alloc(clusterBytes);
    const used = Math.min(perBlock, layout.clusters - index * perBlock);
    for (let entry = 0; entry < used; entry++) width.set(block, entry, 1);
    await file.write(blockOffset, block);
  }
  await file.write(clusterBytes, table);
  await file.write(0, header);
  await preallocate(file, options);
}

async function preallocate(file: BlockNode, options: CreateQcow2Options): Promise<void> {
  const { preallocation = 'off', sizeBytes } = options;
  if (preallocation === 'off') return;
  const from = file.sizeBytes;
  const image = await Qcow2Image.open(file, { keepChildren: true, readOnly: false });
  await image.preallocate(0, sizeBytes);
  await image.settle();
  if (preallocation === 'metadata') return;
  // Metadata is among it: only what is a hole still reads as zeroes, and may be filled with them.
  for (let at = from; at < file.sizeBytes; ) {
    for (const extent of await file.extents(at, file.sizeBytes - at)) {
      at = extent.offset + extent.length;
      if (extent.data) continue;
      if (preallocation === 'falloc')
        await file.writeZeroes(extent.offset, extent.length, { mayUnmap: false });
      else await writeZeroes(file, extent.offset, extent.length);
    }
  }
}

async function writeZeroes(file: BlockNode, offset: number, length: number): Promise<void> {
  for (let done = 0; done < length; done += ZERO_CHUNK.length) {
    await file.write(offset + done, ZERO_CHUNK.subarray(0, Math.min(ZERO_CHUNK.length, length - done)));
  }
}

function checkOptions(options: CreateQcow2Options, place: string): void {
  const refuse = (what: string) => {
    throw new EngineError('invalid-argument', `cannot make ${place}: ${what}`, { op: 'create', path: place });
  };
  const clusterBytes = options.clusterBytes ?? 2 ** CLUSTER_BITS_DEFAULT;
  const clusterFits = clusterBytes >= 2 ** CLUSTER_BITS_MIN && clusterBytes <= 2 ** CLUSTER_BITS_MAX;
  if (!isPowerOfTwo(clusterBytes) || !clusterFits) {
    refuse(`cluster size ${clusterBytes} is not a power of two from 512 to 2 MiB`);
  }
  checkFeatures(options, refuse);
  const { sizeBytes } = options;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0 || sizeBytes > IMAGE_BYTES_MAX) {
    refuse(`size ${sizeBytes} is not between 0 and ${IMAGE_BYTES_MAX} bytes`);
  }
  if (sizeBytes % SECTOR_BYTES !== 0) refuse(`size ${sizeBytes} is not a multiple of ${SECTOR_BYTES}`);
  if (l1EntriesFor(sizeBytes, clusterBytes) * TABLE_ENTRY_BYTES > QCOW2_L1_BYTES_MAX) {
    refuse(`size ${sizeBytes} is too large for clusters of ${clusterBytes} bytes; use larger clusters`);
  }
  const nameBytes = Buffer.byteLength(options.backing?.path ?? '');
  if (options.backing !== undefined && (nameBytes === 0 || nameBytes > BACKING_NAME_BYTES_MAX)) {
    refuse(`the backing file's name takes ${nameBytes} bytes, not 1 to ${BACKING_NAME_BYTES_MAX}`);
  }
}

/** In QEMU's words. */
function checkFeatures(options: CreateQcow2Options, refuse: (what: string) => void): void {
  const { version = 3, refcountBits = 16, compressionType = 'zlib', lazyRefcounts, preallocation } = options;
  if (!isPowerOfTwo(refcountBits) || Math.log2(refcountBits) > REFCOUNT_ORDER_MAX) {
    refuse('Refcount width must be a power of two and may not exceed 64 bits');
  }
  if (version === 2) {
    const hint = 'compatibility level 1.1 and above (use version=v3 or greater)';
    if (lazyRefcounts) refuse(`Lazy refcounts only supported with ${hint}`);
    if (refcountBits !== 16) {
      refuse(
        'Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)',
      );
    }
    if (compressionType !== 'zlib') refuse(`Non-zlib compression type is only supported with ${hint}`);
  }
  if (options.backing !== undefined && preallocation !== undefined && preallocation !== 'off') {
    refuse('Backing file and preallocation can only be used at the same time if extended_l2 is on');
  }
}

/** The refcount structures count themselves too: repeated until the numbers agree. */
function planLayout(options: CreateQcow2Options): Layout {
  const refcountBits = options.refcountBits ?? 2 ** REFCOUNT_ORDER_DEFAULT;
  const clusterBytes = options.clusterBytes ?? 2 ** CLUSTER_BITS_DEFAULT;
  // QEMU never makes an image without an L1 entry.
  const l1Entries = Math.max(1, l1EntriesFor(options.sizeBytes, clusterBytes));
  const l1Clusters = Math.ceil((l1Entries * TABLE_ENTRY_BYTES) / clusterBytes);
  let refcountBlocks = 0;
  let refcountTableClusters = 0;
  let clusters = 0;
  for (let wanted = 1; refcountBlocks !== wanted; ) {
    refcountBlocks = wanted;
    refcountTableClusters = Math.ceil((refcountBlocks * TABLE_ENTRY_BYTES) / clusterBytes);
    clusters = 1 + refcountTableClusters + refcountBlocks + l1Clusters;
    wanted = Math.ceil((clusters * refcountBits) / 8 / clusterBytes);
  }
  return {
    clusterBits: Math.log2(clusterBytes),
    clusterBytes,
    refcountOrder: Math.log2(refcountBits),
    refcountTableClusters,
    refcountBlocks,
    l1Entries,
    l1Offset: (1 + refcountTableClusters + refcountBlocks) * clusterBytes,
    clusters,
  };
}
