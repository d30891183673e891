// Every bound of the command, with its reason.

/** A service that has not begun to answer by then counts as away. */
export const ANSWER_MAX_MS = 30_000;

/** A run is looked at often enough for a bar to move smoothly, and rarely enough to cost nothing. */
export const WATCH_FIRST_MS = 50;
export const WATCH_MAX_MS = 500;
export const WATCH_GROWTH = 1.3;

/** Where nobody watches a bar, a line about progress appears no more often than this. */
export const PROGRESS_LINE_MS = 5_000;

/** Items asked for with each page when a whole list is shown. */
export const PAGE_ITEMS = 200;

/** Before a stream of events that broke off is asked for again. */
export const FOLLOW_AGAIN_MS = 2_000;

/** A firing is looked at this often while somebody waits for its end; it takes seconds at least. */
export const FIRING_LOOK_MS = 250;
