// The qcow2 header and its extensions: parsed with every field checked before anything is sized by it.
// Sections "Header", "Additional fields" and "Header extensions" of the format's document.
import { EngineError } from '../../errors.ts';
import { IMAGE_BYTES_MAX, QCOW2_L1_BYTES_MAX, QCOW2_REFCOUNT_TABLE_BYTES_MAX } from '../../limits.ts';
import type { BlockNode } from '../../node/block-node.ts';
import { SECTOR_BYTES } from '../../units.ts';
import {
  AUTOCLEAR,
  BACKING_NAME_BYTES_MAX,
  CLUSTER_BITS_MAX,
  CLUSTER_BITS_MIN,
  COMPRESSION_TYPES,
  type CompressionType,
  CRYPT_METHODS,
  EXTENSION,
  HEADER,
  HEADER_V2_BYTES,
  HEADER_V3_BYTES_MIN,
  INCOMPATIBLE,
  MAGIC,
  REFCOUNT_ORDER_DEFAULT,
  REFCOUNT_ORDER_MAX,
  TABLE_ENTRY_BYTES,
} from './format.ts';
import {
  type BitmapsExtension,
  featureNames,
  findExtension,
  type HeaderExtension,
  parseBitmapsExtension,
  parseExtensions,
} from './header-extensions.ts';

export interface Qcow2Header {
  version: 2 | 3;
  clusterBits: number;
  clusterBytes: number;
  /** Size of the virtual disk, in bytes. */
  sizeBytes: number;
  l1Entries: number;
  l1Offset: number;
  refcountTableOffset: number;
  refcountTableClusters: number;
  snapshotCount: number;
  snapshotsOffset: number;
  incompatibleFeatures: bigint;
  compatibleFeatures: bigint;
  autoclearFeatures: bigint;
  /** Length of the fixed part, fields that are not known here included. */
  headerBytes: number;
  refcountOrder: number;
  compressionType: CompressionType;
  /** As stored: relative names are relative to the image's folder. */
  backingPath: string | undefined;
  /** As the header extension names it. */
  backingFormat: string | undefined;
  /** Where the backing file's name lies; 0 without one. */
  backingOffset: number;
  /** All header extensions in their order. */
  extensions: readonly HeaderExtension[];
  /** Undefined where none is stored, or a writer who does not know bitmaps has made them worthless. */
  bitmaps: BitmapsExtension | undefined;
}

const KNOWN_INCOMPATIBLE = INCOMPATIBLE.dirty | INCOMPATIBLE.corrupt | INCOMPATIBLE.compressionType;

/** Whether the file starts as a qcow2 image does. */
export async function hasQcow2Magic(file: BlockNode): Promise<boolean> {
  if (file.sizeBytes < SECTOR_BYTES) return false;
  const start = Buffer.alloc(SECTOR_BYTES);
  await file.read(0, start);
  return start.readUInt32BE(HEADER.magic) === MAGIC;
}

/**
 * Reads and checks the header. Rejects with `invalid-format` (not qcow2, or a field out of its bounds),
 * `unsupported` (a feature that this engine does not do, by its name) or `io`.
 */
export async function readQcow2Header(file: BlockNode): Promise<Qcow2Header> {
  const start = Buffer.alloc(SECTOR_BYTES);
  // What lies past the end reads as zeroes, which no field may be where it matters.
  await file.read(0, start.subarray(0, Math.min(SECTOR_BYTES, file.sizeBytes)));
  if (start.readUInt32BE(HEADER.magic) !== MAGIC) {
    throw malformed('the magic number is missing: this is not a qcow2 image', HEADER.magic);
  }
  const clusterBits = start.readUInt32BE(HEADER.clusterBits);
  if (clusterBits < CLUSTER_BITS_MIN || clusterBits > CLUSTER_BITS_MAX) {
    throw malformed(
      `cluster_bits is ${clusterBits}, not between ${CLUSTER_BITS_MIN} and ${CLUSTER_BITS_MAX}`,
      HEADER.clusterBits,
    );
  }
  const first = Buffer.alloc(2 ** clusterBits);
  await file.read(0, first.subarray(0, Math.min(first.length, file.sizeBytes)));
  return parseHeader(first, clusterBits, file.sizeBytes);
}

/** `first` is the whole first cluster. */
function parseHeader(first: Buffer, clusterBits: number, fileBytes: number): Qcow2Header {
  const version = first.readUInt32BE(HEADER.version);
  if (version !== 2 && version !== 3) {
    throw new EngineError('unsupported', `qcow2 header: version ${version} is neither 2 nor 3`, {
      op: 'open',
    });
  }
  const clusterBytes = first.length;
  const headerBytes = version === 2 ? HEADER_V2_BYTES : first.readUInt32BE(HEADER.headerLength);
  if (
    version === 3 &&
    (headerBytes < HEADER_V3_BYTES_MIN || headerBytes % 8 !== 0 || headerBytes > clusterBytes)
  ) {
    throw malformed(`header_length ${headerBytes} is not possible`, HEADER.headerLength);
  }
  const crypt = first.readUInt32BE(HEADER.cryptMethod);
  if (crypt !== 0) {
    const method = CRYPT_METHODS[crypt] ?? `unknown (${crypt})`;
    const text = `qcow2 header: images with ${method} encryption are not supported`;
    throw new EngineError('unsupported', text, { op: 'open', offset: HEADER.cryptMethod });
  }
  const backing = parseBackingName(first);
  const extensions = parseExtensions(first, headerBytes, backing?.offset ?? clusterBytes);
  const features = parseFeatures(first, version, findExtension(extensions, EXTENSION.featureNames));
  const consistent = (features.autoclearFeatures & AUTOCLEAR.bitmaps) !== 0n;
  const bitmaps = consistent ? findExtension(extensions, EXTENSION.bitmaps) : undefined;
  const header: Qcow2Header = {
    version,
    clusterBits,
    clusterBytes,
    sizeBytes: numberAt(first, HEADER.size, 'size', IMAGE_BYTES_MAX),
    l1Entries: first.readUInt32BE(HEADER.l1Size),
    l1Offset: numberAt(first, HEADER.l1TableOffset, 'l1_table_offset', fileBytes),
    refcountTableOffset: numberAt(first, HEADER.refcountTableOffset, 'refcount_table_offset', fileBytes),
    refcountTableClusters: first.readUInt32BE(HEADER.refcountTableClusters),
    snapshotCount: first.readUInt32BE(HEADER.snapshotCount),
    snapshotsOffset: numberAt(first, HEADER.snapshotsOffset, 'snapshots_offset', Number.MAX_SAFE_INTEGER),
    ...features,
    headerBytes,
    compressionType: parseCompression(first, headerBytes, features.incompatibleFeatures),
    backingPath: backing?.path,
    backingFormat: findExtension(extensions, EXTENSION.backingFormat)?.toString('utf8'),
    backingOffset: backing?.offset ?? 0,
    extensions,
    bitmaps: bitmaps && parseBitmapsExtension(bitmaps),
  };
  checkTables(header, fileBytes);
  return header;
}

function parseBackingName(first: Buffer): { offset: number; path: string } | undefined {
  const offset = numberAt(first, HEADER.backingFileOffset, 'backing_file_offset', first.length);
  if (offset === 0) return undefined;
  const length = first.readUInt32BE(HEADER.backingFileSize);
  if (length === 0 || length > BACKING_NAME_BYTES_MAX || offset + length > first.length) {
    throw malformed(`backing_file_size ${length} at ${offset} is not possible`, HEADER.backingFileSize);
  }
  return { offset, path: first.toString('utf8', offset, offset + length) };
}

function parseFeatures(first: Buffer, version: number, names: Buffer | undefined) {
  if (version === 2) {
    return {
      incompatibleFeatures: 0n,
      compatibleFeatures: 0n,
      autoclearFeatures: 0n,
      refcountOrder: REFCOUNT_ORDER_DEFAULT,
    };
  }
  const incompatibleFeatures = first.readBigUInt64BE(HEADER.incompatibleFeatures);
  const unknown = incompatibleFeatures & ~KNOWN_INCOMPATIBLE;
  if (unknown !== 0n) {
    const list = featureNames(unknown, names).join(', ');
    throw new EngineError(
      'unsupported',
      `qcow2 header: the image needs features not supported here: ${list}`,
      {
        op: 'open',
        offset: HEADER.incompatibleFeatures,
      },
    );
  }
  const refcountOrder = first.readUInt32BE(HEADER.refcountOrder);
  if (refcountOrder > REFCOUNT_ORDER_MAX) {
    throw malformed(`refcount_order ${refcountOrder} is above ${REFCOUNT_ORDER_MAX}`, HEADER.refcountOrder);
  }
  return {
    incompatibleFeatures,
    compatibleFeatures: first.readBigUInt64BE(HEADER.compatibleFeatures),
    autoclearFeatures: first.readBigUInt64BE(HEADER.autoclearFeatures),
    refcountOrder,
  };
}

function parseCompression(first: Buffer, headerBytes: number, incompatible: bigint): CompressionType {
  if ((incompatible & INCOMPATIBLE.compressionType) === 0n) return 'zlib';
  const type = headerBytes > HEADER.compressionType ? first.readUInt8(HEADER.compressionType) : 0;
  const name = COMPRESSION_TYPES[type];
  if (name === undefined || type === 0) {
    throw new EngineError('unsupported', `qcow2 header: compression type ${type} is not supported`, {
      op: 'open',
      offset: HEADER.compressionType,
    });
  }
  return name;
}

function checkTables(header: Qcow2Header, fileBytes: number): void {
  const { clusterBytes } = header;
  if (l1EntriesFor(header.sizeBytes, clusterBytes) > header.l1Entries) {
    throw malformed(`l1_size ${header.l1Entries} is too small for ${header.sizeBytes} bytes`, HEADER.l1Size);
  }
  const l1Bytes = header.l1Entries * TABLE_ENTRY_BYTES;
  if (l1Bytes > QCOW2_L1_BYTES_MAX || header.l1Offset + l1Bytes > fileBytes) {
    throw malformed(`an L1 table of ${header.l1Entries} entries does not fit`, HEADER.l1Size);
  }
  if (header.l1Offset % clusterBytes !== 0 || (l1Bytes > 0 && header.l1Offset === 0)) {
    throw malformed(`l1_table_offset ${header.l1Offset} is not a cluster's`, HEADER.l1TableOffset);
  }
  const refcountBytes = header.refcountTableClusters * clusterBytes;
  const refcountsFit =
    refcountBytes > 0 &&
    refcountBytes <= QCOW2_REFCOUNT_TABLE_BYTES_MAX &&
    header.refcountTableOffset + refcountBytes <= fileBytes;
  if (!refcountsFit) {
    throw malformed(
      `a refcount table of ${header.refcountTableClusters} clusters does not fit`,
      HEADER.refcountTableClusters,
    );
  }
  if (header.refcountTableOffset === 0 || header.refcountTableOffset % clusterBytes !== 0) {
    throw malformed(
      `refcount_table_offset ${header.refcountTableOffset} is not a cluster's`,
      HEADER.refcountTableOffset,
    );
  }
}

/** L1 entries that a disk of that size needs; each maps one cluster full of L2 entries. */
export function l1EntriesFor(sizeBytes: number, clusterBytes: number): number {
  return Math.ceil(sizeBytes / (clusterBytes * (clusterBytes / TABLE_ENTRY_BYTES)));
}

function numberAt(first: Buffer, offset: number, field: string, max: number): number {
  const value = first.readBigUInt64BE(offset);
  if (value > BigInt(max)) throw malformed(`${field} ${value} is above ${max}`, offset);
  return Number(value);
}

function malformed(what: string, offset: number): EngineError {
  return new EngineError('invalid-format', `qcow2 header at byte ${offset}: ${what}`, { op: 'open', offset });
}
