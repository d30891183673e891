// Every bound of the storage node process, each with its reason.
import { strict as assert } from 'node:assert';
import { IMAGE_CHAIN_DEPTH_MAX } from '@tidemark/engine';

/** Runs whose steps are remembered; the oldest are forgotten first. A run file is about 1 KiB. */
export const LEDGER_RUNS_MAX = 4096;
/** A run that has not been heard of for this long is forgotten: no attempt comes back that late. */
export const LEDGER_RUN_AGE_MAX_MS = 14 * 24 * 60 * 60 * 1000;
/** Steps remembered for one run; a run has fewer than ten, the rest is room for retries of new names. */
export const LEDGER_STEPS_MAX = 64;
/** A step's name, in characters: names are words, not data. */
export const STEP_NAME_LENGTH_MAX = 128;

/** A state file is read into memory whole; bitmaps of the largest volume stay well below this. */
export const STATE_FILE_BYTES_MAX = 512 * 1024 * 1024;

/** A repository's name, in characters. */
export const NAME_LENGTH_MAX = 255;

/** Backups that are being written or read at once; each holds an image chain's descriptors. */
export const BACKUPS_OPEN_MAX = 256;
/** Backups in one chain; each image of it costs a descriptor and an L2 look-up per request. */
export const CHAIN_LENGTH_MAX = 200;

/** Time for running calls to end when the process is told to stop. */
export const CLOSE_GRACE_MS = 5_000;
/** How often failed NBD requests are told of in the log. */
export const FAILURE_REPORT_INTERVAL_MS = 1_000;
/** Time for a connection to another NBD server to come up before the caller is told. */
export const NBD_CONNECT_TIMEOUT_MS = 10_000;
/** Silence after which another storage node that owes replies is taken for gone: a busy disk answers sooner. */
export const NBD_STALL_TIMEOUT_MS = 60_000;
/** Pauses between attempts to reach a server that went away: short at first, since most come back soon. */
export const RECONNECT_PAUSE_MS_MIN = 100;
export const RECONNECT_PAUSE_MS_MAX = 2_000;
/** How long the copy of a frozen moment waits for its target, a restore for its source: most outages are shorter. */
export const TARGET_RECONNECT_MS = 15_000;
/** As set at most: the run that waits can do better than that. */
export const TARGET_RECONNECT_MS_MAX = 600_000;

/** How often what a cancelled stream waits for is told to give up, until the stream has ended. */
export const STREAM_CANCEL_PAUSE_MS = 100;

/** How often a watcher hears of bytes that moved. */
export const JOB_WATCH_INTERVAL_MS = 100;
/** Ended jobs that nobody dismissed are forgotten beyond this many. */
export const JOBS_KEPT_MAX = 1_000;

/** Places of a job's damage that are told one by one: 64 KiB of memory, and more than anybody reads. */
export const DAMAGE_RANGES_MAX = 4_096;

/** How long a guest's write may wait for its old data to be copied before the backup is given up. */
export const CBW_TIMEOUT_MS = 10_000;
/** Bytes a bit of a checkpoint's bitmap stands for: what a copy never does less than (scenario BM-01). */
export const CHECKPOINT_GRANULARITY_BYTES = 64 * 1024;

/**
 * Checkpoints of one volume: their bitmaps are all held in memory, 2 MiB each for a disk of 1 TiB, and listing them
 * merges each once. The catalog keeps to half of it, so that a new one fits in before old ones go.
 */
export const VOLUME_CHECKPOINTS_MAX = 512;
/** One write of bitmaps that are sent to another storage node: below what NBD servers take at once. */
export const PARCEL_WRITE_BYTES = 8 * 1024 * 1024;
/** A checkpoint's description, in bytes: every change of the volume's record writes all of them. */
export const DESCRIPTION_BYTES_MAX = 4096;
/** Ranges in one part of a list of changes: about 100 KiB of message, and found within a few milliseconds. */
export const CHANGED_RANGES_PART = 8192;

/** One token of a monitor's client, such as a long string; 64 MiB in QEMU, which has more memory to spare. */
export const MONITOR_TOKEN_BYTES_MAX = 8 * 1024 * 1024;
/** One value of a monitor's client: a transaction on thousands of disks is below 1 MiB. */
export const MONITOR_VALUE_BYTES_MAX = 8 * 1024 * 1024;
/** Tokens of one value: each costs an object until the value is whole. */
export const MONITOR_TOKENS_MAX = 256 * 1024;
/** Braces and brackets that are open at once, as in QEMU: reading a value recurses. */
export const MONITOR_DEPTH_MAX = 1024;
/** Answers and events that a monitor's client does not read; beyond this it is dropped. */
export const MONITOR_OUTPUT_BYTES_MAX = 16 * 1024 * 1024;

assert(CHAIN_LENGTH_MAX < IMAGE_CHAIN_DEPTH_MAX, 'the engine opens every chain that is made here');

/** Each costs open files and a little memory, and reads of what nobody wrote since go through all of them. */
export const VOLUME_SNAPSHOTS_MAX = 64;
/** Memory for tables of one image above the lowest. */
export const LAYER_L2_CACHE_BYTES = 2 * 1024 * 1024;

/** Least bytes of one region of a volume's write-intent log: a stream of writes enters a new one now and then. */
export const INTENT_REGION_BYTES_MIN = 16 * 1024 * 1024;
/** Regions of one log: few enough that writes all over a disk keep each of them busy, and none is logged anew. */
export const INTENT_REGIONS_MAX = 8192;
/** Regions that are logged ahead of a sequential writer: more than it can fill while one log write is under way. */
export const INTENT_REGIONS_AHEAD = 8;
/** How often it is looked whether regions can leave the log. */
export const INTENT_LOOK_INTERVAL_MS = 1_000;
/** How often bits are stored while guests write without a pause: what a crash adds is of so long, twice, at most. */
export const INTENT_STORE_INTERVAL_MS = 5_000;
/** Bitmaps of huge disks are stored less often: at most so many bytes a second go into it. */
export const INTENT_STORE_BYTES_PER_SECOND = 4 * 1024 * 1024;

/** How long guests' changes wait for a group at most, unless it is told: less than any guest's time-out. */
export const FENCE_LIMIT_MS = 500;
/** As told at most: guests take a disk for dead at 30 s and more. */
export const FENCE_LIMIT_MS_MAX = 10_000;
/** A group that is not fenced so long after it was prepared is given up: its volumes' other changes wait for it. */
export const GROUP_PREPARED_MS_MAX = 150_000;
/** Volumes of one group on one storage node: all are staged, and have to be released, at once. */
export const GROUP_MEMBERS_MAX = 256;
/** Decided groups that are remembered, to answer late calls: far more than there can be calls on their way. */
export const GROUPS_REMEMBERED_MAX = 256;

/** How long a hook may take, unless it is told, and at most: a freeze that takes longer is no freeze. */
export const HOOK_TIMEOUT_MS = 10_000;
export const HOOK_TIMEOUT_MS_MAX = 120_000;
/** The end of a hook's output that is kept: its last words. */
export const HOOK_OUTPUT_BYTES_MAX = 4_096;
/** How long the rest of its output is waited for once it has ended. */
export const HOOK_OUTPUT_WAIT_MS = 1_000;

assert(FENCE_LIMIT_MS <= FENCE_LIMIT_MS_MAX);
// What is frozen for a group is frozen between the two.
assert(HOOK_TIMEOUT_MS_MAX < GROUP_PREPARED_MS_MAX);

/** Volumes with series of their own: more than one host ever serves. */
export const METRIC_VOLUMES_MAX = 2_000;
/** Pauses between attempts to join a fleet whose API is away: it may be started after its storage nodes. */
export const JOIN_PAUSE_MS_MIN = 500;
export const JOIN_PAUSE_MS_MAX = 30_000;
/** An API that is silent for so long is asked again. */
export const JOIN_ANSWER_MAX_MS = 15_000;
