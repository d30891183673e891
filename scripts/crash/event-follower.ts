// A client that follows the events of an installation: at one api after the other, from where the one before broke off.
import { setTimeout as delay } from 'node:timers/promises';
import { createParser } from 'eventsource-parser';
import { POLL_MS } from './limits.ts';

export class EventFollower {
  readonly #urls: readonly string[];
  readonly #stop = new AbortController();
  /** Ids in the order in which they came, since they were taken last. */
  readonly #seen: number[] = [];
  #running: Promise<void> = Promise.resolve();
  #last = 0;

  constructor(urls: readonly string[]) {
    this.#urls = urls;
  }

  /** Of the newest event that it was told of. */
  get last(): number {
    return this.#last;
  }

  start(): void {
    this.#running = this.#run();
  }

  take(): number[] {
    return this.#seen.splice(0);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    for (let turn = 0; !this.#stop.signal.aborted; turn += 1) {
      await this.#follow(this.#urls[turn % this.#urls.length]!).catch(() => {});
      await delay(POLL_MS);
    }
  }

  /** Until the api or the connection ends. */
  async #follow(url: string): Promise<void> {
    const response = await fetch(`${url}/v1/events?follow=true`, {
      headers: { 'last-event-id': String(this.#last) },
      signal: this.#stop.signal,
    });
    if (!response.ok || response.body === null) return;
    const parser = createParser({
      onEvent: ({ id }) => {
        // What has none is not kept.
        if (id === undefined) return;
        this.#last = Number(id);
        this.#seen.push(this.#last);
      },
    });
    const decoder = new TextDecoder();
    for await (const bytes of response.body) parser.feed(decoder.decode(bytes, { stream: true }));
  }
}
