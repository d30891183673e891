// What every request of the engine returns.

/**
 * What a request returns: nothing when it was done on the spot, a promise when it has to wait. The
 * small request that the page cache can serve then costs no promise at all.
 */
export type Pending = Promise<void> | undefined;
