// Hands out bytes in slices of fixed length, so that the same speed gives the same steps on any machine
// (scenarios BJ-14, BJ-15): a slice has a quota, and whoever exceeds it waits for the next slices to pay.
import type { Clock } from '../clock.ts';
import { RATE_SLICE_MS } from '../limits.ts';

export class RateLimit {
  readonly #clock: Clock;
  #bytesPerSecond = 0;
  #sliceStart = 0;
  #sliceEnd = 0;
  #dispatched = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** 0: no limit. */
  get bytesPerSecond(): number {
    return this.#bytesPerSecond;
  }

  setSpeed(bytesPerSecond: number): void {
    this.#bytesPerSecond = bytesPerSecond;
    this.#sliceEnd = 0;
    this.#dispatched = 0;
  }

  /** Counts `bytes` as sent; returns how many milliseconds to wait before sending more. */
  account(bytes: number): number {
    if (this.#bytesPerSecond === 0) return 0;
    const now = this.#clock.monotonicMs();
    if (now >= this.#sliceEnd) {
      this.#sliceStart = now;
      this.#sliceEnd = now + RATE_SLICE_MS;
      this.#dispatched = 0;
    }
    this.#dispatched += bytes;
    const quota = Math.max(1, (this.#bytesPerSecond * RATE_SLICE_MS) / 1000);
    if (this.#dispatched < quota) return 0;
    const slices = this.#dispatched / quota;
    this.#sliceEnd = this.#sliceStart + slices * RATE_SLICE_MS;
    return this.#sliceEnd - now;
  }
}
