// Waiting that a verb can cut short: a job sleeps here, and pause, cancel, a new speed or a drain wake it.
// A wake that finds nobody waiting is kept for the next wait: who looks around and then waits misses nothing.
import type { Clock } from '../clock.ts';

export class Waker {
  readonly #clock: Clock;
  #controller = new AbortController();
  #waiting = false;
  #kept = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Ends the wait that is under way, or else the next one. */
  wake(): void {
    if (!this.#waiting) {
      this.#kept = true;
      return;
    }
    const woken = this.#controller;
    this.#controller = new AbortController();
    this.#waiting = false;
    woken.abort();
  }

  /** Resolves after `ms`, or at a `wake`. */
  sleep(ms: number): Promise<void> {
    return this.#wait(signal => this.#clock.sleep(ms, signal));
  }

  /** Resolves at a `wake`. */
  untilWoken(): Promise<void> {
    return this.#wait(
      signal => new Promise(resolve => signal.addEventListener('abort', () => resolve(), { once: true })),
    );
  }

  async #wait(until: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const kept = this.#kept;
    this.#kept = false;
    if (kept) return;
    this.#waiting = true;
    await until(this.#controller.signal);
    this.#waiting = false;
  }
}
