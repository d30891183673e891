// What lies where on the demo's disk, and the bounds of everything the demo keeps or waits for.

import { strict as assert } from 'node:assert';

const MiB = 1024 * 1024;

/** A range of a disk, in bytes. */
export interface Range {
  readonly offset: number;
  readonly length: number;
}

export const DISK_BYTES = 1024 * MiB;
/** From the start of the disk, so that e2fsck finds its superblock in a restored file. */
export const FILESYSTEM: Range = { offset: 0, length: 256 * MiB };
/** Away from the filesystem: what is written here never goes through it. */
export const WRITER_REGION: Range = { offset: 640 * MiB, length: 64 * MiB };

/** Real files put into the filesystem: it must have room for them and for what the days add. */
export const FILES_BYTES_MAX = 144 * MiB;
/** A tar is not compact like a filesystem: fewer files, so that it stays quick to make. */
export const TAR_FILES_BYTES_MAX = 96 * MiB;
/** One file: many middling ones say more than a few huge ones. */
export const FILE_BYTES_MAX = 24 * MiB;

/** Writes in flight: a busy guest's queue. */
export const WRITES_IN_FLIGHT = 16;
/** Some two minutes at 30,000 writes a second; 12 bytes each. */
export const WRITES_MAX = 4_000_000;

/** Alone, before a backup begins: long enough for a figure. */
export const WRITER_ALONE_MS = 1_500;
/** After the reply, at least: most of it must not be in the backup. */
export const WRITER_AFTER_MS = 1_000;
/** A run that takes longer than this is stuck. */
export const RUN_TIMEOUT_MS = 300_000;
export const RUN_POLL_MS = 100;
/** Requests of one reader or copier in flight: hides the round trip, holds 8 MiB. */
export const TRANSFERS_IN_FLIGHT = 8;
/** One request of them, and the unit of the hashes. */
export const REGION_BYTES = MiB;
/** Faults said one by one; the rest is counted. */
export const FAULTS_SAID_MAX = 10;

assert(
  FILESYSTEM.offset + FILESYSTEM.length <= WRITER_REGION.offset,
  'the writer leaves the filesystem alone',
);
assert(WRITER_REGION.offset + WRITER_REGION.length <= DISK_BYTES);
assert(
  [FILESYSTEM.length, WRITER_REGION.offset, WRITER_REGION.length, DISK_BYTES].every(
    at => at % REGION_BYTES === 0,
  ),
);
assert(TAR_FILES_BYTES_MAX < FILES_BYTES_MAX && FILES_BYTES_MAX < FILESYSTEM.length / 1.5);
