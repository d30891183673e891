// Asks every storage node for its status, and keeps what the catalog says of them true.
import { type Catalog, pagesOf, type StorageNode } from '@tidemark/catalog';
import { soundLabels, TidemarkError } from '@tidemark/proto';
import type { Logger } from 'pino';
import type { WorkerLimits } from './limits.ts';
import type { ReconcileSchedule } from './reconcile/reconcile-schedule.ts';
import { ReturnedNodes } from './returned-nodes.ts';
import { Rhythm } from './rhythm.ts';
import type { StorageNodes } from './storage-nodes.ts';

export class StorageMonitor {
  readonly #catalog: Catalog;
  readonly #storageNodes: StorageNodes;
  readonly #limits: WorkerLimits;
  readonly #schedule: ReconcileSchedule;
  readonly #log: Logger;
  readonly #returned: ReturnedNodes;
  readonly #rhythm: Rhythm;

  constructor(options: {
    catalog: Catalog;
    storageNodes: StorageNodes;
    limits: WorkerLimits;
    schedule: ReconcileSchedule;
    log: Logger;
  }) {
    this.#catalog = options.catalog;
    this.#storageNodes = options.storageNodes;
    this.#limits = options.limits;
    this.#schedule = options.schedule;
    this.#log = options.log;
    this.#returned = new ReturnedNodes(options);
    this.#rhythm = new Rhythm(() => this.#lookAtAll(), options.limits.monitorMs, options.log);
  }

  start(): void {
    this.#rhythm.start();
  }

  close(): Promise<void> {
    return this.#rhythm.close();
  }

  /** Looks at every one, also when one of them cannot be written down; rejects with the first such failure. */
  async #lookAtAll(): Promise<void> {
    const failures: unknown[] = [];
    for await (const nodes of pagesOf(page => this.#catalog.storageNodes.list(page))) {
      // One that is joining is asked by its own run.
      const members = nodes.filter(node => node.state !== 'joining');
      const looks = await Promise.allSettled(
        members.map(node => (node.state === 'lost' ? this.#returned.lookAt(node) : this.#lookAt(node))),
      );
      for (const look of looks) if (look.status === 'rejected') failures.push(look.reason);
    }
    if (failures.length > 0) throw failures[0];
  }

  async #lookAt(node: StorageNode): Promise<void> {
    const { storageNodes } = this.#catalog;
    try {
      const { instanceId, nbdAddress, version, capacityBytes, availableBytes, startedAtMs, labels } =
        await this.#ask(node);
      const report = {
        ...{ instanceId, nbdAddress, version, capacityBytes, availableBytes },
        labels: soundLabels(labels),
      };
      const wasAway = node.state !== 'online';
      if (wasAway || !(await storageNodes.stillOnline(node.id, report))) {
        await storageNodes.markOnline(node.id, report);
      }
      if (wasAway) this.#log.info({ storageNode: node.name }, 'storage node online');
      await this.#schedule.heardOf(node, { startedAtMs, wasAway });
    } catch (error) {
      if (!(error instanceof TidemarkError)) throw error;
      // Another worker may have heard of it since this look began.
      const { lastSeenAt: seenAt } = node;
      const isNews = await storageNodes.markUnreachable(node.id, error.message, { seenAt });
      if (isNews)
        this.#log.warn({ storageNode: node.name, detail: error.message }, 'storage node unreachable');
    }
  }

  async #ask(node: StorageNode) {
    const { storageNode } = this.#storageNodes.connect(node);
    const status = await storageNode.getStatus({}, { timeoutMs: this.#limits.statusTimeoutMs });
    if (node.instanceId === null || status.instanceId === node.instanceId) return status;
    throw new TidemarkError(
      'storage-node-unreachable',
      `Another storage node ('${status.name}') answers at ${node.controlAddress}, the address of ` +
        `'${node.name}'. Start the right one there, or register the other under its own name.`,
    );
  }
}
