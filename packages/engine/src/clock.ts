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

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  sleep: (ms, signal) => delay(ms, undefined, { signal }).catch(() => undefined),
};
