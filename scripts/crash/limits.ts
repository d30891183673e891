// Sizes and times of the crash suite: small disks, so that a round takes seconds, and bounds beyond which something
// hangs.

export const BLOCK_BYTES = 4096;
/** Of a dirty bitmap: what a checkpoint's bit stands for. */
export const GRANULE_BYTES = 64 * 1024;
export const BLOCKS_OF_A_GRANULE = GRANULE_BYTES / BLOCK_BYTES;
/** Four regions of a write-intent log: after a crash not all of the disk may be dirty. */
export const DISK_BYTES = 64 * 1024 * 1024;
export const DISK_BLOCKS = DISK_BYTES / BLOCK_BYTES;
export const DISK_GRANULES = DISK_BYTES / GRANULE_BYTES;
/** Of a write-intent log: what is marked as changed together after a crash. */
export const REGION_BYTES = 16 * 1024 * 1024;
export const REGION_GRANULES = REGION_BYTES / GRANULE_BYTES;
export const DISK_REGIONS = DISK_BYTES / REGION_BYTES;
/** A region leaves the log when bits are stored, every 5 s at the latest; a busy machine takes longer. */
export const LOG_KEEPS_MS = 30_000;

/** Where a guest writes in one round: runs of granules in one region. No more than a quarter of the disk gets full. */
export const ZONES = 6;
export const ZONE_GRANULES_MAX = 3;
export const ZONE_PLACE_GRANULES = 4;
export const ZONE_STRIDE_GRANULES = 16;
/** Of a region being left for another: what its log names has to be told from the rest of the disk. */
export const REGION_CHANCE = 0.15;
export const LANES = 3;
/** Pause of a lane between two requests: a guest, not a benchmark. */
export const GUEST_PAUSE_MS_MAX = 40;

/** All services are back, and every run has ended, this soon after a kill; more is a hang. */
export const SETTLE_MS = 90_000;
/** A kill point that was not passed by then is not going to be: the process is killed as it is. */
export const POINT_WAIT_MS = 4_000;
/** Latest random moment of a kill, from the first operation on. */
export const MOMENT_MS_MAX = 1_200;
export const POLL_MS = 25;
export const REQUEST_TIMEOUT_MS = 20_000;

/** Nothing in a round takes this long: what does hangs, and the suite says so instead of hanging with it. */
export const ROUND_MS_MAX = 6 * SETTLE_MS;

/** Checkpoints of a disk beyond which one is deleted, and backups in a chain beyond which a full one begins. */
export const CHECKPOINTS_KEPT = 6;
export const CHAIN_KEPT = 8;

/** As short as a worker's lease may be: a round waits for those of dead ones. One that sleeps outlasts its own. */
export const LEASE_MS = 3_000;
export const SLEEP_MS = 5_000;

/** What the guests' volumes have in common, and no other volume has. */
export const DISK_LABELS = { holds: 'a-guest' };
export const DISK_SELECTOR = 'holds=a-guest';

/** Between two looks whether rules of replication have come to rest. */
export const RULE_LOOK_MS = 250;

/** Policies, webhooks and tokens beyond which one is removed, and the pause between two calls about them. */
export const FACTS_KEPT = 12;
export const FACT_PAUSE_MS_MAX = 300;

/** What a storage node knows of its volumes may be missing from an answer right after it came back. */
export const FACTS_ATTEMPTS_MAX = 20;
export const FACTS_PAUSE_MS = 250;

/** Of a volume that is written to while its storage node is drained; and the longest pause before and after that. */
export const SPARE_BYTES = 1024 * 1024;
export const CARE_AFTER_MS_MAX = 500;

/** Rounds on one installation; then the next begins on an empty one, with the other kind of queue. */
export const ROUNDS_OF_A_WORLD = 50;
/** A restored volume is there for so many rounds, to be restored over. */
export const ROUNDS_OF_A_RESTORE = 3;
/** How long a Redis that was killed stays away. */
export const QUEUE_AWAY_MS = 400;
/** The reconciler compares everything, which takes a moment. */
export const ROUNDS_A_RECONCILIATION = 8;
