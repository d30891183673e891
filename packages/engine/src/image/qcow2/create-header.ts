// The first cluster of a new image: header, extensions, the backing file's name.
import { EngineError } from '../../errors.ts';
import type { CreateQcow2Options, Layout } from './create.ts';
import {
  COMPATIBLE,
  COMPRESSION_TYPES,
  EXTENSION,
  HEADER,
  HEADER_V2_BYTES,
  HEADER_V3_BYTES_WRITTEN,
  INCOMPATIBLE,
  MAGIC,
} from './format.ts';
import { encodeExtension, encodeFeatureNames } from './header-extensions.ts';

/** Throws `invalid-argument` where the backing file's name does not fit. */
export function encodeHeader(options: CreateQcow2Options, layout: Layout): Buffer {
  const { version = 3 } = options;
  const cluster = Buffer.alloc(layout.clusterBytes);
  cluster.writeUInt32BE(MAGIC, HEADER.magic);
  cluster.writeUInt32BE(version, HEADER.version);
  cluster.writeUInt32BE(layout.clusterBits, HEADER.clusterBits);
  cluster.writeBigUInt64BE(BigInt(options.sizeBytes), HEADER.size);
  cluster.writeUInt32BE(layout.l1Entries, HEADER.l1Size);
  cluster.writeBigUInt64BE(BigInt(layout.l1Offset), HEADER.l1TableOffset);
  cluster.writeBigUInt64BE(BigInt(layout.clusterBytes), HEADER.refcountTableOffset);
  cluster.writeUInt32BE(layout.refcountTableClusters, HEADER.refcountTableClusters);
  if (version === 3) putVersion3(cluster, options, layout);
  const name = Buffer.from(options.backing?.path ?? '', 'utf8');
  const format =
    options.backing &&
    encodeExtension({ type: EXTENSION.backingFormat, data: Buffer.from(options.backing.format) });
  const names = encodeExtension({ type: EXTENSION.featureNames, data: encodeFeatureNames() });
  const parts = [...(format ? [format] : []), ...(version === 3 ? [names] : [])];
  const end = encodeExtension({ type: EXTENSION.end, data: Buffer.alloc(0) });
  let position = version === 3 ? HEADER_V3_BYTES_WRITTEN : HEADER_V2_BYTES;
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

function putVersion3(cluster: Buffer, options: CreateQcow2Options, layout: Layout): void {
  const { compressionType = 'zlib', lazyRefcounts = false } = options;
  cluster.writeUInt32BE(layout.refcountOrder, HEADER.refcountOrder);
  cluster.writeUInt32BE(HEADER_V3_BYTES_WRITTEN, HEADER.headerLength);
  if (lazyRefcounts) cluster.writeBigUInt64BE(COMPATIBLE.lazyRefcounts, HEADER.compatibleFeatures);
  if (compressionType === 'zlib') return;
  cluster.writeBigUInt64BE(INCOMPATIBLE.compressionType, HEADER.incompatibleFeatures);
  cluster.writeUInt8(COMPRESSION_TYPES.indexOf(compressionType), HEADER.compressionType);
}
