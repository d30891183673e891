// Every bound of the suite, each with its reason.

/** Storage nodes, each a host of its own with one volume. */
export const HOSTS = 3;
/** Writers side by side, each with a number that goes from host to host: more of them find a gap sooner. */
export const CHAINS = 8;
/** A volume: as much as the writers need, so that copying it takes milliseconds. */
export const VOLUME_BYTES = 64 * 1024;

/** What the product promises by default: no guest waits longer for a group. */
export const FENCE_LIMIT_MS = 500;
/**
 * Beyond the limit: the timer of a process that does not get the processor comes late, and so does the answer on its
 * way to the guest. Two cores serve four storage nodes, the guests and whatever else is running.
 */
export const WAIT_TOLERANCE_MS = 2_000;

/** A call of a step that gets no answer for so long is taken for lost. */
export const CALL_TIMEOUT_MS = 3_000;
/** Until a killed storage node serves again, a cut link is healed, and every one has been told the decision. */
export const SETTLE_MS = 120_000;
/** Of one run of the product, whose worker may have died: on a busy machine each of its steps takes a second. */
export const RUN_MS_MAX = 300_000;
/** Of each writer between two numbers: without it guests take all of the processor. */
export const WRITER_PAUSE_MS = 2;
/** Pauses between attempts to reach a storage node. */
export const RETRY_MS = 50;

/** Groups without fences until a violation has to show: one in two shows it. */
export const UNFENCED_GROUPS_MAX = 60;
/** Between the commits of two hosts there. */
export const UNFENCED_PAUSE_MS = 20;

/** Groups of the product that stay at a time, each the base of the next one's increments. */
export const GROUPS_KEPT_MAX = 3;
