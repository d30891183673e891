// Callers that wait for runs, all of a process together: one look at the catalog for all of them when something has
// happened, and now and then without a notice. Who waits is woken when its own run is where it waits for.
import type { Catalog } from '@tidemark/catalog';
import { TidemarkError } from '@tidemark/proto';
import type { FastifyBaseLogger } from 'fastify';
import { WAIT_LOOK_MS, WAITS_MAX } from '../limits.ts';

export interface Waiter {
  readonly runId: string;
  readonly until: 'checkpoint' | 'done';
  /** Must not throw. */
  readonly wake: () => void;
}

export class RunWaits {
  readonly #catalog: Catalog;
  readonly #log: FastifyBaseLogger;
  readonly #follow: (heard: () => void) => () => void;
  readonly #waiters = new Set<Waiter>();
  #unfollow: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #looking = false;
  #isNews = false;

  /** `follow` has a listener told of commits until what it returns is called. */
  constructor(options: {
    catalog: Catalog;
    log: FastifyBaseLogger;
    follow: (heard: () => void) => () => void;
  }) {
    this.#catalog = options.catalog;
    this.#log = options.log;
    this.#follow = options.follow;
  }

  get size(): number {
    return this.#waiters.size;
  }

  /** Throws `waits-limit`. */
  requireRoom(): void {
    if (this.#waiters.size < WAITS_MAX) return;
    throw new TidemarkError(
      'waits-limit',
      `${WAITS_MAX} callers wait for runs at this api service, the most there may be. Ask without waiting and follow ` +
        'the run, or ask another api service.',
    );
  }

  /** Look at the run afterwards, not before. Throws `waits-limit`. */
  add(waiter: Waiter): void {
    this.requireRoom();
    this.#waiters.add(waiter);
    this.#unfollow ??= this.#follow(() => this.#look());
    this.#timer ??= setInterval(() => this.#look(), WAIT_LOOK_MS);
  }

  remove(waiter: Waiter): void {
    this.#waiters.delete(waiter);
    if (this.#waiters.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#unfollow?.();
    this.#unfollow = undefined;
  }

  /** One look at a time; what is heard meanwhile has one more follow. */
  #look(): void {
    this.#isNews = true;
    if (this.#looking) return;
    this.#looking = true;
    void this.#lookOn().finally(() => {
      this.#looking = false;
    });
  }

  async #lookOn(): Promise<void> {
    while (this.#isNews && this.#waiters.size > 0) {
      this.#isNews = false;
      const ids = [...new Set([...this.#waiters].map(({ runId }) => runId))];
      try {
        const places = await this.#catalog.runs.places(ids);
        for (const waiter of this.#waiters) {
          const place = places.get(waiter.runId);
          if (place === 'ended' || (place === 'checkpoint' && waiter.until === 'checkpoint')) waiter.wake();
        }
      } catch (error) {
        // Who waits looks by itself when its time is up; a catalog that is back is looked at before.
        this.#log.warn({ err: error }, 'runs that are waited for not looked at');
        return;
      }
    }
  }
}
