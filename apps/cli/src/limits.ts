// Every bound of the command, with its reason.

/** Where nobody watches a bar, a line about progress appears no more often than this. */
export const PROGRESS_LINE_MS = 5_000;

/** A firing is looked at this often while somebody waits for its end; it takes seconds at least. */
export const FIRING_LOOK_MS = 250;
