// One client that follows events. It reads a page, writes it, waits until the client has taken it, and only then
// reads on: what it holds is a page, however slow its client is. States: reading → writing → waiting → reading,
// until the client goes, is too slow, asks for what is pruned or not there yet, or the service stops.
import { CatalogError, type EventFilter, type RunningRun } from '@tidemark/catalog';
import { TidemarkError } from '@tidemark/proto';
import type { FastifyBaseLogger } from 'fastify';
import {
  EVENT_ACCESS_MS,
  EVENT_HEARTBEAT_MS,
  EVENT_POLL_MS,
  EVENT_RETRY_MS,
  EVENT_SLOW_CLIENT_MS,
} from '../limits.ts';
import { PROGRESS_KIND, toProgressJson } from '../schemas/event.ts';
import type { EventHub } from './event-hub.ts';
import { toEventJson } from './event-json.ts';
import { eventText, heartbeatText, transientText } from './event-text.ts';

/** What a stream writes to: the answer's socket. */
export interface EventSink {
  write(text: string): boolean;
  end(): void;
  destroy(): void;
  on(event: 'drain' | 'close', listener: () => void): unknown;
}

export interface EventStreamOptions {
  readonly hub: EventHub;
  readonly sink: EventSink;
  readonly filter: EventFilter;
  /** Events after this id. */
  readonly after: number;
  /** Rejects `unauthenticated` when the client may not follow any longer. */
  readonly requireAccess?: (() => Promise<unknown>) | undefined;
  readonly log: FastifyBaseLogger;
  /** Shorter in tests. */
  readonly slowClientMs?: number;
  readonly heartbeatMs?: number;
}

export class EventStream {
  readonly #options: EventStreamOptions;
  readonly #progress = new Map<string, RunningRun>();
  #after: number;
  #ended = false;
  #gone = false;
  /** Something may be new since it was last read. */
  #isNews = false;
  #wake: () => void = () => {};
  /** The client has taken what was written, or there is no use in waiting for that. */
  #drained: () => void = () => {};
  #wroteAt = 0;
  #accessAt = performance.now();

  constructor(options: EventStreamOptions) {
    this.#options = options;
    this.#after = options.after;
    options.sink.on('drain', () => this.#drained());
    options.sink.on('close', () => {
      this.#gone = true;
      this.end();
    });
  }

  get wantsProgress(): boolean {
    const { kinds = [] } = this.#options.filter;
    return kinds.length === 0 || kinds.includes(PROGRESS_KIND);
  }

  /** Events may have been committed. */
  wake(): void {
    this.#isNews = true;
    this.#wake();
  }

  /** Of each run only the newest is kept until it can be written. */
  progressed(runs: readonly RunningRun[]): void {
    if (!this.wantsProgress) return;
    const { subjectId, runId, volumeId } = this.#options.filter;
    for (const run of runs) {
      if (subjectId !== undefined && subjectId !== run.id) continue;
      if (runId !== undefined && runId !== run.id) continue;
      if (volumeId !== undefined && volumeId !== run.volumeId) continue;
      this.#progress.set(run.id, run);
    }
    if (this.#progress.size > 0) this.#wake();
  }

  /** Asks it to end; `run` resolves soon after. */
  end(): void {
    this.#ended = true;
    this.#wake();
    this.#drained();
  }

  /** Resolves when the stream has ended. Never rejects. */
  async run(): Promise<void> {
    const { sink, log } = this.#options;
    try {
      await this.#write(`retry: ${EVENT_RETRY_MS}\n${heartbeatText(this.#after)}`);
      while (!this.#ended) await this.#once();
      if (!this.#gone) sink.end();
    } catch (error) {
      if (!this.#gone) log.warn({ err: error }, 'event stream broken off');
      sink.destroy();
    }
  }

  async #once(): Promise<void> {
    this.#isNews = false;
    if (!(await this.#mayGoOn())) return;
    const more = await this.#readOn();
    await this.#writeProgress();
    if (more || this.#ended) return;
    await this.#untilNews();
    if (performance.now() - this.#wroteAt >= this.#heartbeatMs) await this.#write(heartbeatText(this.#after));
  }

  /** False: it was told why not, and ends. */
  async #mayGoOn(): Promise<boolean> {
    const { requireAccess, log } = this.#options;
    if (requireAccess === undefined || performance.now() - this.#accessAt < EVENT_ACCESS_MS) return true;
    this.#accessAt = performance.now();
    try {
      await requireAccess();
      return true;
    } catch (error) {
      if (error instanceof TidemarkError && error.code === 'unauthenticated') {
        await this.#write(transientText(error.code, { code: error.code, detail: error.message }));
        this.end();
        return false;
      }
      if (!(error instanceof CatalogError)) throw error;
      // Nothing can be read for it either, and it is asked again.
      log.warn({ err: error }, 'access not looked up');
      return true;
    }
  }

  /** Whether there may be more at once. */
  async #readOn(): Promise<boolean> {
    const { hub, filter, log } = this.#options;
    try {
      const { events, upTo, isAll } = await hub.read(this.#after, filter);
      if (events.length > 0) await this.#write(events.map(event => eventText(toEventJson(event))).join(''));
      this.#after = upTo;
      return !isAll;
    } catch (error) {
      if (!(error instanceof CatalogError)) throw error;
      if (error.kind === 'events-pruned' || error.kind === 'events-ahead') {
        // The client was so slow that events went before it had them, or the catalog was replaced by an older copy
        // of it meanwhile: it must not believe that it has all.
        await this.#write(transientText(error.code, { code: error.code, detail: error.message }));
        this.end();
      } else {
        // A catalog that is away comes back; the stream goes on where it was.
        log.warn({ err: error }, 'events not read');
      }
      return false;
    }
  }

  async #writeProgress(): Promise<void> {
    if (this.#progress.size === 0) return;
    const runs = [...this.#progress.values()];
    this.#progress.clear();
    const seen = await this.#options.hub.visibleRuns(runs).catch(error => {
      // Whoever follows hears of the next move.
      if (!(error instanceof CatalogError)) throw error;
      return [];
    });
    if (seen.length === 0) return;
    await this.#write(seen.map(run => transientText(PROGRESS_KIND, toProgressJson(run))).join(''));
  }

  get #heartbeatMs(): number {
    return this.#options.heartbeatMs ?? EVENT_HEARTBEAT_MS;
  }

  async #untilNews(): Promise<void> {
    if (this.#isNews || this.#ended || this.#progress.size > 0) return;
    const quietMs = Math.max(1, this.#wroteAt + this.#heartbeatMs - performance.now());
    await this.#waitFor(
      wake => {
        this.#wake = wake;
      },
      Math.min(quietMs, EVENT_POLL_MS),
    );
    this.#wake = () => {};
  }

  /** Resolves when the client has room for more. Rejects when it is too slow, and when it has to be left. */
  async #write(text: string): Promise<void> {
    // Whoever ends it waits for nobody to take more: what was not sent can be resumed.
    if (this.#gone || this.#ended) return;
    const { sink, slowClientMs = EVENT_SLOW_CLIENT_MS } = this.#options;
    this.#wroteAt = performance.now();
    if (sink.write(text)) return;
    const isInTime = await this.#waitFor(done => {
      this.#drained = done;
    }, slowClientMs);
    this.#drained = () => {};
    if (!isInTime) throw new Error(`the client has not taken what was sent for ${slowClientMs} ms`);
    if (this.#ended && !this.#gone) throw new Error('the stream ends while the client takes nothing');
  }

  /** True when it happened, false when the time was up. */
  #waitFor(listen: (happened: () => void) => void, timeoutMs: number): Promise<boolean> {
    return new Promise(resolve => {
      const timer = setTimeout(() => resolve(false), timeoutMs);
      listen(() => {
        clearTimeout(timer);
        resolve(true);
      });
    });
  }
}
