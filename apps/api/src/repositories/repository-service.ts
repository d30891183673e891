// Repositories: intents to make them, and what there is.
import { randomUUID } from 'node:crypto';
import type { Catalog, Repository } from '@tidemark/catalog';
import { type RunRequest, TidemarkError } from '@tidemark/proto';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import type { PageQuery } from '../schemas/common.ts';
import type { CreateRepository, RepositoryJson } from '../schemas/repository.ts';
import { requireOnline } from '../storage-nodes/storage-node-service.ts';

export function toRepositoryJson(repository: Repository): RepositoryJson {
  return {
    id: repository.id,
    name: repository.name,
    storageNodeId: repository.storageNodeId,
    storageNode: repository.storageNode,
    limitBytes: repository.limitBytes,
    state: repository.state,
  };
}

export class RepositoryService {
  readonly #catalog: Catalog;
  readonly #runs: RunStarter;

  constructor(catalog: Catalog, runs: RunStarter) {
    this.#catalog = catalog;
    this.#runs = runs;
  }

  create(body: CreateRepository): Promise<StartedRun<{ repository: RepositoryJson }>> {
    const { name, storageNode, limitBytes = null } = body;
    return this.#runs.start(async (catalog, runId) => {
      const node = await catalog.storageNodes.get(storageNode);
      requireOnline(node);
      const taken = await catalog.repositories.find(name);
      if (taken) {
        throw new TidemarkError(
          'repository-name-taken',
          `Repository '${name}' exists already on storage node '${taken.storageNode}' and is ` +
            `${taken.state}. Choose another name.`,
        );
      }
      const wanted = { id: randomUUID(), name, storageNodeId: node.id, limitBytes };
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
          limitBytes,
        } satisfies RunRequest<'create-repository'>,
      });
      return { run, repository: toRepositoryJson(repository) };
    });
  }

  async list(page: PageQuery) {
    const { items, nextCursor } = await this.#catalog.repositories.list(page);
    return { items: items.map(toRepositoryJson), nextCursor };
  }

  async get(ref: string): Promise<RepositoryJson> {
    return toRepositoryJson(await this.#catalog.repositories.get(ref));
  }

  async find(id: string): Promise<RepositoryJson | null> {
    const repository = await this.#catalog.repositories.find(id);
    return repository && toRepositoryJson(repository);
  }
}
