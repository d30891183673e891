// The audit log: who asked for which change, and what came of it. Entries are only ever added.
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
      ...(action !== undefined && { action: { contains: action } }),
      ...(subject !== undefined && { subject: { startsWith: subject } }),
      ...between('at', since, until),
    };
    const rows = await this.#scope.read(db =>
      db.auditEntry.findMany({ where, orderBy: { id: 'desc' }, take: shown + 1 }),
    );
    const items = rows.slice(0, shown).map(toEntry);
    return { items, nextCursor: rows.length > shown ? String(items.at(-1)!.id) : null };
  }
}
