// Join tokens: each lets one storage node into the fleet, once, until it expires. Only hashes are kept.
import { type Labels, TidemarkError } from '@tidemark/proto';
import { CatalogError, nameTaken } from './errors.ts';
import type { JoinTokenModel, StorageNodeModel } from './generated/models.ts';
import { type Page, type PageOptions, pageQuery, toPage } from './page.ts';
import type { Db, Scope } from './scope.ts';

export interface JoinToken {
  id: string;
  /** Only a storage node of this name may use it; null: any. */
  name: string | null;
  expiresAt: Date;
  usedAt: Date | null;
  storageNodeId: string | null;
  createdAt: Date;
}

/** What a storage node says when it joins. */
export interface Joining {
  /** Of the token. */
  hash: string;
  /** For the row, where there is none yet. */
  id: string;
  name: string;
  controlAddress: string;
  instanceId: string;
  labels: Labels;
}

export interface Joined {
  storageNodeId: string;
  /** Nobody knew it: it has to be asked who it is. */
  isNew: boolean;
}

const toJoinToken = ({ hash: _, instanceId: __, ...token }: JoinTokenModel): JoinToken => token;

export class JoinTokenRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  create(token: { id: string; hash: string; name: string | null; expiresAt: Date }): Promise<JoinToken> {
    return this.#scope.write(async db => toJoinToken(await db.joinToken.create({ data: token })));
  }

  /** Oldest first, also those that are used up. */
  list(options: PageOptions = {}): Promise<Page<JoinToken>> {
    const { after: where, orderBy, take, limit } = pageQuery(options, 'asc');
    return this.#scope.read(async db =>
      toPage(await db.joinToken.findMany({ where, orderBy, take }), limit, toJoinToken),
    );
  }

  /** Good to repeat. */
  delete(id: string): Promise<void> {
    return this.#scope.write(async db => {
      await db.joinToken.deleteMany({ where: { id } });
    });
  }

  /**
   * Uses the token up. A storage node that is known by its instance is found at its new address from here on; any
   * other gets a row, `joining`. Rejects `join-token-invalid`, `storage-node-name-taken`,
   * `storage-node-address-taken`, and `storage-node-lost` for one that was given up.
   */
  join(joining: Joining): Promise<Joined> {
    return this.#scope.write(async (db, tell) => {
      await db.$queryRaw`SELECT 1 FROM join_token WHERE hash = ${joining.hash} FOR UPDATE`;
      const token = await db.joinToken.findUnique({ where: { hash: joining.hash } });
      const now = this.#scope.now();
      requireUsable(token, joining, now);
      const { instanceId, name, controlAddress } = joining;
      await requireFreeAddress(db, joining);
      const known = await db.storageNode.findUnique({ where: { instanceId } });
      const row = known ? await takeOver(db, known, joining) : await add(db, joining);
      const used = { usedAt: now, storageNodeId: row.id, instanceId };
      await db.joinToken.update({ where: { id: token!.id }, data: used });
      const kind = known ? 'storage-node-updated' : 'storage-node-added';
      tell({ kind, subjectType: 'storage-node', subjectId: row.id, data: { name, controlAddress } });
      return { storageNodeId: row.id, isNew: known === null };
    });
  }
}

function requireUsable(token: JoinTokenModel | null, { name, instanceId }: Joining, now: Date): void {
  const refuse = (why: string) => {
    const next = 'An admin makes a new one with `tidemark storage-node join-token`.';
    return new TidemarkError('join-token-invalid', `Storage node '${name}' cannot join: ${why}. ${next}`);
  };
  if (token === null) throw refuse('there is no such join token');
  if (token.usedAt !== null && token.instanceId !== instanceId) {
    throw refuse(`its join token was used by another storage node at ${token.usedAt.toISOString()}`);
  }
  if (token.expiresAt <= now) throw refuse(`its join token has expired at ${token.expiresAt.toISOString()}`);
  if (token.name !== null && token.name !== name) {
    throw refuse(`its join token is for a storage node named '${token.name}'`);
  }
}

async function requireFreeAddress(db: Db, { controlAddress, instanceId }: Joining): Promise<void> {
  const holder = await db.storageNode.findUnique({ where: { controlAddress } });
  if (holder === null || holder.instanceId === instanceId) return;
  const text = `Address ${controlAddress} belongs to storage node '${holder.name}'. Give this one another address.`;
  throw new CatalogError('storage-node', 'address-taken', text);
}

async function takeOver(
  db: Db,
  known: StorageNodeModel,
  { name, controlAddress, labels }: Joining,
): Promise<StorageNodeModel> {
  if (known.state === 'lost') {
    const text =
      `Storage node '${known.name}' was given up as lost, and its volumes may be served elsewhere. Copy away what ` +
      'you need, and let it join with an empty state directory.';
    throw new TidemarkError('storage-node-lost', text);
  }
  if (known.name !== name) {
    const text = `This storage node is registered as '${known.name}', not as '${name}'. Let it keep its name.`;
    throw new CatalogError('storage-node', 'name-taken', text);
  }
  const merged = { ...(known.labels as Labels), ...labels };
  return db.storageNode.update({ where: { id: known.id }, data: { controlAddress, labels: merged } });
}

async function add(db: Db, { hash: _, ...joining }: Joining): Promise<StorageNodeModel> {
  const data = { ...joining, state: 'joining' };
  return db.storageNode.create({ data }).catch(nameTaken('storage-node', joining.name));
}
