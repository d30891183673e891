// Tokens of the API: who may call it, as what, and about which volumes. Of a token itself only its hash is kept.
import { CatalogError, nameTaken, notFound } from './errors.ts';
import type { ApiTokenModel } from './generated/models.ts';
import { type Page, type PageOptions, pageQuery, toPage } from './page.ts';
import { byRef } from './ref.ts';
import type { Db, Scope } from './scope.ts';
import { suspendOrphaned } from './webhook-tokens.ts';

export type ApiTokenRole = 'viewer' | 'operator' | 'admin';

export interface ApiToken {
  id: string;
  name: string;
  /** The part of the token that is no secret. */
  prefix: string;
  /** sha-256 of the token, as hexadecimal digits. */
  hash: string;
  role: ApiTokenRole;
  /** Text of a selector over the labels of volumes; empty: all there is. */
  scope: string;
  createdBy: string;
  createdAt: Date;
  expiresAt: Date | null;
  lastUsedAt: Date | null;
  revokedAt: Date | null;
}

export type NewApiToken = Omit<ApiToken, 'createdAt' | 'lastUsedAt' | 'revokedAt'>;

export interface ApiTokenFilter {
  role?: ApiTokenRole | undefined;
  /** True: neither revoked nor expired; false: one of both. */
  usable?: boolean | undefined;
}

/** Who uses a token all the time need not write its row all the time. */
const USED_AGAIN_MS = 60_000;

const toToken = (row: ApiTokenModel): ApiToken => ({ ...row, role: row.role as ApiTokenRole });

export class ApiTokenRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** Rejects `name-taken`, also by one that is revoked: the audit log knows it by its name. */
  create(token: NewApiToken): Promise<ApiToken> {
    return this.#scope.write(async db => {
      const row = await db.apiToken.create({ data: token }).catch(nameTaken('token', token.name));
      return toToken(row);
    });
  }

  async findByPrefix(prefix: string): Promise<ApiToken | null> {
    const row = await this.#scope.read(db => db.apiToken.findUnique({ where: { prefix } }));
    return row && toToken(row);
  }

  /** Rejects `not-found`. */
  async get(ref: string): Promise<ApiToken> {
    const row = await this.#scope.read(db => db.apiToken.findUnique({ where: byRef(ref) }));
    if (!row) throw notFound('token', ref);
    return toToken(row);
  }

  /** Oldest first. */
  list(options: PageOptions & ApiTokenFilter = {}): Promise<Page<ApiToken>> {
    const page = pageQuery(options, 'asc');
    const { role, usable } = options;
    const now = this.#scope.now();
    const isUsable = { revokedAt: null, OR: [{ expiresAt: null }, { expiresAt: { gt: now } }] };
    const isNot = { OR: [{ revokedAt: { not: null } }, { expiresAt: { lte: now } }] };
    const filter = {
      ...(role !== undefined && { role }),
      ...(usable !== undefined && (usable ? isUsable : isNot)),
    };
    return this.#scope.read(async db => {
      const where = { AND: [page.after, filter] };
      const rows = await db.apiToken.findMany({ where, orderBy: page.orderBy, take: page.take });
      return toPage(rows, page.limit, toToken);
    });
  }

  /**
   * From now on nobody gets in with it, and webhooks that it changed last are suspended. Good to repeat: the first
   * moment stays. Rejects `not-found`, and `last` where `leavesAdmin` is asked for and no other token lets an admin in.
   */
  revoke(ref: string, { leavesAdmin = false }: { leavesAdmin?: boolean } = {}): Promise<ApiToken> {
    return this.#scope.write(async (db, tell) => {
      const where = byRef(ref);
      if (leavesAdmin) await this.#requireOtherAdmin(db, ref);
      await db.apiToken.updateMany({
        where: { ...where, revokedAt: null },
        data: { revokedAt: this.#scope.now() },
      });
      const row = await db.apiToken.findUnique({ where });
      if (!row) throw notFound('token', ref);
      await suspendOrphaned(db, tell, { now: this.#scope.now() });
      return toToken(row);
    });
  }

  /** Held until the end of the transaction: of two who each revoke the other's token one is refused. */
  async #requireOtherAdmin(db: Db, ref: string): Promise<void> {
    const admins = await db.$queryRaw<{ id: string; name: string }[]>`
      SELECT id, name FROM api_token
      WHERE role = 'admin' AND scope = '' AND revoked_at IS NULL
        AND (expires_at IS NULL OR expires_at > ${this.#scope.now()})
      ORDER BY id FOR UPDATE`;
    const [last] = admins;
    if (admins.length !== 1 || (last!.id !== ref && last!.name !== ref)) return;
    throw new CatalogError(
      'token',
      'last',
      `Token '${last!.name}' is the last that lets an admin in. Make another one first (\`tidemark token create NAME ` +
        '--role admin`), or send `allowLastAdmin=true` (`--allow-last-admin`) to leave nobody.',
    );
  }

  /** Somebody got in with it just now. Written once a minute. */
  async noteUse(token: Pick<ApiToken, 'id' | 'lastUsedAt'>): Promise<void> {
    const now = this.#scope.now();
    const sinceMs = now.getTime() - (token.lastUsedAt?.getTime() ?? 0);
    // A clock that was set back must not silence it.
    if (sinceMs >= 0 && sinceMs < USED_AGAIN_MS) return;
    await this.#scope.read(db =>
      db.apiToken.updateMany({ where: { id: token.id }, data: { lastUsedAt: now } }),
    );
  }
}
