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

/** Copies in flight of one mirror job, and its memory where nobody says: as QEMU has it. */
export const MIRROR_REQUESTS_MAX = 16;
export const MIRROR_BUFFER_BYTES_DEFAULT = 16 * MiB;
/** What a mirror job may be given as memory: its requests then are as large as is worth it. */
export const MIRROR_BUFFER_BYTES_MAX = 256 * MiB;
/** One step of a commit or stream job: what QEMU copies between two looks at the speed limit. */
export const CHAIN_CHUNK_BYTES = 512 * KiB;

/** Reads up to this size try the page cache on the spot: copying them costs less than a thread switch. */
export const FILE_NOWAIT_READ_BYTES_MAX = 64 * KiB;
/** Clusters of one request that are compressed side by side: each takes about half a MiB for as long. */
export const QCOW2_COMPRESSIONS_AT_ONCE = 8;
/** One write of zeroes where the filesystem cannot make them itself. */
export const FILE_ZERO_CHUNK_BYTES = 1 * MiB;
/** The largest block of a device that a file opened with O_DIRECT can lie on. */
export const FILE_DIRECT_BLOCK_BYTES_MAX = 4 * KiB;
/** One piece of aligned memory, and so one read or write, of a file opened with O_DIRECT. */
export const FILE_DIRECT_CHUNK_BYTES = 1 * MiB;
/** Such pieces per file: as many as the thread pool could be busy with. */
export const FILE_DIRECT_REQUESTS_MAX = 16;
/** Extents one call reports: two system calls each, made without giving way to other requests. */
export const EXTENTS_PER_CALL_MAX = 512;

/** L1 table of a qcow2 image, kept in memory; QEMU's own bound, 8 TiB take 128 KiB of it at 64 KiB clusters. */
export const QCOW2_L1_BYTES_MAX = 32 * MiB;
/** Internal snapshots of one image; QEMU's own bound. */
export const QCOW2_SNAPSHOTS_MAX = 65_536;
/** Snapshot table: that many entries of names of common length, and an end to hostile ones. */
export const QCOW2_SNAPSHOT_TABLE_BYTES_MAX = 64 * MiB;
/** Extra data of one snapshot; the format uses 16 bytes of it so far. */
export const QCOW2_SNAPSHOT_EXTRA_BYTES_MAX = 1 * KiB;
/** Bitmaps stored in one image; QEMU's own bound. */
export const QCOW2_BITMAPS_MAX = 65_535;
/** Bitmap directory: that many entries with the longest names, and little extra data. */
export const QCOW2_BITMAP_DIRECTORY_BYTES_MAX = 72 * MiB;
/** Bits of one stored bitmap, which are in memory as long as the image is open; QEMU's own bound. */
export const QCOW2_BITMAP_BYTES_MAX = 512 * MiB;
/** Bits of a stored bitmap that are taken over at once: each time costs a pass over all of its bits. */
export const QCOW2_BITMAP_PART_BYTES = 32 * MiB;
/** All bitmaps of one image together: sixty for a disk of 8 TiB at 64 KiB, and an end to hostile ones. */
export const QCOW2_BITMAPS_MEMORY_BYTES_MAX = 1 * GiB;
/** Clusters that a check counts: 4 bytes of memory each, 16 TiB of image at 64 KiB. */
export const QCOW2_CHECKED_CLUSTERS_MAX = 2 ** 28;
/** L2 tables that a check reads, those of snapshots each time anew: minutes, where a hostile image could mean days. */
export const QCOW2_CHECKED_TABLES_MAX = 2 ** 24;
/** Findings of a check that are told in words; all are counted. */
export const QCOW2_CHECK_FINDINGS_MAX = 100;
/** Refcount table of a qcow2 image, kept in memory; QEMU's own bound. */
export const QCOW2_REFCOUNT_TABLE_BYTES_MAX = 8 * MiB;
/** Cached L2 tables of one image: 128 of them map 64 GiB at 64 KiB clusters. */
export const QCOW2_L2_CACHE_BYTES_MAX = 8 * MiB;
/** Cached refcount blocks of one image: allocation walks forward, so a few do. */
export const QCOW2_REFCOUNT_CACHE_BYTES_MAX = 1 * MiB;
/** L2 tables cached by all images of one chain together, whatever its depth. */
export const IMAGE_CHAIN_CACHE_BYTES_MAX = 32 * MiB;
/** A cache of fewer tables would throw out the one that the next step needs. */
export const QCOW2_CACHED_TABLES_MIN = 2;
/** Images below one another: a backup a day for most of a year, and an end to a hostile chain. */
export const IMAGE_CHAIN_DEPTH_MAX = 256;
/** Block nodes below one another: a chain of images with filters between, and an end to any recursion. */
export const GRAPH_DEPTH_MAX = 512;
/** A block node's name, as in QEMU. */
export const NODE_NAME_BYTES_MAX = 31;
/** A qcow2 file grows by steps of this size, so that allocating seldom costs a system call. */
export const QCOW2_FILE_GROWTH_BYTES = 16 * MiB;
/**
 * Clusters past the end of a qcow2 file that count as used: what a power cut took back of a file that had grown is
 * far less, so that beyond it the counts are wrong.
 */
export const QCOW2_FILE_GAP_BYTES_MAX = 16 * GiB;
/** Freed clusters wait for the metadata to be durable; with this many runs the request waits too. */
export const QCOW2_PENDING_FREE_RUNS_MAX = 4096;
/** With this many bytes waiting to be freed, the metadata is written without being asked. */
export const QCOW2_PENDING_FREE_BYTES_MAX = 64 * MiB;

/** Speed limits are handed out in slices of this many milliseconds (scenario BJ-14). */
export const RATE_SLICE_MS = 100;

/** A job that ignores an error which stays does the request again this often, not as fast as it can. */
export const ERROR_RETRY_MS = 100;
/** Job events kept for replay: a busy hour of a storage node, in a few MiB. */
export const JOB_EVENTS_KEPT_MAX = 10_000;
/** Waits at one fence that are kept for their percentile, 512 KiB; all are counted, and the longest is known. */
export const FENCE_WAITS_KEPT_MAX = 65_536;

assert(COPY_CHUNK_BYTES_MAX >= COPY_CLUSTER_BYTES_MIN);
assert(COPY_WORKERS_DEFAULT * COPY_CHUNK_BYTES_MAX <= COPY_MEMORY_BYTES_MAX);
assert(COPY_WORKERS_DEFAULT <= COPY_WORKERS_MAX);
assert(Number.isSafeInteger(IMAGE_BYTES_MAX));
