// Connections to storage nodes, one for each, made when first needed and made anew when its address changes.
import type { Catalog } from '@tidemark/catalog';
import { connectStorageNode, type FleetKeys, type StorageNodeClients } from '@tidemark/proto';

export class StorageNodes {
  readonly #catalog: Catalog;
  readonly #keys: FleetKeys;
  readonly #clients = new Map<string, StorageNodeClients>();

  constructor(catalog: Catalog, { fleetSecret, tls }: FleetKeys = {}) {
    this.#catalog = catalog;
    this.#keys = { fleetSecret, tls };
  }

  /** Rejects `storage-node-not-found`. */
  async get(id: string): Promise<StorageNodeClients> {
    const { name, controlAddress } = await this.#catalog.storageNodes.get(id);
    return this.connect({ id, name, controlAddress });
  }

  connect(node: { id: string; name: string; controlAddress: string }): StorageNodeClients {
    const known = this.#clients.get(node.id);
    if (known?.address === node.controlAddress) return known;
    known?.close();
    const { name, controlAddress: address } = node;
    const clients = connectStorageNode({ name, address, ...this.#keys });
    this.#clients.set(node.id, clients);
    return clients;
  }

  /** The storage node that a volume lives on. Rejects `volume-not-found`. */
  async ofVolume(volumeId: string): Promise<StorageNodeClients> {
    return this.connect(await this.#catalog.storageNodes.ofVolume(volumeId));
  }

  /** The storage node that a repository lives on. Rejects `repository-not-found`. */
  async ofRepository(repositoryId: string): Promise<StorageNodeClients> {
    return this.connect(await this.#catalog.storageNodes.ofRepository(repositoryId));
  }

  close(): void {
    for (const clients of this.#clients.values()) clients.close();
    this.#clients.clear();
  }
}
