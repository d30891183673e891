// Events: what changed, for those who follow along.
import type { Catalog, Event } from '@tidemark/catalog';
import type { z } from 'zod';
import { iso } from '../moments.ts';
import type { EventJson, eventQuery } from '../schemas/event.ts';

function toEventJson(event: Event): EventJson {
  return {
    id: event.id,
    kind: event.kind,
    subjectType: event.subjectType,
    subjectId: event.subjectId,
    runId: event.runId,
    data: event.data,
    createdAt: iso(event.createdAt),
  };
}

export class EventService {
  readonly #catalog: Catalog;

  constructor(catalog: Catalog) {
    this.#catalog = catalog;
  }

  /** Oldest first. A short page has no next one yet; go on from its last id later. */
  async list({ after, cursor, limit }: z.output<typeof eventQuery>) {
    const items = await this.#catalog.events.listAfter(cursor ?? after ?? 0, limit + 1);
    const shown = items.slice(0, limit);
    const last = shown.at(-1);
    const nextCursor = items.length > limit && last ? String(last.id) : null;
    return { items: shown.map(toEventJson), nextCursor };
  }
}
