// The audit log: who asked for which change, and what came of it. Entries are added, and go for their age alone.
import { CatalogError } from './errors.ts';
import { Prisma } from './generated/client.ts';
import type { AuditEntryModel } from './generated/models.ts';
import { between, PAGE_ITEMS_MAX, type Page, type PageOptions } from './page.ts';
import type { Json } from './run.ts';
import type { Scope } from './scope.ts';

/** `failed`: by a mistake of the service. */
export type AuditEntryResult = 'done' | 'refused' | 'failed';

export interface AuditEntry {
  /** Grows; not in the order of commits. */
  id: number;
  at: Date;
  actor: string;
  tokenId: string | null;
  /** Method and route. */
  action: string;
  /** The path that was asked for. */
  subject: string;
  runId: string | null;
  /** The body, without secrets; null where it is too large. */
  request: Json;
  result: AuditEntryResult;
  /** Code of the problem; null where it was done. */
  code: string | null;
  remoteAddress: string;
  requestId: string;
}

export type NewAuditEntry = Omit<AuditEntry, 'id' | 'at'>;

export interface AuditFilter {
  actor?: string | undefined;
  runId?: string | undefined;
  result?: AuditEntryResult | undefined;
  /** Method and route hold this text. */
  action?: string | undefined;
  /** The path begins with this text. */
  subject?: string | undefined;
  since?: Date | undefined;
  until?: Date | undefined;
}

const ITEMS_DEFAULT = 100;
/** No entry goes that is younger: the database refuses it, whoever asks. */
export const AUDIT_LOG_DAYS_MIN = 30;

function toEntry(row: AuditEntryModel): AuditEntry {
  return {
    ...row,
    id: Number(row.id),
    request: row.request as Json,
    result: row.result as AuditEntryResult,
  };
}

function idOf(cursor: string): bigint {
  if (/^\d{1,15}$/.test(cursor)) return BigInt(cursor);
  const text = `The cursor '${cursor}' is not one this list gave out. Start again without a cursor.`;
  throw new CatalogError('catalog', 'invalid-cursor', text);
}

export class AuditRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** Within a transaction: there exactly when what it tells of is done. */
  add(entry: NewAuditEntry): Promise<void> {
    const request = (entry.request ?? Prisma.DbNull) as Prisma.InputJsonValue;
    return this.#scope.read(async db => {
      await db.auditEntry.create({ data: { ...entry, request } });
    });
  }

  /** Newest first. Rejects `invalid-cursor`. */
  async list(options: PageOptions & AuditFilter = {}): Promise<Page<AuditEntry>> {
    const { limit = ITEMS_DEFAULT, cursor, actor, runId, result, action, subject, since, until } = options;
    const shown = Math.min(Math.max(limit, 1), PAGE_ITEMS_MAX);
    const where = {
      ...(cursor && { id: { lt: idOf(cursor) } }),
      ...(actor !== undefined && { actor }),
      ...(runId !== undefined && { runId }),
      ...(result !== undefined && { result }),
      ...(action !== undefined && { action: { in: await this.#actionsWith(action) } }),
      ...(subject !== undefined && { subject: { startsWith: subject } }),
      ...between('at', since, until),
    };
    const rows = await this.#scope.read(db =>
      db.auditEntry.findMany({ where, orderBy: { id: 'desc' }, take: shown + 1 }),
    );
    const items = rows.slice(0, shown).map(toEntry);
    return { items, nextCursor: rows.length > shown ? String(items.at(-1)!.id) : null };
  }

  /** Removes entries from before then, and from before the youngest that may go, at most `limit`; returns how many. */
  prune(before: Date, limit: number): Promise<number> {
    return this.#scope.write(async db => {
      await db.$queryRaw`SELECT set_config('tidemark.prunes_audit_log', 'on', true)`;
      return db.$executeRaw`
        DELETE FROM audit_entry WHERE id IN (
          SELECT id FROM audit_entry WHERE at < LEAST(${before}, now() - ${AUDIT_LOG_DAYS_MIN} * interval '1 day')
          ORDER BY at LIMIT ${limit} FOR UPDATE SKIP LOCKED)`;
    });
  }

  /** Those in the log that hold the text, by jumps over their index: there are as many as routes, not as entries. */
  async #actionsWith(text: string): Promise<string[]> {
    const rows = await this.#scope.read(
      db => db.$queryRaw<{ action: string }[]>`
        WITH RECURSIVE known AS (
          (SELECT action FROM audit_entry ORDER BY action LIMIT 1)
          UNION ALL
          SELECT (SELECT e.action FROM audit_entry AS e WHERE e.action > known.action ORDER BY e.action LIMIT 1)
          FROM known WHERE known.action IS NOT NULL)
        SELECT action FROM known WHERE position(${text} IN action) > 0`,
    );
    return rows.map(({ action }) => action);
  }
}
