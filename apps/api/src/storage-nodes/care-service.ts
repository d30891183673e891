// Taking storage nodes out of use: cordoned, drained, given up.
import type { Catalog } from '@tidemark/catalog';
import { requireOnline } from '@tidemark/catalog';
import { parseSelector, type RunRequest } from '@tidemark/proto';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import type { DrainStorageNode, RecoverStorageNode, StorageNodeJson } from '../schemas/storage-node.ts';
import { toStorageNodeJson } from './storage-node-service.ts';

type Started = Promise<StartedRun<{ storageNode: StorageNodeJson }>>;

export class CareService {
  readonly #catalog: Catalog;
  readonly #runs: RunStarter;

  constructor(catalog: Catalog, runs: RunStarter) {
    this.#catalog = catalog;
    this.#runs = runs;
  }

  async setCordoned(ref: string, isCordoned: boolean): Promise<StorageNodeJson> {
    const { id } = await this.#catalog.storageNodes.get(ref);
    return toStorageNodeJson(await this.#catalog.storageNodes.setCordoned(id, isCordoned));
  }

  drain(ref: string, { selector, ...rest }: DrainStorageNode): Started {
    parseSelector(selector);
    return this.#runs.start(async (catalog, runId) => {
      const node = await catalog.storageNodes.get(ref);
      requireOnline(node);
      const { id: storageNodeId, name } = node;
      const request = {
        ...{ storageNodeId, name, selector, speedBytesPerSecond: rest.speedBytesPerSecond ?? null },
      } satisfies RunRequest<'drain-storage-node'>;
      const run = await catalog.runs.create({
        id: runId,
        kind: 'drain-storage-node',
        storageNodeId,
        request,
      });
      return {
        run,
        storageNode: toStorageNodeJson(await catalog.storageNodes.setCordoned(storageNodeId, true)),
      };
    });
  }

  recover(ref: string, { selector, instant }: RecoverStorageNode): Started {
    parseSelector(selector);
    return this.#runs.start(async (catalog, runId) => {
      const { id: storageNodeId, name } = await catalog.storageNodes.get(ref);
      await catalog.losses.giveUp(storageNodeId, runId);
      const request = {
        ...{ storageNodeId, name, selector, instant },
      } satisfies RunRequest<'recover-storage-node'>;
      const run = await catalog.runs.create({
        id: runId,
        kind: 'recover-storage-node',
        storageNodeId,
        request,
      });
      return { run, storageNode: toStorageNodeJson(await catalog.storageNodes.get(storageNodeId)) };
    });
  }
}
