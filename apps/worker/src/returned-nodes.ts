// A storage node that comes back after it was given up still serves what it has to guests that know its address. What
// other storage nodes have brought back meanwhile it is told to serve no more; what nobody has, it keeps serving.
import type { Catalog, StorageNode } from '@tidemark/catalog';
import { TidemarkError } from '@tidemark/proto';
import type { Logger } from 'pino';
import type { WorkerLimits } from './limits.ts';
import { childRunId } from './runs/child-runs.ts';
import type { StorageNodes } from './storage-nodes.ts';

export class ReturnedNodes {
  readonly #catalog: Catalog;
  readonly #storageNodes: StorageNodes;
  readonly #limits: WorkerLimits;
  readonly #log: Logger;

  constructor(options: {
    catalog: Catalog;
    storageNodes: StorageNodes;
    limits: WorkerLimits;
    log: Logger;
  }) {
    this.#catalog = options.catalog;
    this.#storageNodes = options.storageNodes;
    this.#limits = options.limits;
    this.#log = options.log;
  }

  /** Without effect while it does not answer where it did, or another one does. */
  async lookAt(node: StorageNode): Promise<void> {
    const { id, name, lostAddress: controlAddress, instanceId } = node;
    if (controlAddress === null || instanceId === null) return;
    // A connection of its own: its row has no address any more.
    const { storageNode, volumes } = this.#storageNodes.connect({
      id: `returned-${id}`,
      name,
      controlAddress,
    });
    const options = { timeoutMs: this.#limits.statusTimeoutMs };
    try {
      if ((await storageNode.getStatus({}, options)).instanceId !== instanceId) return;
      const served = (await volumes.listVolumes({}, options)).volumes.filter(
        ({ state }) => state === 'ready',
      );
      const ids = served.map(({ volumeId }) => volumeId);
      for (const volumeId of await this.#catalog.losses.foundElsewhere(ids, id)) {
        const step = { runId: childRunId(id, volumeId), step: 'withhold', leaseEpoch: 1 };
        await volumes.withholdVolume({ step, volumeId }, options);
        this.#log.warn({ storageNode: name, volumeId }, 'volume withheld by a storage node that came back');
      }
    } catch (error) {
      // It is away, as it was when it was given up: the next look tells.
      if (!(error instanceof TidemarkError)) throw error;
    }
  }
}
