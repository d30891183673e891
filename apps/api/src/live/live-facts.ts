// What only storage nodes know at this moment, read and never changed. A list that is richer with it is answered
// without it when the storage node does not answer in time (ADR 0039).
import type { Catalog, StorageNode } from '@tidemark/catalog';
import {
  connectStorageNode,
  type FleetKeys,
  type StorageNodeClients,
  TidemarkError,
  type UnaryOptions,
} from '@tidemark/proto';
import { LIVE_ANSWER_MAX_MS, LIVE_FACTS_MAX_MS } from '../limits.ts';
import { requireOnline } from '../storage-nodes/storage-node-service.ts';

type Question<T> = (clients: StorageNodeClients, options: UnaryOptions) => Promise<T>;

export class LiveFacts {
  readonly #catalog: Catalog;
  readonly #keys: FleetKeys;
  readonly #clients = new Map<string, StorageNodeClients>();
  readonly #stopping = new AbortController();

  constructor(catalog: Catalog, keys: FleetKeys = {}) {
    this.#catalog = catalog;
    this.#keys = keys;
  }

  /** Null when the storage node is away, does not answer in time, or has nothing of the kind. */
  async ask<T>(storageNodeId: string, question: Question<T>): Promise<T | null> {
    const storageNode = await this.#catalog.storageNodes.find(storageNodeId);
    if (storageNode?.state !== 'online') return null;
    try {
      return await question(this.#connect(storageNode), { timeoutMs: LIVE_FACTS_MAX_MS });
    } catch (error) {
      if (error instanceof TidemarkError) return null;
      throw error;
    }
  }

  /** Rejects with what the storage node says, or `storage-node-not-ready`, `storage-node-unreachable`. */
  async require<T>(storageNodeId: string, question: Question<T>): Promise<T> {
    return question(await this.clients(storageNodeId), { timeoutMs: LIVE_ANSWER_MAX_MS });
  }

  /** For streams. Rejects `storage-node-not-ready`, `storage-node-unreachable`. */
  async clients(storageNodeId: string): Promise<StorageNodeClients> {
    const storageNode = await this.#catalog.storageNodes.get(storageNodeId);
    requireOnline(storageNode);
    return this.#connect(storageNode);
  }

  /** Aborts when the service stops: no stream may hold that up. */
  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  stop(): void {
    this.#stopping.abort(new Error('The api service is stopping.'));
  }

  close(): void {
    for (const clients of this.#clients.values()) clients.close();
    this.#clients.clear();
  }

  /** One connection for each storage node, made when first needed, and anew when its address changes. */
  #connect({ id, name, controlAddress }: StorageNode): StorageNodeClients {
    const known = this.#clients.get(id);
    if (known?.address === controlAddress) return known;
    known?.close();
    const clients = connectStorageNode({ name, address: controlAddress, ...this.#keys });
    this.#clients.set(id, clients);
    return clients;
  }
}
