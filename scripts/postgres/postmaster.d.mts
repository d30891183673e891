/** Frees the data directory of an orphan postmaster or a stale pid file; tells which it was. */
export declare function clearPostmaster(dataDir: string): Promise<'free' | 'stale' | 'stopped'>;
