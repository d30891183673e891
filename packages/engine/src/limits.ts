// Every bound of the engine, each with its reason; related ones are asserted against each other at load.
import { strict as assert } from 'node:assert';
import { GiB, KiB, MiB, SECTOR_BYTES, TiB } from './units.ts';

/** Largest image the engine opens: offsets stay exact in a double with room to spare. */
export const IMAGE_BYTES_MAX = 1024 * TiB;

/** Dirty bitmap granularity, bytes per bit (scenario BM-02). */
export const GRANULARITY_BYTES_MIN = SECTOR_BYTES;
export const GRANULARITY_BYTES_MAX = 2 * GiB;
/** Granularity where neither caller nor format says one (scenario BM-01). */
export const GRANULARITY_BYTES_DEFAULT = 64 * KiB;
/** Bitmap names are stored with a 16-bit length field and this limit (scenario BM-03). */
export const BITMAP_NAME_BYTES_MAX = 1023;

/** Smallest unit of copying: what QEMU copies at least, and the usual qcow2 cluster (scenario BK-V7). */
export const COPY_CLUSTER_BYTES_MIN = 64 * KiB;
/** One copy request's buffer. */
export const COPY_CHUNK_BYTES_MAX = 1 * MiB;
/** Copy requests in flight for one job. */
export const COPY_WORKERS_DEFAULT = 16;
export const COPY_WORKERS_MAX = 64;
/** Buffers of one block copy, both guest copies and job copies: memory never grows with the disk. */
export const COPY_MEMORY_BYTES_MAX = 32 * MiB;

/** Reads up to this size try the page cache on the spot: copying them costs less than a thread switch. */
export const FILE_NOWAIT_READ_BYTES_MAX = 64 * KiB;
/** One write of zeroes where the filesystem cannot make them itself. */
export const FILE_ZERO_CHUNK_BYTES = 1 * MiB;
/** Extents one call reports: two system calls each, made without giving way to other requests. */
export const EXTENTS_PER_CALL_MAX = 512;

/** Speed limits are handed out in slices of this many milliseconds (scenario BJ-14). */
export const RATE_SLICE_MS = 100;

assert(COPY_CHUNK_BYTES_MAX >= COPY_CLUSTER_BYTES_MIN);
assert(COPY_WORKERS_DEFAULT * COPY_CHUNK_BYTES_MAX <= COPY_MEMORY_BYTES_MAX);
assert(COPY_WORKERS_DEFAULT <= COPY_WORKERS_MAX);
assert(Number.isSafeInteger(IMAGE_BYTES_MAX));
