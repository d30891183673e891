/** Takes the lock, or tells which live process has it. The lock of a process that has ended is taken over. */
export declare function tryLock(path: string): { release(): void } | { holder: number };
/** The live process that has the lock; null when nobody has it. */
export declare function liveHolder(path: string): number | null;
