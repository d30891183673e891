// Events: what changed, in the order of commits. They are written by the other repositories.
import type { EventModel } from './generated/models.ts';
import type { Scope } from './scope.ts';

export interface Event {
  /** Grows in the order in which the changes were committed. */
  id: number;
  kind: string;
  subjectType: string;
  subjectId: string;
  runId: string | null;
  data: Record<string, unknown>;
  createdAt: Date;
}

const EVENTS_MAX = 1000;

function toEvent(row: EventModel): Event {
  return { ...row, id: Number(row.id), data: row.data as Record<string, unknown> };
}

export class EventRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** 0: there is none yet. What is committed from now on gets higher ones. */
  async newestId(): Promise<number> {
    const row = await this.#scope.read(db =>
      db.event.findFirst({ orderBy: { id: 'desc' }, select: { id: true } }),
    );
    return Number(row?.id ?? 0);
  }

  /** The events after the one with id `after` (0: from the first), oldest first, at most `limit` (1000). */
  async listAfter(after: number, limit = 100): Promise<Event[]> {
    const take = Math.min(Math.max(limit, 1), EVENTS_MAX);
    const rows = await this.#scope.read(db =>
      db.event.findMany({ where: { id: { gt: BigInt(after) } }, orderBy: { id: 'asc' }, take }),
    );
    return rows.map(toEvent);
  }
}
