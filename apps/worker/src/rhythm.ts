// Something done again and again, one at a time, whose failures are told once and do not end it.
import type { Logger } from 'pino';

export class Rhythm {
  readonly #beat: () => Promise<void>;
  readonly #everyMs: number;
  readonly #log: Logger;
  #timer: NodeJS.Timeout | undefined;
  #current: Promise<void> = Promise.resolve();
  #closed = false;
  #failing = false;

  /** `everyMs`: from the end of one beat to the beginning of the next. */
  constructor(beat: () => Promise<void>, everyMs: number, log: Logger) {
    this.#beat = beat;
    this.#everyMs = everyMs;
    this.#log = log;
  }

  /** The first beat comes at once. */
  start(): void {
    this.#current = this.#once().then(() => this.#schedule());
  }

  /** Afterwards no beat is under way, and none will be. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#current;
  }

  #schedule(): void {
    if (!this.#closed) this.#timer = setTimeout(() => this.start(), this.#everyMs);
  }

  async #once(): Promise<void> {
    try {
      await this.#beat();
      if (this.#failing) this.#log.info('works again');
      this.#failing = false;
    } catch (error) {
      if (!this.#failing) this.#log.error({ err: error }, 'failed; will try again');
      this.#failing = true;
    }
  }
}
