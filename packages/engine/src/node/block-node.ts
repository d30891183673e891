// The interface of every driver and filter. Callers never hold a BlockNode: they go through the
// GraphNode around it, which checks range, permission and alignment, so that drivers never re-check.
import type { DirtyBitmap } from '../bitmap/dirty-bitmap.ts';
import type { Extent } from '../extent.ts';
import type { NodeFile } from '../file/node-file.ts';
import type { Pending } from '../pending.ts';

export interface WriteZeroesOptions {
  /** The range may become a hole; without it space stays allocated where the format can say so. */
  mayUnmap: boolean;
}

/** A named edge to a block node below: `file` (protocol or filtered child), `backing`, `target`. */
export interface Child {
  readonly role: 'file' | 'backing' | 'target';
  readonly node: BlockNode;
}

/** A disk as of a past moment. Outside of what is kept, or once it is broken, reads reject with kind `denied`. */
export interface SnapshotSource {
  read(offset: number, buffer: Buffer): Pending;
  extents(offset: number, length: number): Extent[] | Promise<Extent[]>;
  /** Nobody needs the range any more: it is copied no longer, and its space is given back. */
  discard(offset: number, length: number): Pending;
}

/** Bytes of a file of this host. */
export interface HostRange {
  readonly file: NodeFile;
  readonly offset: number;
}

export interface BlockNode {
  /** The driver's name as QEMU has it: `file`, `raw`, `qcow2`, `nbd`, `copy-before-write`, … */
  readonly driver: string;
  /** Bytes; every request lies inside. */
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** Offset and length of every request must be multiples of this; 1 where any will do. */
  readonly requestAlignmentBytes: number;
  /** The format's cluster size in bytes, or undefined where the format has none. */
  readonly clusterSizeBytes: number | undefined;

  /** Fills the whole of `buffer`. Rejects with kind `io`, `corrupt` or `denied`. */
  read(offset: number, buffer: Buffer): Pending;

  /**
   * Writes the whole of `buffer`, which stays the driver's until the request has ended. Durable only
   * after a later `flush`. Rejects with kind `io` (errno `ENOSPC`: the place is full).
   */
  write(offset: number, buffer: Buffer): Pending;

  /** Afterwards the range reads as zeroes. */
  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending;

  /** A hint that the range is no longer needed; what it reads as afterwards is the driver's choice. */
  discard(offset: number, length: number): Pending;

  /** Afterwards every write that had ended before the call survives a power cut. */
  flush(): Pending;

  /**
   * Status of [offset, offset + length), in order, without gaps, starting at `offset`, never beyond the
   * end of the range. May stop early (at least one extent is returned): callers go on from there.
   */
  extents(offset: number, length: number): Extent[] | Promise<Extent[]>;

  /** Where the bytes of the range lie as they are; undefined where they lie in another form, or in no file. */
  hostRange?(offset: number, length: number): HostRange | undefined;

  /**
   * As `write`, of bytes that the kernel moves by itself; undefined where it cannot. Where it rejects, part of
   * the range may have been written.
   */
  writeHostRange?(offset: number, from: HostRange, length: number): Promise<void> | undefined;

  /** True where `writeCompressed` stores less than it is given. */
  readonly canCompress?: boolean;

  /**
   * Writes whole clusters (the last one may end with the disk), compressed where that makes them smaller.
   * Reads back as what was written.
   */
  writeCompressed?(offset: number, buffer: Buffer): Pending;

  /**
   * The frozen moment behind this block node, where it is a filter that keeps one (copy-before-write), for
   * a snapshot-access node above it.
   */
  readonly snapshot?: SnapshotSource | undefined;

  /**
   * Why a bitmap like this cannot be kept in the image beside so many others, in QEMU's words; undefined as an
   * answer: it can. Undefined as a member: the format has no place for bitmaps.
   */
  refusesBitmap?(bitmap: { name: string; granularityBytes: number; others: number }): string | undefined;

  /**
   * The bitmaps that the image keeps, as opening found them; once. Whoever takes them records writes from then on
   * and gives them to `storeBitmaps` in the end; until then the image says of them that they are in use.
   */
  takeBitmaps?(): readonly DirtyBitmap[];

  /**
   * With nothing in flight: the image keeps exactly these, as they are now, durably. Rejects with kind `io` or
   * `unsupported`; it keeps the old ones then, in use.
   */
  storeBitmaps?(bitmaps: readonly DirtyBitmap[]): Promise<void>;

  /** To be called before the next write after `storeBitmaps`: the image says that they are in use again. */
  resumeBitmaps?(): Promise<void>;

  /**
   * Told by the layer above what it is about to do, such as `read_aio` or `flush_to_disk`, so that a
   * blkdebug node below can choose the moment of a fault. Without effect elsewhere.
   */
  debugEvent?(event: string): void;

  /** Somebody waits for all requests to end: from here to `drainEnd` none may be held back for long. */
  drainBegin?(): void;
  drainEnd?(): void;

  /**
   * Told what all users of the node use and share, as masks of PERMISSION, before they do. Throws kind `busy`
   * where somebody outside of this process excludes it. Returns the way back, which must not throw.
   */
  setPermissions?(total: { uses: number; shares: number }): () => void;

  /** Changes the size; undefined where the driver cannot. New bytes read as zeroes. */
  resize?(sizeBytes: number): Promise<void>;

  /** Bytes of storage this node occupies, where it can tell. */
  allocatedBytes?(): Promise<number>;

  /**
   * Ends requests in flight early, with an error, where waiting for them could take for ever (a network
   * peer that hangs). The node may be of no use afterwards.
   */
  cancelInFlight?(): void;

  /** Flushes what is cached and lets go of files and connections. Not to be used afterwards. */
  close(): Promise<void>;
}
