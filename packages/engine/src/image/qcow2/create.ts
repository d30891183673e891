// Making an empty qcow2 image, version 3. Layout: header, refcount table, refcount blocks, L1 table.
import { rm } from 'node:fs/promises';
import { EngineError } from '../../errors.ts';
import { IMAGE_BYTES_MAX, QCOW2_L1_BYTES_MAX } from '../../limits.ts';
import type { BlockNode } from '../../node/block-node.ts';
import { isPowerOfTwo, SECTOR_BYTES } from '../../units.ts';
import { FileNode } from '../file-node.ts';
import {
  BACKING_NAME_BYTES_MAX,
  CLUSTER_BITS_DEFAULT,
  CLUSTER_BITS_MAX,
  CLUSTER_BITS_MIN,
  EXTENSION,
  FEATURE_ENTRY_BYTES,
  FEATURE_NAMES,
  HEADER,
  HEADER_V3_BYTES_WRITTEN,
  MAGIC,
  REFCOUNT_ORDER_DEFAULT,
  TABLE_ENTRY_BYTES,
} from './format.ts';
import { l1EntriesFor } from './header.ts';

export interface CreateQcow2Options {
  /** Size of the virtual disk; a multiple of 512. */
  sizeBytes: number;
  /** A power of two from 512 to 2 MiB; default 64 KiB. */
  clusterBytes?: number;
  /** Stored as given: a relative path is one from the image's folder. */
  backing?: { path: string; format: 'raw' | 'qcow2' };
}

interface Layout {
  clusterBits: number;
  clusterBytes: number;
  refcountTableClusters: number;
  refcountBlocks: number;
  l1Entries: number;
  l1Offset: number;
  clusters: number;
}

const REFCOUNT_BYTES = 2 ** REFCOUNT_ORDER_DEFAULT / 8;

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
  const perBlock = clusterBytes / REFCOUNT_BYTES;
  for (let index = 0; index < layout.refcountBlocks; index++) {
    const blockOffset = (firstBlock + index) * clusterBytes;
    table.writeBigUInt64BE(BigInt(blockOffset), index * TABLE_ENTRY_BYTES);
    const block = Buffer.alloc(clusterBytes);
    const used = Math.min(perBlock, layout.clusters - index * perBlock);
    for (let entry = 0; entry < used; entry++) block.writeUInt16BE(1, entry * REFCOUNT_BYTES);
    await file.write(blockOffset, block);
  }
  await file.write(clusterBytes, table);
  await file.write(0, header);
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

/** The refcount structures count themselves too: repeated until the numbers agree. */
function planLayout(options: CreateQcow2Options): Layout {
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
    wanted = Math.ceil((clusters * REFCOUNT_BYTES) / clusterBytes);
  }
  return {
    clusterBits: Math.log2(clusterBytes),
    clusterBytes,
    refcountTableClusters,
    refcountBlocks,
    l1Entries,
    l1Offset: (1 + refcountTableClusters + refcountBlocks) * clusterBytes,
    clusters,
  };
}

/** The first cluster: header, extensions, backing file's name. */
function encodeHeader(options: CreateQcow2Options, layout: Layout): Buffer {
  const cluster = Buffer.alloc(layout.clusterBytes);
  cluster.writeUInt32BE(MAGIC, HEADER.magic);
  cluster.writeUInt32BE(3, HEADER.version);
  cluster.writeUInt32BE(layout.clusterBits, HEADER.clusterBits);
  cluster.writeBigUInt64BE(BigInt(options.sizeBytes), HEADER.size);
  cluster.writeUInt32BE(layout.l1Entries, HEADER.l1Size);
  cluster.writeBigUInt64BE(BigInt(layout.l1Offset), HEADER.l1TableOffset);
  cluster.writeBigUInt64BE(BigInt(layout.clusterBytes), HEADER.refcountTableOffset);
  cluster.writeUInt32BE(layout.refcountTableClusters, HEADER.refcountTableClusters);
  cluster.writeUInt32BE(REFCOUNT_ORDER_DEFAULT, HEADER.refcountOrder);
  cluster.writeUInt32BE(HEADER_V3_BYTES_WRITTEN, HEADER.headerLength);
  const name = Buffer.from(options.backing?.path ?? '', 'utf8');
  const format =
    options.backing && encodeExtension(EXTENSION.backingFormat, Buffer.from(options.backing.format));
  const parts = [...(format ? [format] : []), encodeExtension(EXTENSION.featureNames, encodeFeatureNames())];
  const end = encodeExtension(EXTENSION.end, Buffer.alloc(0));
  let position = HEADER_V3_BYTES_WRITTEN;
  for (const part of parts) {
    // The feature names are a courtesy: a long backing name in a tiny cluster comes first.
    if (part !== format && position + part.length + end.length + name.length > cluster.length) continue;
    position += part.copy(cluster, position);
  }
  position += end.copy(cluster, position);
  if (options.backing === undefined) return cluster;
  if (position + name.length > cluster.length) {
    throw new EngineError(
      'invalid-argument',
      `the backing file's name of ${name.length} bytes does not fit a cluster of ${cluster.length}`,
      { op: 'create' },
    );
  }
  name.copy(cluster, position);
  cluster.writeBigUInt64BE(BigInt(position), HEADER.backingFileOffset);
  cluster.writeUInt32BE(name.length, HEADER.backingFileSize);
  return cluster;
}

function encodeExtension(type: number, data: Buffer): Buffer {
  const extension = Buffer.alloc(8 + Math.ceil(data.length / 8) * 8);
  extension.writeUInt32BE(type, 0);
  extension.writeUInt32BE(data.length, 4);
  data.copy(extension, 8);
  return extension;
}

function encodeFeatureNames(): Buffer {
  const table = Buffer.alloc(FEATURE_NAMES.length * FEATURE_ENTRY_BYTES);
  FEATURE_NAMES.forEach(([type, bit, name], index) => {
    const position = index * FEATURE_ENTRY_BYTES;
    table[position] = type;
    table[position + 1] = bit;
    table.write(name, position + 2, 'latin1');
  });
  return table;
}
