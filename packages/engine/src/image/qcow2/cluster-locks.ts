// Guest ranges whose mapping is being changed. Whoever wants to change an overlapping one waits; requests
// that only follow the mapping do not. A list: it is as short as the requests in flight are few.

export interface ClusterLock {
  /** Bytes of the virtual disk, cluster-aligned. */
  readonly start: number;
  readonly end: number;
  /** Resolves when the lock is released. */
  readonly released: Promise<void>;
}

interface HeldLock extends ClusterLock {
  resolve: () => void;
}

export class ClusterLocks {
  readonly #held = new Set<HeldLock>();

  /** The held lock with the lowest start that overlaps the range. */
  firstOverlap(start: number, end: number): ClusterLock | undefined {
    let first: HeldLock | undefined;
    for (const lock of this.#held) {
      if (lock.start < end && lock.end > start && (first === undefined || lock.start < first.start))
        first = lock;
    }
    return first;
  }

  /** The caller has just seen that nothing overlaps. */
  acquire(start: number, end: number): ClusterLock {
    const { promise, resolve } = Promise.withResolvers<void>();
    const lock: HeldLock = { start, end, released: promise, resolve };
    this.#held.add(lock);
    return lock;
  }

  release(lock: ClusterLock): void {
    this.#held.delete(lock as HeldLock);
    (lock as HeldLock).resolve();
  }
}
