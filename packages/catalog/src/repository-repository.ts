// Repositories: places on storage nodes that hold backups.
import type { Labels } from '@tidemark/proto';
import { CatalogError, isForeignKeyViolation, nameTaken, notFound } from './errors.ts';
import type { RepositoryModel } from './generated/models.ts';
import { type Page, type PageOptions, pageQuery, toPage } from './page.ts';
import { byRef } from './ref.ts';
import type { Scope } from './scope.ts';
import { type ChosenFilter, chosenIds } from './selected.ts';

/** `lost`: with its storage node. */
export type RepositoryState = 'creating' | 'ready' | 'deleting' | 'lost';
export type RepositoryCompression = 'none' | 'zstd';

export interface Repository {
  id: string;
  name: string;
  storageNodeId: string;
  /** Name of the storage node. */
  storageNode: string;
  /** Null: as much as the storage node's file system has. */
  limitBytes: number | null;
  /** Of backups that do not say. */
  compression: RepositoryCompression;
  /** Share of its backups that is verified each day. */
  verifyPercentPerDay: number;
  /** Backups into it at the same time, until policies wait. */
  maxConcurrentBackups: number;
  labels: Labels;
  state: RepositoryState;
  createdAt: Date;
}

export interface NewRepository {
  id: string;
  name: string;
  storageNodeId: string;
  limitBytes: number | null;
  /** Default none. */
  compression?: RepositoryCompression;
  /** Default 0. */
  verifyPercentPerDay?: number;
  /** Default none. */
  labels?: Labels;
}

const include = { storageNode: { select: { name: true } } } as const;

function toRepository(row: RepositoryModel & { storageNode: { name: string } }): Repository {
  return {
    ...row,
    storageNode: row.storageNode.name,
    limitBytes: row.limitBytes === null ? null : Number(row.limitBytes),
    compression: row.compression as RepositoryCompression,
    labels: row.labels as Labels,
    state: row.state as RepositoryState,
  };
}

export class RepositoryRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** State `creating`. Rejects `name-taken`, and `storage-node-not-found`. */
  create(repository: NewRepository, runId: string | null = null): Promise<Repository> {
    return this.#insert(repository, { state: 'creating', runId });
  }

  /** One that its storage node has and the catalog has lost: `ready` at once. Rejects as `create` does. */
  adopt(repository: NewRepository, runId: string | null): Promise<Repository> {
    return this.#insert(repository, { state: 'ready', runId });
  }

  #insert(
    repository: NewRepository,
    { state, runId }: { state: 'creating' | 'ready'; runId: string | null },
  ): Promise<Repository> {
    return this.#scope.write(async (db, tell) => {
      const limitBytes = repository.limitBytes === null ? null : BigInt(repository.limitBytes);
      const row = await db.repository
        .create({ data: { ...repository, limitBytes, state }, include })
        .catch(error => {
          if (isForeignKeyViolation(error)) throw notFound('storage-node', repository.storageNodeId);
          return nameTaken('repository', repository.name)(error);
        });
      const data = { name: row.name };
      const kind = state === 'ready' ? 'repository-adopted' : 'repository-creating';
      tell({ kind, subjectType: 'repository', subjectId: row.id, runId, data });
      return toRepository(row);
    });
  }

  async find(ref: string): Promise<Repository | null> {
    const row = await this.#scope.read(db => db.repository.findUnique({ where: byRef(ref), include }));
    return row && toRepository(row);
  }

  /** Rejects `not-found`. */
  async get(ref: string): Promise<Repository> {
    const repository = await this.find(ref);
    if (!repository) throw notFound('repository', ref);
    return repository;
  }

  /** As `get`, and rejects `not-ready` while it is being made. */
  async getReady(ref: string): Promise<Repository> {
    const repository = await this.get(ref);
    if (repository.state === 'ready') return repository;
    const text =
      repository.state === 'lost'
        ? `Repository '${repository.name}' is lost with storage node '${repository.storageNode}'. Use another one.`
        : `Repository '${repository.name}' is ${repository.state}. Wait until its run has ended.`;
    throw new CatalogError('repository', 'not-ready', text);
  }

  /** Ids of those that live on the storage node. */
  async idsOn(storageNodeId: string): Promise<string[]> {
    const query = { where: { storageNodeId }, select: { id: true } };
    return (await this.#scope.read(db => db.repository.findMany(query))).map(({ id }) => id);
  }

  /** Oldest first. */
  list(options: PageOptions & ChosenFilter = {}): Promise<Page<Repository>> {
    const { after, orderBy, take, limit } = pageQuery(options, 'asc');
    return this.#scope.read(async db => {
      const where = { AND: [after, await chosenIds(db, 'repository', options)] };
      return toPage(await db.repository.findMany({ where, orderBy, take, include }), limit, toRepository);
    });
  }

  /** The storage node has it. Rejects `not-found`. */
  markReady(id: string, runId: string | null): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { count } = await db.repository.updateMany({ where: { id }, data: { state: 'ready' } });
      if (count === 0) throw notFound('repository', id);
      tell({ kind: 'repository-ready', subjectType: 'repository', subjectId: id, runId });
    });
  }

  /** Labels are replaced. Rejects `not-found`. */
  update(
    id: string,
    changes: { verifyPercentPerDay?: number; labels?: Labels; maxConcurrentBackups?: number },
  ): Promise<Repository> {
    const { verifyPercentPerDay, labels, maxConcurrentBackups } = changes;
    const settings = {
      ...(maxConcurrentBackups !== undefined && { maxConcurrentBackups }),
      ...(verifyPercentPerDay !== undefined && { verifyPercentPerDay }),
      ...(labels !== undefined && { labels }),
    };
    return this.#scope.write(async (db, tell) => {
      const { count } = await db.repository.updateMany({ where: { id }, data: settings });
      if (count === 0) throw notFound('repository', id);
      tell({ kind: 'repository-changed', subjectType: 'repository', subjectId: id, data: settings });
      return toRepository(await db.repository.findUniqueOrThrow({ where: { id }, include }));
    });
  }

  /** Nothing new is begun in it. Rejects `in-use` when it holds backups, and `not-found`. Good to repeat. */
  markDeleting(id: string, runId: string | null): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      await db.$queryRaw`SELECT 1 FROM repository WHERE id = ${id}::uuid FOR UPDATE`;
      const row = await db.repository.findUnique({ where: { id } });
      if (row === null) throw notFound('repository', id);
      const backups = await db.backup.count({ where: { repositoryId: id } });
      if (backups > 0) {
        const text = `Repository '${row.name}' holds ${backups} backups. Delete them first.`;
        throw new CatalogError('repository', 'in-use', text);
      }
      await db.repository.update({ where: { id }, data: { state: 'deleting' } });
      tell({ kind: 'repository-deleting', subjectType: 'repository', subjectId: id, runId });
    });
  }

  /** Its deletion failed. */
  markKept(id: string, runId: string | null): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const where = { id, state: 'deleting' };
      const { count } = await db.repository.updateMany({ where, data: { state: 'ready' } });
      if (count === 1) tell({ kind: 'repository-ready', subjectType: 'repository', subjectId: id, runId });
    });
  }

  /** The row of one that was never made, or is no more. Rejects `in-use` when it holds backups. Good to repeat. */
  delete(id: string, runId: string | null): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { count } = await db.repository.deleteMany({ where: { id } }).catch(error => {
        if (!isForeignKeyViolation(error)) throw error;
        throw new CatalogError('repository', 'in-use', `Repository ${id} still holds backups.`, error);
      });
      if (count === 1) tell({ kind: 'repository-deleted', subjectType: 'repository', subjectId: id, runId });
    });
  }
}
