// Storage nodes: joining the fleet, leaving it, and whether new work may be sent to one.
import { randomUUID } from 'node:crypto';
import type { Catalog, StorageNode } from '@tidemark/catalog';
import { type RunRequest, TidemarkError } from '@tidemark/proto';
import { isoOrNull } from '../moments.ts';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import { type ChosenPageQuery, chosenPage } from '../schemas/common.ts';
import type { CreateStorageNode, StorageNodeJson, UpdateStorageNode } from '../schemas/storage-node.ts';

export function toStorageNodeJson(node: StorageNode): StorageNodeJson {
  return {
    id: node.id,
    name: node.name,
    controlAddress: node.controlAddress,
    nbdAddress: node.nbdAddress,
    state: node.state,
    cordonedAt: isoOrNull(node.cordonedAt),
    lastSeenAt: isoOrNull(node.lastSeenAt),
    capacityBytes: node.capacityBytes,
    availableBytes: node.availableBytes,
    version: node.version,
    maxConcurrentBackups: node.maxConcurrentBackups,
    labels: node.labels,
  };
}

export { requireOnline } from '@tidemark/catalog';

export class StorageNodeService {
  readonly #catalog: Catalog;
  readonly #runs: RunStarter;

  constructor(catalog: Catalog, runs: RunStarter) {
    this.#catalog = catalog;
    this.#runs = runs;
  }

  create(body: CreateStorageNode): Promise<StartedRun<{ storageNode: StorageNodeJson }>> {
    const { name, controlAddress, labels = {} } = body;
    return this.#runs.start(async (catalog, runId) => {
      const taken = await catalog.storageNodes.find(name);
      if (taken) {
        throw new TidemarkError(
          'storage-node-name-taken',
          `Storage node '${name}' exists already and is ${taken.state}. Choose another name, ` +
            'or remove that one first.',
        );
      }
      const node = await catalog.storageNodes.create({ id: randomUUID(), name, controlAddress, labels });
      const run = await catalog.runs.create({
        id: runId,
        kind: 'register-storage-node',
        storageNodeId: node.id,
        request: {
          storageNodeId: node.id,
          name,
          controlAddress,
        } satisfies RunRequest<'register-storage-node'>,
      });
      return { run, storageNode: toStorageNodeJson(node) };
    });
  }

  async list(query: ChosenPageQuery) {
    const { items, nextCursor } = await this.#catalog.storageNodes.list(chosenPage(query));
    return { items: items.map(toStorageNodeJson), nextCursor };
  }

  async get(ref: string): Promise<StorageNodeJson> {
    return toStorageNodeJson(await this.#catalog.storageNodes.get(ref));
  }

  async find(id: string): Promise<StorageNodeJson | null> {
    const node = await this.#catalog.storageNodes.find(id);
    return node && toStorageNodeJson(node);
  }

  async update(ref: string, changes: UpdateStorageNode): Promise<StorageNodeJson> {
    const { id } = await this.#catalog.storageNodes.get(ref);
    return toStorageNodeJson(await this.#catalog.storageNodes.update(id, changes));
  }

  remove(ref: string): Promise<StartedRun<{ storageNode: StorageNodeJson }>> {
    return this.#runs.start(async (catalog, runId) => {
      const node = await catalog.storageNodes.get(ref);
      const { volumes, repositories } = await catalog.storageNodes.countUses(node.id);
      if (volumes + repositories > 0) {
        throw new TidemarkError(
          'storage-node-in-use',
          `Storage node '${node.name}' owns ${volumes} volumes and ${repositories} ` +
            'repositories. Delete those first.',
        );
      }
      const user = await catalog.storageNodes.findUnendedRun(node.id);
      if (user) {
        throw new TidemarkError(
          'storage-node-in-use',
          `Storage node '${node.name}' is used by ${user.kind} run ${user.id}. Wait for it, or cancel it.`,
        );
      }
      const run = await catalog.runs.create({
        id: runId,
        kind: 'remove-storage-node',
        storageNodeId: node.id,
        request: { storageNodeId: node.id, name: node.name } satisfies RunRequest<'remove-storage-node'>,
      });
      return { run, storageNode: toStorageNodeJson(node) };
    });
  }
}
