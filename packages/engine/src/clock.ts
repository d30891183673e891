// Time as the engine sees it: handed in, so that tests decide when it passes.
import { setTimeout as delay } from 'node:timers/promises';

export interface Clock {
  /** Milliseconds that never go backwards; only differences mean something. */
  monotonicMs(): number;
  /** Milliseconds since 1970, for records that people read. */
  wallMs(): number;
  /** Resolves after `ms`, or at once when `signal` aborts. Never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The longest a timer of the runtime can be; a longer one would end at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  async sleep(ms, signal) {
    for (let left = ms; ; left -= TIMER_MS_MAX) {
      await delay(Math.min(left, TIMER_MS_MAX), undefined, { signal }).catch(() => undefined);
      if (left <= TIMER_MS_MAX || signal?.aborted === true) return;
    }
  },
};
