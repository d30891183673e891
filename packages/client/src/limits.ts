// Every bound of the client, with its reason.

/** A service that has not begun to answer by then counts as away. */
export const ANSWER_MAX_MS = 30_000;

/** How long the API keeps a call open that waits for a run and does not say how long. */
export const WAIT_DEFAULT_MS = 30_000;

/** The most that the API gives at once. */
export const PAGE_ITEMS = 200;

/** A POST whose answer was lost is sent again so often, each time later: within four seconds an API is back. */
export const RESEND_MAX = 4;
export const RESEND_FIRST_MS = 250;
export const RESEND_GROWTH = 2;

/** Before a stream of events that broke off is asked for again. */
export const FOLLOW_AGAIN_MS = 2_000;

/** A run is looked at often enough for a bar to move smoothly, and rarely enough to cost nothing. */
export const WATCH_FIRST_MS = 50;
export const WATCH_MAX_MS = 500;
export const WATCH_GROWTH = 1.3;
