// Events: what changed, for those who look and those who follow along.
import { type Catalog, type EventFilter, isId } from '@tidemark/catalog';
import { TidemarkError } from '@tidemark/proto';
import type { EventQuery } from '../schemas/event.ts';
import type { EventHub } from './event-hub.ts';
import { toEventJson } from './event-json.ts';
import { type EventSink, EventStream, type EventStreamOptions } from './event-stream.ts';

export interface Following {
  readonly filter: EventFilter;
  readonly after: number;
}

type StreamSurroundings = Pick<EventStreamOptions, 'log' | 'requireAccess'>;

export class EventService {
  readonly #catalog: Catalog;
  readonly #hub: EventHub;

  constructor(catalog: Catalog, hub: EventHub) {
    this.#catalog = catalog;
    this.#hub = hub;
  }

  /**
   * In the order that is asked for. A page of the oldest without a next one has all there is; go on from its last
   * id later. For who sees some volumes alone a short page may have a next one.
   */
  async list(query: EventQuery) {
    const { limit, since } = query;
    if (query.order === 'newest-first') return this.#listBack(query);
    const filter = await this.#filterOf(query);
    const from = query.cursor ?? query.after ?? 0;
    await this.#catalog.events.requireKept(from);
    const after = since === undefined ? from : Math.max(from, await this.#idBefore(since));
    const { events, upTo, isAll } = await this.#catalog.events.readOn(after, filter, limit + 1);
    const shown = events.slice(0, limit);
    const next = events.length > limit ? shown.at(-1)!.id : isAll ? null : upTo;
    return { items: shown.map(toEventJson), nextCursor: next === null ? null : String(next) };
  }

  async #listBack(query: EventQuery) {
    const { limit, since, after: given = 0, cursor: before = Number.MAX_SAFE_INTEGER } = query;
    const filter = await this.#filterOf(query);
    await this.#catalog.events.requireKept(given);
    const after = since === undefined ? given : Math.max(given, await this.#idBefore(since));
    const { events, next } = await this.#catalog.events.readBack({ before, after }, filter, limit);
    return { items: events.map(toEventJson), nextCursor: next === null ? null : String(next) };
  }

  /**
   * Where a stream begins: after `lastEventId`, otherwise where the query says, otherwise now. Rejects
   * `events-pruned`, `events-ahead` and `event-streams-limit`, before anything is answered.
   */
  async prepare(query: EventQuery, lastEventId: string | undefined): Promise<Following> {
    if (query.order === 'newest-first') {
      throw new TidemarkError(
        'invalid-request',
        'The query asks for a stream and for order=newest-first. Streams tell the oldest first: leave order out, or ' +
          'ask for pages with follow=false.',
      );
    }
    this.#hub.requireRoom();
    const filter = await this.#filterOf(query);
    const after = await this.#beginning(query, lastEventId);
    await this.#catalog.events.requireKept(after);
    return { filter, after };
  }

  /** Writes to the sink until it closes, or the service stops. */
  follow(following: Following, sink: EventSink, around: StreamSurroundings): void {
    this.#hub.follow(new EventStream({ hub: this.#hub, sink, ...around, ...following }));
  }

  async #beginning({ after, cursor, since }: EventQuery, lastEventId: string | undefined): Promise<number> {
    if (lastEventId !== undefined && lastEventId !== '') {
      const id = Number(lastEventId);
      if (/^\d+$/.test(lastEventId) && Number.isSafeInteger(id)) return id;
      throw new TidemarkError(
        'invalid-request',
        `The header last-event-id is ${JSON.stringify(lastEventId)}. Send the id of the last event seen, or no header.`,
      );
    }
    const from = after ?? cursor;
    if (since !== undefined) return Math.max(from ?? 0, await this.#idBefore(since));
    return from ?? this.#catalog.events.newestId();
  }

  #idBefore(since: string): Promise<number> {
    return this.#catalog.events.idBefore(new Date(since));
  }

  async #filterOf({ kind, subject, run, volume }: EventQuery): Promise<EventFilter> {
    // The events of a volume stay when it is gone; its name does not.
    const isKnown = volume === undefined || isId(volume);
    const volumeId = isKnown ? volume : (await this.#catalog.volumes.get(volume)).id;
    return { kinds: kind, subjectId: subject, runId: run, volumeId };
  }
}
