// An event as the API shows it, in pages and in streams alike.
import type { Event } from '@tidemark/catalog';
import { iso } from '../moments.ts';
import type { EventJson } from '../schemas/event.ts';

export function toEventJson(event: Event): EventJson {
  return {
    id: event.id,
    kind: event.kind,
    subjectType: event.subjectType,
    subjectId: event.subjectId,
    runId: event.runId,
    volumeId: event.volumeId,
    data: event.data,
    createdAt: iso(event.createdAt),
  };
}
