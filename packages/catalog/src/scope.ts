// Where repositories read and write: the plain client, or one transaction of it. Events told during a
// transaction are kept back and written as its last statements.
import type { EventKind } from '@tidemark/proto';
import type { Acting } from './acting.ts';
import { asCatalogError } from './errors.ts';
import { Prisma, type PrismaClient } from './generated/client.ts';

export type Db = Prisma.TransactionClient;

export interface NewEvent {
  kind: EventKind;
  subjectType:
    | 'storage-node'
    | 'volume'
    | 'checkpoint'
    | 'snapshot'
    | 'commit'
    | 'group'
    | 'repository'
    | 'backup'
    | 'replication-rule'
    | 'policy'
    | 'webhook'
    | 'run';
  subjectId: string;
  runId?: string | null;
  data?: Prisma.InputJsonObject;
}

export type Tell = (event: NewEvent) => void;

export interface Scope {
  now(): Date;
  /** Null: nobody but the system itself. */
  acting(): Acting | null;
  read<T>(use: (db: Db) => Promise<T>): Promise<T>;
  /** One statement that writes, all or nothing by itself: no transaction is opened for it, and it tells no events. */
  single<T>(use: (db: Db) => Promise<T>): Promise<T>;
  /** All that `use` does, with the events it tells, happens at once or not at all. */
  write<T>(use: (db: Db, tell: Tell) => Promise<T>): Promise<T>;
}

// Event ids have to appear in the order of commits, or a reader that asks for "after 7" misses 6 when it
// commits later. So writers of events take turns, for the last statements of their transaction only: an id is
// given within a turn, and PostgreSQL ends the turn (a lock of the transaction) after the commit can be seen.
const EVENT_LOCK_KEY = 7_411_001n;

/** Told with each commit that has events. Without payload, so that any number of them is one notice. */
export const EVENT_CHANNEL = 'tidemark_events';

/** Waiting for a connection, and working in it; generous beside the few statements a transaction has. */
const TRANSACTION_LIMITS = { maxWait: 10_000, timeout: 15_000 };

/** Of one statement, so that none is longer than some megabytes. */
const EVENTS_AT_ONCE = 5_000;

/** The volume that an event is about: its subject, or that of its subject or its run, as far as they have rows. */
const VOLUME_OF_EVENT = Prisma.sql`COALESCE(
  CASE e."subjectType" WHEN 'volume' THEN e."subjectId"
    WHEN 'checkpoint' THEN (SELECT volume_id FROM checkpoint WHERE id = e."subjectId")
    WHEN 'snapshot' THEN (SELECT volume_id FROM snapshot WHERE id = e."subjectId")
    WHEN 'commit' THEN (SELECT volume_id FROM volume_commit WHERE id = e."subjectId")
    WHEN 'backup' THEN (SELECT volume_id FROM backup WHERE id = e."subjectId") END,
  (e.data ->> 'volumeId')::uuid,
  (SELECT volume_id FROM run WHERE id = e."runId"))`;

async function writeEvents(db: Db, events: NewEvent[]): Promise<void> {
  if (events.length === 0) return;
  for (let start = 0; start < events.length; start += EVENTS_AT_ONCE) {
    const rows = JSON.stringify(events.slice(start, start + EVENTS_AT_ONCE));
    // No row comes out of the join, and gets an id, before the turn has come.
    await db.$executeRaw`
      WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(${EVENT_LOCK_KEY})),
        written AS (
          INSERT INTO event (kind, subject_type, subject_id, run_id, volume_id, data)
          SELECT e.kind, e."subjectType", e."subjectId", e."runId", ${VOLUME_OF_EVENT}, COALESCE(e.data, '{}')
          FROM turn, ROWS FROM (jsonb_to_recordset(${rows}::jsonb)
            AS (kind text, "subjectType" text, "subjectId" uuid, "runId" uuid, data jsonb)) WITH ORDINALITY
            AS e(kind, "subjectType", "subjectId", "runId", data, n)
          ORDER BY e.n RETURNING 1)
      SELECT pg_notify(${EVENT_CHANNEL}, '') FROM (SELECT count(*) FROM written) AS all_of_them`;
  }
}

async function translated<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw asCatalogError(error);
  }
}

/** What every transaction begins and ends with. */
export interface TransactionFrame {
  begin(scope: TransactionScope): Promise<void>;
  commit(scope: TransactionScope): Promise<void>;
}

export interface ScopeSurroundings {
  readonly now: () => Date;
  readonly acting: () => Acting | null;
  readonly frame: TransactionFrame;
}

export class ClientScope implements Scope {
  readonly #client: PrismaClient;
  readonly now: () => Date;
  readonly acting: () => Acting | null;
  readonly #around: TransactionFrame;

  constructor(client: PrismaClient, around: ScopeSurroundings) {
    this.#client = client;
    this.now = around.now;
    this.acting = around.acting;
    this.#around = around.frame;
  }

  read<T>(use: (db: Db) => Promise<T>): Promise<T> {
    return translated(use(this.#client));
  }

  single<T>(use: (db: Db) => Promise<T>): Promise<T> {
    return this.read(use);
  }

  write<T>(use: (db: Db, tell: Tell) => Promise<T>): Promise<T> {
    return this.transaction((scope, db) => scope.write(() => use(db, event => scope.tell(event))));
  }

  async transaction<T>(use: (scope: TransactionScope, db: Db) => Promise<T>): Promise<T> {
    const acting = this.acting();
    const result = await translated(
      this.#client.$transaction(async db => {
        const scope = new TransactionScope(db, this.now, acting);
        await this.#around.begin(scope);
        const result = await use(scope, db);
        await this.#around.commit(scope);
        await writeEvents(db, scope.events);
        return result;
      }, TRANSACTION_LIMITS),
    );
    acting?.committed?.();
    return result;
  }
}

class TransactionScope implements Scope {
  readonly #db: Db;
  readonly now: () => Date;
  readonly events: NewEvent[] = [];
  readonly #acting: Acting | null;

  constructor(db: Db, now: () => Date, acting: Acting | null) {
    this.#db = db;
    this.now = now;
    this.#acting = acting;
  }

  acting(): Acting | null {
    return this.#acting;
  }

  tell(event: NewEvent): void {
    this.events.push(event);
  }

  /** Made by this transaction. */
  get runIds(): string[] {
    return this.events.filter(event => event.kind === 'run-queued').map(event => event.subjectId);
  }

  read<T>(use: (db: Db) => Promise<T>): Promise<T> {
    return use(this.#db);
  }

  single<T>(use: (db: Db) => Promise<T>): Promise<T> {
    return this.read(use);
  }

  write<T>(use: (db: Db, tell: Tell) => Promise<T>): Promise<T> {
    return use(this.#db, event => this.tell(event));
  }
}
