// Events: what changed, in the order of commits. They are written by the other repositories.
import { CatalogError } from './errors.ts';
import { eventVisibility } from './event-visibility.ts';
import { Prisma } from './generated/client.ts';
import type { EventModel } from './generated/models.ts';
import type { Db, Scope } from './scope.ts';
import { type Viewer, viewerOf } from './visibility.ts';

export interface Event {
  /** Grows in the order in which the changes were committed. */
  id: number;
  kind: string;
  subjectType: string;
  subjectId: string;
  runId: string | null;
  /** The volume that it is about, itself or by its subject or its run. */
  volumeId: string | null;
  data: Record<string, unknown>;
  createdAt: Date;
}

/** All that are given must fit. */
export interface EventFilter {
  /** Any of these; empty: every kind. */
  kinds?: readonly string[] | undefined;
  subjectId?: string | undefined;
  runId?: string | undefined;
  volumeId?: string | undefined;
}

export interface EventPage {
  events: Event[];
  /** Everything up to this id has been looked at: the next page is asked for after it. */
  upTo: number;
  /** Nothing was committed after that when it was read. */
  isAll: boolean;
}

/** Of those who look back from the newest. */
export interface EventPageBack {
  /** Newest first. */
  events: Event[];
  /** The next page is asked for before this id; null: nothing is left. */
  next: number | null;
}

/** Ids between the two, without them. */
export interface RangeBack {
  before: number;
  after: number;
}

interface Range {
  after: number;
  upTo: number;
  take: number;
}

const EVENTS_MAX = 1000;

/** Ids that one statement looks at for a reader who sees some volumes alone: tens of milliseconds. */
const LOOKED_AT_ONCE = 20_000;
/** Statements of one page for such a reader; a page may then be short, though there is more. */
const LOOKS_MAX = 25;

function toEvent(row: EventModel): Event {
  return { ...row, id: Number(row.id), data: row.data as Record<string, unknown> };
}

function whereOf({ kinds, subjectId, runId, volumeId }: EventFilter) {
  return {
    ...(kinds && kinds.length > 0 && { kind: { in: [...kinds] } }),
    ...(subjectId !== undefined && { subjectId }),
    ...(runId !== undefined && { runId }),
    ...(volumeId !== undefined && { volumeId }),
  };
}

function conditionOf({ kinds, subjectId, runId, volumeId }: EventFilter): Prisma.Sql {
  return Prisma.join(
    [
      Prisma.sql`TRUE`,
      ...(kinds && kinds.length > 0 ? [Prisma.sql`e.kind IN (${Prisma.join([...kinds])})`] : []),
      ...(subjectId !== undefined ? [Prisma.sql`e.subject_id = ${subjectId}::uuid`] : []),
      ...(runId !== undefined ? [Prisma.sql`e.run_id = ${runId}::uuid`] : []),
      ...(volumeId !== undefined ? [Prisma.sql`e.volume_id = ${volumeId}::uuid`] : []),
    ],
    ' AND ',
  );
}

/** Of some ids after the others, so that no statement takes long, whatever little of it is visible. */
async function visiblePage(
  db: Db,
  viewer: Viewer,
  { range, filter }: { range: Range; filter: EventFilter },
): Promise<EventPage> {
  const { upTo: newest, take } = range;
  const condition = Prisma.sql`${conditionOf(filter)} AND ${eventVisibility(viewer)}`;
  const ids: bigint[] = [];
  let upTo = range.after;
  for (let looks = 0; looks < LOOKS_MAX && upTo < newest && ids.length < take; looks++) {
    const last = Math.min(upTo + LOOKED_AT_ONCE, newest);
    const left = take - ids.length;
    const rows = await db.$queryRaw<{ id: bigint }[]>`
      SELECT e.id FROM event AS e WHERE e.id > ${BigInt(upTo)} AND e.id <= ${BigInt(last)} AND ${condition}
      ORDER BY e.id LIMIT ${left}`;
    ids.push(...rows.map(({ id }) => id));
    upTo = rows.length < left ? last : Number(rows.at(-1)!.id);
  }
  if (ids.length === 0) return { events: [], upTo, isAll: upTo === newest };
  const rows = await db.event.findMany({ where: { id: { in: ids } }, orderBy: { id: 'asc' } });
  return { events: rows.map(toEvent), upTo, isAll: upTo === newest };
}

/** The same, from the newest back: ids, at most `take` of them, and before which id nothing was looked at. */
async function visibleIdsBack(
  db: Db,
  viewer: Viewer,
  { range, take, filter }: { range: RangeBack; take: number; filter: EventFilter },
): Promise<{ ids: bigint[]; before: number }> {
  const condition = Prisma.sql`${conditionOf(filter)} AND ${eventVisibility(viewer)}`;
  const ids: bigint[] = [];
  const oldest = range.after + 1;
  let { before } = range;
  for (let looks = 0; looks < LOOKS_MAX && before > oldest && ids.length < take; looks++) {
    const first = Math.max(before - LOOKED_AT_ONCE, oldest);
    const left = take - ids.length;
    const rows = await db.$queryRaw<{ id: bigint }[]>`
      SELECT e.id FROM event AS e WHERE e.id >= ${BigInt(first)} AND e.id < ${BigInt(before)} AND ${condition}
      ORDER BY e.id DESC LIMIT ${left}`;
    ids.push(...rows.map(({ id }) => id));
    before = rows.length < left ? first : Number(rows.at(-1)!.id);
  }
  return { ids, before };
}

export class EventRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** 0: there is none yet. What is committed from now on gets higher ones. */
  async newestId(): Promise<number> {
    return (await this.ends()).newest;
  }

  /** The newest id, and up to which id events are gone (0: none are). */
  async ends(): Promise<{ newest: number; prunedUpTo: number }> {
    const [row] = await this.#scope.read(
      db => db.$queryRaw<{ newest: bigint; pruned: bigint }[]>`
        SELECT GREATEST((SELECT max(id) FROM event), pruned_up_to) AS newest, pruned_up_to AS pruned
        FROM event_horizon`,
    );
    return { newest: Number(row!.newest), prunedUpTo: Number(row!.pruned) };
  }

  /**
   * Volumes that an event after `after`, up to `upTo`, tells of: of themselves, or of one of their backups. Null: of a
   * backup whose volume nobody knows any more, so it may be any.
   */
  async backupsChangedIn(after: number, upTo: number): Promise<string[] | null> {
    const rows = await this.#scope.read(
      db => db.$queryRaw<{ id: string | null; isBackup: boolean }[]>`
        SELECT DISTINCT volume_id::text AS id, subject_type = 'backup' AS "isBackup" FROM event
        WHERE id > ${BigInt(after)} AND id <= ${BigInt(upTo)} AND subject_type IN ('backup', 'volume')`,
    );
    if (rows.some(({ id, isBackup }) => id === null && isBackup)) return null;
    return [...new Set(rows.flatMap(({ id }) => (id === null ? [] : [id])))];
  }

  /** The events after the one with id `after` (0: from the first), oldest first, at most `limit` (1000). */
  async listAfter(after: number, limit = 100, filter: EventFilter = {}): Promise<Event[]> {
    const { newest, prunedUpTo } = await this.ends();
    const take = Math.min(Math.max(limit, 1), EVENTS_MAX);
    return (await this.#page({ after: Math.max(after, prunedUpTo), upTo: newest, take }, filter)).events;
  }

  /**
   * What a reader that follows gets next: none twice and none left out, however often it asks. Rejects
   * `events-pruned` when events after `after` are gone, and `events-ahead` when no event has that id yet; 0 is no
   * event, and asks for what there is.
   */
  async readOn(after: number, filter: EventFilter, limit: number): Promise<EventPage> {
    // Read first: all that is committed up to this id can be seen from now on.
    const { newest, prunedUpTo } = await this.ends();
    requireKept(after, { newest, prunedUpTo });
    return this.#page({ after: Math.max(after, prunedUpTo), upTo: newest, take: limit }, filter);
  }

  /**
   * From the newest back: those before `before` and after `after`, at most `limit`. What is committed meanwhile shifts
   * nothing, as it is newer than all of them. Rejects as `readOn` does.
   */
  async readBack(range: RangeBack, filter: EventFilter, limit: number): Promise<EventPageBack> {
    const { newest, prunedUpTo } = await this.ends();
    requireKept(range.after, { newest, prunedUpTo });
    const after = Math.max(range.after, prunedUpTo);
    const before = Math.min(range.before, newest + 1);
    if (before <= after + 1) return { events: [], next: null };
    const viewer = viewerOf(this.#scope);
    // One more than wanted tells whether any is left.
    const take = limit + 1;
    return this.#scope.read(async db => {
      const seen = viewer && (await visibleIdsBack(db, viewer, { range: { before, after }, take, filter }));
      const where =
        seen === null
          ? { id: { gt: BigInt(after), lt: BigInt(before) }, ...whereOf(filter) }
          : { id: { in: seen.ids } };
      const rows = await db.event.findMany({ where, orderBy: { id: 'desc' }, take });
      const events = rows.slice(0, limit).map(toEvent);
      if (rows.length > limit) return { events, next: events.at(-1)!.id };
      return { events, next: seen !== null && seen.before > after + 1 ? seen.before : null };
    });
  }

  /** What whoever asks sees of them. */
  async #page(range: Range, filter: EventFilter): Promise<EventPage> {
    const { after, upTo: newest, take } = range;
    if (newest <= after) return { events: [], upTo: after, isAll: true };
    const viewer = viewerOf(this.#scope);
    if (viewer !== null) return this.#scope.read(db => visiblePage(db, viewer, { range, filter }));
    const where = { id: { gt: BigInt(after), lte: BigInt(newest) }, ...whereOf(filter) };
    const rows = await this.#scope.read(db => db.event.findMany({ where, orderBy: { id: 'asc' }, take }));
    const events = rows.map(toEvent);
    if (events.length < take) return { events, upTo: newest, isAll: true };
    const upTo = events.at(-1)!.id;
    return { events, upTo, isAll: upTo === newest };
  }

  /** Rejects `events-pruned` when events that came after that one are gone, and `events-ahead` before it is there. */
  async requireKept(after: number): Promise<void> {
    requireKept(after, await this.ends());
  }

  /** The id after which the events since that moment come. */
  async idBefore(since: Date): Promise<number> {
    const first = await this.#scope.read(db =>
      db.event.findFirst({
        where: { createdAt: { gte: since } },
        orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
        select: { id: true },
      }),
    );
    return first === null ? this.newestId() : Math.max(Number(first.id) - 1, (await this.ends()).prunedUpTo);
  }

  /**
   * Removes events that are older than `before`, oldest first, of at most `limit` that it looks at; returns how many
   * it looked past, 0 when there is no older one left. What others still read stays: events of runs that go on, and
   * by which merged backups are known.
   */
  async prune(before: Date, limit: number): Promise<number> {
    return this.#scope.write(async db => {
      const [row] = await db.$queryRaw<{ id: bigint | null; count: bigint }[]>`
        WITH horizon AS (SELECT pruned_up_to AS id FROM event_horizon WHERE id = 1 FOR UPDATE),
          oldest AS (SELECT id, created_at FROM event WHERE id > (SELECT id FROM horizon) ORDER BY id LIMIT ${limit}),
          kept AS (SELECT min(id) AS id FROM oldest WHERE created_at >= ${before})
        SELECT max(oldest.id) AS id, count(*) AS count FROM oldest, kept
        WHERE kept.id IS NULL OR oldest.id < kept.id`;
      const upTo = row?.id ?? null;
      if (upTo === null) return 0;
      await db.$executeRaw`
        DELETE FROM event USING event_horizon AS horizon
        WHERE event.id > horizon.pruned_up_to AND event.id <= ${upTo}
          AND NOT (kind = 'backup-merged' AND EXISTS (SELECT 1 FROM backup WHERE backup.id = subject_id))
          AND NOT EXISTS (SELECT 1 FROM run WHERE run.id = run_id
            AND (state IN ('queued', 'running') OR cleanup_pending))`;
      await db.$executeRaw`UPDATE event_horizon SET pruned_up_to = ${upTo} WHERE id = 1`;
      return Number(row!.count);
    });
  }
}

function requireKept(after: number, { newest, prunedUpTo }: { newest: number; prunedUpTo: number }): void {
  if (after > newest) {
    throw new CatalogError(
      'catalog',
      'events-ahead',
      `No event has the id ${after} yet: the newest one is ${newest}. Where the catalog was restored from an older ` +
        'copy, ids are given anew: look at what there is now, then follow events without an id, or with ' +
        `after=${newest}.`,
    );
  }
  if (after === 0 || after >= prunedUpTo) return;
  throw new CatalogError(
    'catalog',
    'events-pruned',
    `Events up to ${prunedUpTo} have been removed for their age, and with them some that came after ${after}. Look ` +
      'at what there is now, then follow events without an id, or after=0 for all that are kept.',
  );
}
