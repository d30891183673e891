// Repositories: intents to make, scan and delete them, and what there is.
import { randomUUID } from 'node:crypto';
import { type Catalog, type CatalogTransaction, type Repository, requireOpen } from '@tidemark/catalog';
import { type RunRequest, TidemarkError } from '@tidemark/proto';
import { idOf } from '../filters.ts';
import type { LiveFacts } from '../live/live-facts.ts';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import { chosenPage, type PlacedPageQuery } from '../schemas/common.ts';
import type { ChangeRepository, CreateRepository, RepositoryJson } from '../schemas/repository.ts';
import { requireOnline } from '../storage-nodes/storage-node-service.ts';

/** What only the repository's storage node knows. */
type Room = Pick<RepositoryJson, 'usedBytes' | 'availableBytes'>;

const UNKNOWN_ROOM: Room = { usedBytes: null, availableBytes: null };

function toRepositoryJson(repository: Repository, room: Room = UNKNOWN_ROOM): RepositoryJson {
  return {
    id: repository.id,
    name: repository.name,
    storageNodeId: repository.storageNodeId,
    storageNode: repository.storageNode,
    limitBytes: repository.limitBytes,
    compression: repository.compression,
    verifyPercentPerDay: repository.verifyPercentPerDay,
    maxConcurrentBackups: repository.maxConcurrentBackups,
    ...room,
    labels: repository.labels,
    state: repository.state,
  };
}

export class RepositoryService {
  readonly #catalog: Catalog;
  readonly #runs: RunStarter;
  readonly #liveFacts: LiveFacts;

  constructor(catalog: Catalog, runs: RunStarter, liveFacts: LiveFacts) {
    this.#catalog = catalog;
    this.#runs = runs;
    this.#liveFacts = liveFacts;
  }

  create(body: CreateRepository): Promise<StartedRun<{ repository: RepositoryJson }>> {
    const { name, storageNode, limitBytes = null, compression, verifyPercentPerDay, labels = {} } = body;
    return this.#runs.start(async (catalog, runId) => {
      const node = await catalog.storageNodes.get(storageNode);
      requireOpen(node);
      const taken = await catalog.repositories.find(name);
      if (taken) {
        throw new TidemarkError(
          'repository-name-taken',
          `Repository '${name}' exists already on storage node '${taken.storageNode}' and is ` +
            `${taken.state}. Choose another name.`,
        );
      }
      const settings = { limitBytes, compression };
      const wanted = {
        id: randomUUID(),
        name,
        storageNodeId: node.id,
        ...settings,
        verifyPercentPerDay,
        labels,
      };
      const repository = await catalog.repositories.create(wanted, runId);
      const run = await catalog.runs.create({
        id: runId,
        kind: 'create-repository',
        storageNodeId: node.id,
        repositoryId: repository.id,
        request: {
          repositoryId: repository.id,
          name,
          storageNodeId: node.id,
          ...settings,
        } satisfies RunRequest<'create-repository'>,
      });
      return { run, repository: toRepositoryJson(repository) };
    });
  }

  /** A setting of the catalog alone: there is nothing to run. */
  async change(ref: string, body: ChangeRepository): Promise<RepositoryJson> {
    const { id } = await this.#catalog.repositories.getReady(ref);
    return this.#withRoom(await this.#catalog.repositories.update(id, body));
  }

  scan(ref: string): Promise<StartedRun<{ repository: RepositoryJson }>> {
    return this.#runs.start(async (catalog, runId) => {
      const repository = await readyAndOnline(catalog, ref);
      const { id, name, storageNodeId } = repository;
      const run = await catalog.runs.create({
        id: runId,
        kind: 'scan-repository',
        storageNodeId,
        repositoryId: id,
        request: { repositoryId: id, name } satisfies RunRequest<'scan-repository'>,
      });
      return { run, repository: toRepositoryJson(repository) };
    });
  }

  remove(ref: string): Promise<StartedRun<{ repository: RepositoryJson }>> {
    return this.#runs.start(async (catalog, runId) => {
      const { id, name, storageNodeId } = await readyAndOnline(catalog, ref);
      await catalog.repositories.markDeleting(id, runId);
      const run = await catalog.runs.create({
        id: runId,
        kind: 'delete-repository',
        storageNodeId,
        repositoryId: id,
        request: { repositoryId: id, name, storageNodeId } satisfies RunRequest<'delete-repository'>,
      });
      return { run, repository: toRepositoryJson(await catalog.repositories.get(id)) };
    });
  }

  async list({ storageNode, ...query }: PlacedPageQuery) {
    const storageNodeId = await idOf(storageNode, this.#catalog.storageNodes);
    const found = await this.#catalog.repositories.list({ ...chosenPage(query), storageNodeId });
    const { items, nextCursor } = found;
    return { items: await Promise.all(items.map(repository => this.#withRoom(repository))), nextCursor };
  }

  async get(ref: string): Promise<RepositoryJson> {
    return this.#withRoom(await this.#catalog.repositories.get(ref));
  }

  async find(id: string): Promise<RepositoryJson | null> {
    const repository = await this.#catalog.repositories.find(id);
    return repository && this.#withRoom(repository);
  }

  async #withRoom(repository: Repository): Promise<RepositoryJson> {
    const { id: repositoryId, storageNodeId } = repository;
    const live = await this.#liveFacts.ask(storageNodeId, ({ repositories }, options) =>
      repositories.getRepository({ repositoryId }, options),
    );
    if (live === null) return toRepositoryJson(repository);
    const { usedBytes, availableBytes } = live;
    return toRepositoryJson(repository, { usedBytes, availableBytes });
  }
}

async function readyAndOnline(catalog: CatalogTransaction, ref: string): Promise<Repository> {
  const repository = await catalog.repositories.getReady(ref);
  requireOnline(await catalog.storageNodes.get(repository.storageNodeId));
  return repository;
}
