// Storage nodes that join by themselves: tokens that admins give out, and what a storage node says with one.
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import type { Catalog, JoinToken } from '@tidemark/catalog';
import type { RunRequest } from '@tidemark/proto';
import { iso, isoOrNull } from '../moments.ts';
import { toRunJson } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import type { PageQuery } from '../schemas/common.ts';
import type { CreateJoinToken, JoinStorageNode, JoinTokenJson } from '../schemas/join-token.ts';
import type { RunJson } from '../schemas/run.ts';
import type { StorageNodeJson } from '../schemas/storage-node.ts';
import { toStorageNodeJson } from './storage-node-service.ts';

const PREFIX = 'tmj_';
/** Nobody guesses it: 256 bits. */
const SECRET_BYTES = 32;

const hashOf = (secret: string): string => createHash('sha256').update(secret).digest('hex');

function toJoinTokenJson(token: JoinToken): JoinTokenJson {
  return {
    id: token.id,
    name: token.name,
    expiresAt: iso(token.expiresAt),
    usedAt: isoOrNull(token.usedAt),
    storageNodeId: token.storageNodeId,
    createdAt: iso(token.createdAt),
  };
}

export class JoinService {
  readonly #catalog: Catalog;
  readonly #runs: RunStarter;
  readonly #now: () => Date;

  constructor(catalog: Catalog, runs: RunStarter, now: () => Date = () => new Date()) {
    this.#catalog = catalog;
    this.#runs = runs;
    this.#now = now;
  }

  async create({ name, expiresInMs }: CreateJoinToken) {
    const secret = `${PREFIX}${randomBytes(SECRET_BYTES).toString('hex')}`;
    const expiresAt = new Date(this.#now().getTime() + expiresInMs);
    const wanted = { id: randomUUID(), hash: hashOf(secret), name: name ?? null, expiresAt };
    return { joinToken: toJoinTokenJson(await this.#catalog.joinTokens.create(wanted)), secret };
  }

  async list(page: PageQuery) {
    const { items, nextCursor } = await this.#catalog.joinTokens.list(page);
    return { items: items.map(toJoinTokenJson), nextCursor };
  }

  async remove(id: string): Promise<{ id: string }> {
    await this.#catalog.joinTokens.delete(id);
    return { id };
  }

  /** It is registered by a run, which asks it who it is; one that is known has its new address at once. */
  async join({
    token,
    ...joining
  }: JoinStorageNode): Promise<{ storageNode: StorageNodeJson; run: RunJson | null }> {
    const hash = hashOf(token);
    const { run, node } = await this.#catalog.transaction(async catalog => {
      const { storageNodeId, isNew } = await catalog.joinTokens.join({ ...joining, hash, id: randomUUID() });
      const { name, controlAddress } = joining;
      const request = { storageNodeId, name, controlAddress } satisfies RunRequest<'register-storage-node'>;
      const created = isNew
        ? await catalog.runs.create({
            id: randomUUID(),
            kind: 'register-storage-node',
            storageNodeId,
            request,
          })
        : null;
      return { run: created, node: await catalog.storageNodes.get(storageNodeId) };
    });
    if (run !== null) this.#runs.handOver(run);
    return { storageNode: toStorageNodeJson(node), run: run && toRunJson(run) };
  }
}
