// The qcow2 format as data: offsets, numbers and masks of QEMU's document docs/interop/qcow2.txt,
// whose section titles the comments name. All numbers on disk are big-endian.

/** "QFI\xfb" */
export const MAGIC = 0x514649fb;

/** Section "Header". Values: offset of each field in bytes. */
export const HEADER = {
  magic: 0,
  version: 4,
  backingFileOffset: 8,
  backingFileSize: 16,
  clusterBits: 20,
  size: 24,
  cryptMethod: 32,
  l1Size: 36,
  l1TableOffset: 40,
  refcountTableOffset: 48,
  refcountTableClusters: 56,
  snapshotCount: 60,
  snapshotsOffset: 64,
  incompatibleFeatures: 72,
  compatibleFeatures: 80,
  autoclearFeatures: 88,
  refcountOrder: 96,
  headerLength: 100,
  compressionType: 104,
} as const;

export const HEADER_V2_BYTES = 72;
export const HEADER_V3_BYTES_MIN = 104;
/** What is written: up to and with the compression type, padded to a multiple of 8. */
export const HEADER_V3_BYTES_WRITTEN = 112;

/** 512 B by the document; 2 MiB is the most that QEMU opens. */
export const CLUSTER_BITS_MIN = 9;
export const CLUSTER_BITS_MAX = 21;
export const CLUSTER_BITS_DEFAULT = 16;

export const BACKING_NAME_BYTES_MAX = 1023;
/** 16-bit refcounts: the order that every version 2 image has, and the one that is written. */
export const REFCOUNT_ORDER_DEFAULT = 4;
export const REFCOUNT_ORDER_MAX = 6;

/** Values of crypt_method that the document names. */
export const CRYPT_METHODS: Readonly<Record<number, string>> = { 1: 'AES', 2: 'LUKS' };

export const COMPATIBLE = {
  lazyRefcounts: 1n << 0n,
} as const;

export const AUTOCLEAR = {
  /** The bitmaps of the extension are consistent; without it they are not. */
  bitmaps: 1n << 0n,
} as const;

export const INCOMPATIBLE = {
  dirty: 1n << 0n,
  corrupt: 1n << 1n,
  externalData: 1n << 2n,
  compressionType: 1n << 3n,
  extendedL2: 1n << 4n,
} as const;

/** Section "Feature name table": type (0 incompatible, 1 compatible, 2 autoclear), bit, name. */
export const FEATURE_NAMES: readonly (readonly [type: number, bit: number, name: string])[] = [
  [0, 0, 'dirty bit'],
  [0, 1, 'corrupt bit'],
  [0, 2, 'external data file'],
  [0, 3, 'compression type'],
  [0, 4, 'extended L2 entries'],
  [1, 0, 'lazy refcounts'],
  [2, 0, 'bitmaps'],
  [2, 1, 'raw external data'],
];
export const FEATURE_ENTRY_BYTES = 48;

/** Section "Header extensions". */
export const EXTENSION = {
  end: 0x00000000,
  backingFormat: 0xe2792aca,
  featureNames: 0x6803f857,
  bitmaps: 0x23852875,
} as const;
/** Type and length, before the data of each. */
export const EXTENSION_HEAD_BYTES = 8;
/** Section "Bitmaps extension". */
export const BITMAPS_EXTENSION_BYTES = 24;

/** Values of the field compression_type. */
export const COMPRESSION_TYPES = ['zlib', 'zstd'] as const;
export type CompressionType = (typeof COMPRESSION_TYPES)[number];

/** Section "Cluster mapping", L1 table entry. */
export const L1_OFFSET_MASK = 0x00fffffffffffe00n;
export const L1_RESERVED_MASK = 0x7f000000000001ffn;

/** Section "Cluster mapping", L2 table entry and standard cluster descriptor. */
export const L2_OFFSET_MASK = 0x00fffffffffffe00n;
export const L2_ZERO_FLAG = 1n;
export const L2_RESERVED_MASK = 0x3f000000000001fen;
/** Standard cluster (or L2 table, in L1) whose refcount is exactly one: it may be written in place. */
export const COPIED_FLAG = 1n << 63n;
export const COMPRESSED_FLAG = 1n << 62n;

/** Section "Snapshots": the fixed part of an entry, and the extra data that version 3 wants. */
export const SNAPSHOT_ENTRY_BYTES = 40;
export const SNAPSHOT_EXTRA_BYTES = 16;

/** Section "Bitmap directory": the fixed part of an entry, its flags, and its only type. */
export const BITMAP_ENTRY_BYTES = 24;
export const BITMAP_FLAG = { inUse: 1, auto: 2, extraDataCompatible: 4 } as const;
export const BITMAP_TYPE_DIRTY_TRACKING = 1;
/** Section "Bitmap table". */
export const BITMAP_TABLE_OFFSET_MASK = 0x00fffffffffffe00n;
export const BITMAP_TABLE_ONES_FLAG = 1n;

/** Section "Host cluster management", refcount table entry. */
export const REFCOUNT_TABLE_RESERVED_MASK = 0x1ffn;

export const TABLE_ENTRY_BYTES = 8;
/** Compressed data is counted in units of this size. */
export const COMPRESSED_SECTOR_BYTES = 512;
