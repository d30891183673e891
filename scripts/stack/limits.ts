// The times of the stack. The stop times add up to fifteen seconds, the most that Ctrl-C may take.

/** First start on a slow, busy machine. */
export const READY_TIMEOUT_MS = 60_000;
export const READY_POLL_MS = 50;

/** A service that fails at once is tried again after these, doubling. */
export const RESTART_DELAY_MIN_MS = 250;
export const RESTART_DELAY_MAX_MS = 10_000;
/** A service that has run this long was healthy: the next restart begins with the shortest delay again. */
export const HEALTHY_AFTER_MS = 30_000;

/** For the api and the worker, together. What they had in hand is in the catalog and goes on next time. */
export const STOP_SERVICES_MS = 4_000;
/** For the storage nodes, together: they write their state. */
export const STOP_STORAGE_NODES_MS = 4_000;

/** A log that has grown past this is put aside at the next start, replacing the one put aside before. */
export const LOG_BYTES_MAX = 16 * 1024 * 1024;
