// Differences between storage nodes, repositories and catalog, as the reconciler last saw them.

import type { EventKind } from '@tidemark/proto';
import { notFound } from './errors.ts';
import type { Prisma } from './generated/client.ts';
import type { DifferenceModel } from './generated/models.ts';
import { type Page, type PageOptions, pageQuery, toPage } from './page.ts';
import { isId } from './ref.ts';
import type { JsonObject } from './run.ts';
import type { NewEvent, Scope, Tell } from './scope.ts';

/** `repaired`: by us; `gone`: seen no more. */
export type DifferenceState = 'open' | 'repaired' | 'gone';

export interface SeenDifference {
  /** Its name, such as `volume-unknown`. */
  kind: string;
  subjectType: NewEvent['subjectType'];
  subjectId: string;
  /** What it is, in words, and what can be done about it. */
  message: string;
  data: JsonObject;
}

export interface Difference extends SeenDifference {
  id: string;
  storageNodeId: string | null;
  state: DifferenceState;
  firstSeenAt: Date;
  lastSeenAt: Date;
  endedAt: Date | null;
}

export interface DifferenceFilter {
  state?: DifferenceState | undefined;
  storageNodeId?: string | undefined;
}

function toDifference(row: DifferenceModel): Difference {
  return {
    ...row,
    subjectType: row.subjectType as Difference['subjectType'],
    state: row.state as DifferenceState,
    data: row.data as JsonObject,
  };
}

/** Recorded in one transaction, which has to end within its time however much there is. */
const RECORDED_AT_ONCE = 500;
/** Ended by one statement. */
const ENDED_AT_ONCE = 5_000;

const factsOf = ({ message, data }: SeenDifference) => ({ message, data: data as Prisma.InputJsonObject });

export class DifferenceRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /**
   * All that was seen of a storage node just now: new ones are open from now on, open ones that were not seen
   * again are gone. Returns those that are open, in the order given. In several transactions where there are many:
   * after the loss of a catalog all that a storage node has is one. Good to repeat.
   */
  async record(
    storageNodeId: string,
    seen: readonly SeenDifference[],
    { runId, newId }: { runId: string; newId: () => string },
  ): Promise<Difference[]> {
    const now = this.#scope.now();
    const open: Difference[] = [];
    for (let start = 0; start < seen.length; start += RECORDED_AT_ONCE) {
      const some = seen.slice(start, start + RECORDED_AT_ONCE);
      open.push(...(await this.#recordSome(storageNodeId, some, { runId, newId, now })));
    }
    await this.#endAllBut(new Set(open.map(({ id }) => id)), { storageNodeId, runId, now });
    return open;
  }

  #recordSome(
    storageNodeId: string,
    seen: readonly SeenDifference[],
    { runId, newId, now }: { runId: string; newId: () => string; now: Date },
  ): Promise<Difference[]> {
    return this.#scope.write(async (db, tell) => {
      // One run after the other: two that look at the same time must not both open a difference.
      await db.$queryRaw`SELECT 1 FROM storage_node WHERE id = ${storageNodeId}::uuid FOR UPDATE`;
      const subjectId = { in: seen.map(one => one.subjectId) };
      const before = await db.difference.findMany({ where: { subjectId, state: 'open' } });
      const byName = new Map(before.map(row => [`${row.kind} ${row.subjectId}`, row]));
      const open: Difference[] = [];
      const added: Prisma.DifferenceCreateManyInput[] = [];
      for (const one of seen) {
        const { kind, subjectType, subjectId } = one;
        const known = byName.get(`${kind} ${subjectId}`);
        const facts = { ...factsOf(one), storageNodeId, lastSeenAt: now };
        if (known) {
          open.push(toDifference(await db.difference.update({ where: { id: known.id }, data: facts })));
          continue;
        }
        const row = { id: newId(), kind, subjectType, subjectId, ...facts, firstSeenAt: now };
        added.push({ ...row, state: 'open' });
        open.push({ ...row, data: one.data, state: 'open', endedAt: null });
        tellOf(tell, 'difference-found', row, runId);
      }
      await db.difference.createMany({ data: added });
      return open;
    });
  }

  #endAllBut(
    seenIds: ReadonlySet<string>,
    { storageNodeId, runId, now }: { storageNodeId: string; runId: string; now: Date },
  ): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      await db.$queryRaw`SELECT 1 FROM storage_node WHERE id = ${storageNodeId}::uuid FOR UPDATE`;
      const open = await db.difference.findMany({ where: { storageNodeId, state: 'open' } });
      const left = open.filter(({ id }) => !seenIds.has(id));
      for (let start = 0; start < left.length; start += ENDED_AT_ONCE) {
        const id = { in: left.slice(start, start + ENDED_AT_ONCE).map(row => row.id) };
        await db.difference.updateMany({ where: { id }, data: { state: 'gone', endedAt: now } });
      }
      for (const row of left) tellOf(tell, 'difference-gone', row, runId);
    });
  }

  async find(id: string): Promise<Difference | null> {
    if (!isId(id)) return null;
    const row = await this.#scope.read(db => db.difference.findUnique({ where: { id } }));
    return row && toDifference(row);
  }

  /** Rejects `not-found`. */
  async get(id: string): Promise<Difference> {
    const difference = await this.find(id);
    if (!difference) throw notFound('difference', id);
    return difference;
  }

  /** Seen first comes first. */
  list(options: PageOptions & DifferenceFilter = {}): Promise<Page<Difference>> {
    const page = pageQuery(options, 'asc', 'firstSeenAt');
    const { state, storageNodeId } = options;
    const filter = {
      ...(state !== undefined && { state }),
      ...(storageNodeId !== undefined && { storageNodeId }),
    };
    return this.#scope.read(async db => {
      const rows = await db.difference.findMany({
        where: { AND: [page.after, filter] },
        orderBy: page.orderBy,
        take: page.take,
      });
      const keyed = rows.map(row => ({ ...row, createdAt: row.firstSeenAt }));
      return toPage(keyed, page.limit, ({ createdAt: _, ...row }) => toDifference(row));
    });
  }

  /** Good to repeat; one that has ended stays as it ended. */
  markRepaired(id: string, action: string, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const row = await db.difference.findUnique({ where: { id } });
      if (row?.state !== 'open') return;
      const data = { ...(row.data as JsonObject), action };
      const ended = { state: 'repaired', endedAt: this.#scope.now(), data };
      await db.difference.update({ where: { id }, data: ended });
      tellOf(tell, 'difference-repaired', row, runId);
    });
  }

  /** It stays open, and says what stands in the way of its repair. */
  noteFailure(id: string, failure: string): Promise<void> {
    return this.#scope.write(async db => {
      const row = await db.difference.findUnique({ where: { id } });
      if (row?.state !== 'open') return;
      const data = { ...(row.data as JsonObject), failure };
      await db.difference.update({ where: { id }, data: { data } });
    });
  }
}

function tellOf(
  tell: Tell,
  kind: EventKind,
  row: Pick<DifferenceModel, 'id' | 'kind' | 'message' | 'subjectType' | 'subjectId'>,
  runId: string,
): void {
  tell({
    kind,
    subjectType: row.subjectType as NewEvent['subjectType'],
    subjectId: row.subjectId,
    runId,
    data: { differenceId: row.id, difference: row.kind, message: row.message },
  });
}
