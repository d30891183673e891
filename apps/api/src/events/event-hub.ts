// What all event streams of a process share: the one connection over which commits are heard, the turns in which
// they read, and the look at runs' progress. It keeps no events: streams read them when they have room.
import {
  type Catalog,
  type EventFilter,
  EventListener,
  type EventPage,
  type RunningRun,
} from '@tidemark/catalog';
import { TidemarkError } from '@tidemark/proto';
import type { FastifyBaseLogger } from 'fastify';
import {
  EVENT_READS_AT_ONCE,
  EVENT_STREAM_PAGE,
  EVENT_STREAMS_MAX,
  EVENT_WAKE_MS,
  RUN_PROGRESS_MS,
} from '../limits.ts';
import type { EventStream } from './event-stream.ts';
import { RunProgressWatch } from './run-progress.ts';

export class EventHub {
  readonly #catalog: Catalog;
  readonly #databaseUrl: string;
  readonly #log: FastifyBaseLogger;
  readonly #progress: RunProgressWatch;
  readonly #streams = new Set<EventStream>();
  readonly #followers = new Set<() => void>();
  readonly #ended = new Set<Promise<void>>();
  readonly #waiting: (() => void)[] = [];
  #reading = 0;
  #listener: EventListener | undefined;
  #wakeTimer: NodeJS.Timeout | undefined;
  #wokenAt = Number.NEGATIVE_INFINITY;
  #progressTimer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: { catalog: Catalog; databaseUrl: string; log: FastifyBaseLogger }) {
    this.#catalog = options.catalog;
    this.#databaseUrl = options.databaseUrl;
    this.#log = options.log;
    this.#progress = new RunProgressWatch(options.catalog);
  }

  get streams(): number {
    return this.#streams.size;
  }

  /** Throws `event-streams-limit`, or `not-ready` while the service stops. */
  requireRoom(): void {
    if (this.#closed) {
      throw new TidemarkError('not-ready', 'The api service is stopping. Connect again in a moment.');
    }
    if (this.#streams.size < EVENT_STREAMS_MAX) return;
    throw new TidemarkError(
      'event-streams-limit',
      `${EVENT_STREAMS_MAX} event streams are open at this api service, the most there may be. Close one, or ` +
        'ask another api service.',
    );
  }

  /** Tells the listener of commits, closely following ones together, until what is returned is called. */
  onNews(listener: () => void): () => void {
    if (!this.#closed) this.#listener ??= this.#listen();
    this.#followers.add(listener);
    return () => this.#followers.delete(listener);
  }

  /** Runs the stream until it ends. */
  follow(stream: EventStream): void {
    this.requireRoom();
    this.#listener ??= this.#listen();
    this.#streams.add(stream);
    if (stream.wantsProgress) {
      stream.progressed(this.#progress.running);
      this.#lookLater();
    }
    const ended = stream.run().finally(() => {
      this.#streams.delete(stream);
      this.#ended.delete(ended);
    });
    this.#ended.add(ended);
  }

  /** The next events that the stream's client sees, when it is its turn. */
  read(after: number, filter: EventFilter): Promise<EventPage> {
    return this.#inTurn(() => this.#catalog.events.readOn(after, filter, EVENT_STREAM_PAGE));
  }

  /** Those of the runs that the stream's client sees. */
  visibleRuns(runs: readonly RunningRun[]): Promise<readonly RunningRun[]> {
    return this.#inTurn(() => this.#catalog.runs.visibleAmong(runs));
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#reading >= EVENT_READS_AT_ONCE) await new Promise<void>(go => this.#waiting.push(go));
    else this.#reading += 1;
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#reading -= 1;
    }
  }

  /** Ends every stream; afterwards nothing is read and nothing is heard. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#wakeTimer);
    clearTimeout(this.#progressTimer);
    for (const stream of this.#streams) stream.end();
    await Promise.all([...this.#ended, this.#looking, this.#listener?.close()]);
  }

  #listen(): EventListener {
    const listener = new EventListener(this.#databaseUrl, () => this.#heard());
    listener.start();
    return listener;
  }

  /** The first notice wakes at once, those that follow it closely wake together. */
  #heard(): void {
    if (this.#closed || this.#wakeTimer !== undefined) return;
    const waitMs = Math.max(0, this.#wokenAt + EVENT_WAKE_MS - performance.now());
    this.#wakeTimer = setTimeout(() => {
      this.#wakeTimer = undefined;
      this.#wokenAt = performance.now();
      for (const stream of this.#streams) stream.wake();
      for (const listener of this.#followers) listener();
    }, waitMs);
  }

  #lookLater(): void {
    if (this.#closed || this.#progressTimer !== undefined) return;
    this.#progressTimer = setTimeout(() => {
      this.#looking = this.#look().then(() => {
        this.#progressTimer = undefined;
        if ([...this.#streams].some(stream => stream.wantsProgress)) this.#lookLater();
        else this.#progress.forget();
      });
    }, RUN_PROGRESS_MS);
  }

  async #look(): Promise<void> {
    try {
      const changed = await this.#progress.look();
      if (changed.length === 0) return;
      for (const stream of this.#streams) stream.progressed(changed);
    } catch (error) {
      this.#log.warn({ err: error }, 'progress of runs not read');
    }
  }
}
