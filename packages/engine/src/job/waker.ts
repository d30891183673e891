// Waiting that a verb can cut short: a job sleeps here, and pause, cancel, a new speed or a drain wake it.
import type { Clock } from '../clock.ts';

export class Waker {
  readonly #clock: Clock;
  #controller = new AbortController();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Ends every wait that is under way; later ones begin anew. */
  wake(): void {
    const woken = this.#controller;
    this.#controller = new AbortController();
    woken.abort();
  }

  /** Resolves after `ms`, or at the next `wake`. */
  sleep(ms: number): Promise<void> {
    return this.#clock.sleep(ms, this.#controller.signal);
  }

  /** Resolves at the next `wake`. */
  untilWoken(): Promise<void> {
    const { signal } = this.#controller;
    return new Promise(resolve => signal.addEventListener('abort', () => resolve(), { once: true }));
  }
}
