// Tokens: who gets in with one, and how admins make, list and revoke them.
import { randomUUID } from 'node:crypto';
import type { ApiToken, Catalog } from '@tidemark/catalog';
import { parseSelector, selectorText, TidemarkError } from '@tidemark/proto';
import type { z } from 'zod';
import { iso, isoOrNull } from '../moments.ts';
import type { CreateToken, revokeTokenQuery, TokenJson, tokenQuery } from '../schemas/token.ts';
import { type Actor, RESERVED_NAMES } from './actor.ts';
import { isSameHash, newTokenText, type ParsedToken, parseToken } from './api-token.ts';

export interface TokenServiceOptions {
  readonly catalog: Catalog;
  /** Lets an admin in who has made no token yet. From its first use on it is one, and can be revoked as any other. */
  readonly bootstrapToken?: string | undefined;
  /** False: whoever has none is an admin. */
  readonly needsToken: boolean;
  readonly now: () => Date;
}

const BOOTSTRAP_NAME = 'bootstrap';
const REFUSED = "Send 'authorization: Bearer TOKEN'; an admin makes tokens with `tidemark token create`.";

function toTokenJson(token: ApiToken, now: Date): TokenJson {
  const expired = token.expiresAt !== null && token.expiresAt <= now;
  return {
    id: token.id,
    name: token.name,
    prefix: token.prefix,
    role: token.role,
    scope: token.scope,
    state: token.revokedAt !== null ? 'revoked' : expired ? 'expired' : 'usable',
    createdBy: token.createdBy,
    createdAt: iso(token.createdAt),
    expiresAt: isoOrNull(token.expiresAt),
    lastUsedAt: isoOrNull(token.lastUsedAt),
    revokedAt: isoOrNull(token.revokedAt),
  };
}

const refusal = (why: string) => new TidemarkError('unauthenticated', `${why} ${REFUSED}`);

export class TokenService {
  readonly #catalog: Catalog;
  readonly #now: () => Date;
  readonly #bootstrap: ParsedToken | null;
  readonly #needsToken: boolean;

  constructor({ catalog, bootstrapToken, needsToken, now }: TokenServiceOptions) {
    this.#catalog = catalog;
    this.#now = now;
    this.#needsToken = needsToken;
    this.#bootstrap = bootstrapToken === undefined ? null : parseToken(bootstrapToken);
  }

  /**
   * Who has sent this header. Rejects `unauthenticated`: one text for tokens that are unknown and for those that are
   * wrong, and it never repeats what was sent.
   */
  async authenticate(header: string | undefined): Promise<Actor> {
    if (header === undefined) throw refusal('The request has no token.');
    const text = /^Bearer +([\x21-\x7e]{1,512})$/i.exec(header)?.[1];
    if (text === undefined) throw refusal('The authorization of the request is not a bearer token.');
    const given = parseToken(text);
    const token = (await this.#catalog.tokens.findByPrefix(given.prefix)) ?? (await this.#firstUse(given));
    if (token === null || !isSameHash(token.hash, given.hash)) throw refusal('The token is not known.');
    if (token.revokedAt !== null)
      throw refusal(`Token '${token.name}' was revoked at ${iso(token.revokedAt)}.`);
    if (token.expiresAt !== null && token.expiresAt <= this.#now())
      throw refusal(`Token '${token.name}' expired at ${iso(token.expiresAt)}.`);
    // Nobody waits for it, and nobody is refused because it fails.
    this.#catalog.tokens.noteUse(token).catch(() => {});
    return { name: token.name, role: token.role, tokenId: token.id, scope: token.scope };
  }

  async #firstUse({ prefix, hash }: ParsedToken): Promise<ApiToken | null> {
    const bootstrap = this.#bootstrap;
    if (bootstrap === null || !isSameHash(bootstrap.hash, hash)) return null;
    // Another bootstrap token than the first has the name: it is told apart by its prefix.
    const names = [BOOTSTRAP_NAME, `${BOOTSTRAP_NAME}-${prefix}`];
    for (const name of names) {
      const row = {
        id: randomUUID(),
        name,
        prefix,
        hash,
        role: 'admin' as const,
        scope: '',
        expiresAt: null,
      };
      const made = await this.#catalog.tokens.create({ ...row, createdBy: 'system' }).catch(() => null);
      if (made) return made;
    }
    // Made at this moment by another request.
    return this.#catalog.tokens.findByPrefix(prefix);
  }

  /** The answer is the only place where the token itself ever stands. Rejects `token-name-taken`. */
  async create(wanted: CreateToken, actor: Actor): Promise<{ token: TokenJson; secret: string }> {
    const { name, role, expiresAt } = wanted;
    if (RESERVED_NAMES.includes(name)) {
      const text = `Token '${name}' would have the name that what the system does by itself goes by. Choose another.`;
      throw new TidemarkError('invalid-request', text);
    }
    const at = expiresAt === undefined ? null : new Date(expiresAt);
    if (at !== null && at <= this.#now()) {
      const text = `'expiresAt' is ${iso(at)}, which has passed. Send a later moment, or leave it out.`;
      throw new TidemarkError('invalid-request', text);
    }
    const secret = newTokenText();
    const made = await this.#catalog.tokens.create({
      ...{ id: randomUUID(), name, role, expiresAt: at, createdBy: actor.name },
      ...parseToken(secret),
      scope: scopeText(wanted.scope),
    });
    return { token: toTokenJson(made, this.#now()), secret };
  }

  async list(query: z.output<typeof tokenQuery>) {
    const { state, ...page } = query;
    const usable = state === undefined ? undefined : state === 'usable';
    const { items, nextCursor } = await this.#catalog.tokens.list({ ...page, usable });
    return { items: items.map(token => toTokenJson(token, this.#now())), nextCursor };
  }

  async get(ref: string): Promise<TokenJson> {
    return toTokenJson(await this.#catalog.tokens.get(ref), this.#now());
  }

  /** Rejects `token-last` where nobody could make tokens afterwards, unless that is wanted. */
  async revoke(ref: string, { allowLastAdmin }: z.output<typeof revokeTokenQuery>): Promise<TokenJson> {
    const leavesAdmin = this.#needsToken && !allowLastAdmin && !(await this.#hasUnusedBootstrap());
    return toTokenJson(await this.#catalog.tokens.revoke(ref, { leavesAdmin }), this.#now());
  }

  /** From its first use on it is a token as any other. */
  async #hasUnusedBootstrap(): Promise<boolean> {
    return (
      this.#bootstrap !== null && (await this.#catalog.tokens.findByPrefix(this.#bootstrap.prefix)) === null
    );
  }
}

/** As it is written again: what cannot be read is refused here, and not when somebody is to be let in. */
function scopeText(scope: string): string {
  return selectorText(parseSelector(scope));
}
