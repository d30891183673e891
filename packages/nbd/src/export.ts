// What a server needs of the thing it serves: a small interface that any block device can implement.

/** A request that completed on the spot returns `undefined`; no promise is made for it. */
export type Pending = Promise<void> | undefined;

/** A run of bytes with one status in one metadata context. */
export interface StatusExtent {
  /** Bytes, at least 1. */
  readonly length: number;
  /** 32 bits whose meaning the context defines. */
  readonly flags: number;
}

/**
 * One export. The server calls only with ranges inside `sizeBytes`, aligned to `minBlockBytes`, no writing
 * method on a read-only export, and read and write with at least one byte and at most `maxBlockBytes`.
 * Methods throw or reject with `NbdError` to choose the errno; other errors go through the server's
 * `toErrno`. Buffers belong to the export until the request completes, and to the server afterwards.
 */
export interface NbdExport {
  readonly name: string;
  readonly description?: string;
  /** Shown in LIST; an unlisted export can still be opened by name. */
  readonly listed: boolean;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** A flush on one connection covers writes that were answered on any other. */
  readonly multiConn: boolean;
  /** Powers of two, except that the maximum may be any multiple of the minimum. */
  readonly minBlockBytes: number;
  readonly preferredBlockBytes: number;
  readonly maxBlockBytes: number;
  /** Zeroing is faster than writing zeroes. */
  readonly fastZero: boolean;
  /** Metadata contexts, such as `base:allocation` and `qemu:dirty-bitmap:x`. */
  readonly contexts: readonly string[];
  /** Fills `buffer`. */
  read(offset: number, buffer: Buffer): Pending;
  /** With `fua` the data is durable afterwards. */
  write(offset: number, buffer: Buffer, fua: boolean): Pending;
  /** The range reads as zeroes afterwards; with `mayUnmap` it may become a hole. */
  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending;
  /** The range's content does not matter any more. */
  trim(offset: number, length: number, fua: boolean): Pending;
  /** All writes that completed before are durable afterwards. */
  flush(): Pending;
  /** A hint that the range will soon be read. */
  cache(offset: number, length: number): Pending;
  /** Extents from `offset` on without a gap; may stop early, but never before the first. */
  blockStatus(context: string, offset: number, length: number): StatusExtent[] | Promise<StatusExtent[]>;
}

export interface WriteZeroesOptions {
  readonly mayUnmap: boolean;
  readonly fua: boolean;
}
