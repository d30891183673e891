// Backups one over the other, as a copier makes them: data, zeroes and checksums over NBD. What each of them holds is
// kept beside, byte by byte.
import { randomUUID } from 'node:crypto';
import { SeededRandom } from '@tidemark/engine/testing';
import { NbdClient } from '@tidemark/nbd';
import { CLUSTER_BYTES, clusterDigest, RECORD_BYTES, ZEROES_RECORD } from '../sums/sums-format.ts';
import { createRepository, MiB, publicationOf } from './backups.ts';
import { newStep, type ReachedStorageNode } from './running-storage-node.ts';

export interface ChainBackup {
  readonly backupId: string;
  readonly parentId: string;
  readonly content: Buffer;
}

export class ModelChain {
  readonly node: ReachedStorageNode;
  readonly repositoryId: string;
  readonly volumeId: string = randomUUID();
  readonly backups: ChainBackup[] = [];
  readonly #random: SeededRandom;
  readonly #compression: string;

  private constructor(
    node: ReachedStorageNode,
    options: { repositoryId: string; seed: number; compression: string },
  ) {
    this.node = node;
    this.repositoryId = options.repositoryId;
    this.#compression = options.compression;
    this.#random = new SeededRandom(options.seed);
  }

  static async start(
    node: ReachedStorageNode,
    { seed = 1, compression = 'none' }: { seed?: number; compression?: string } = {},
  ): Promise<ModelChain> {
    const repositoryId = await createRepository(node);
    return new ModelChain(node, { repositoryId, seed, compression });
  }

  /** Of random changes to `parent`, which is the newest unless named; the first one is full. */
  async add({
    parent = this.backups.at(-1),
    sizeBytes = parent?.content.length ?? 4 * MiB,
    changes = 6,
  }: {
    parent?: ChainBackup | undefined;
    sizeBytes?: number;
    changes?: number;
  } = {}): Promise<ChainBackup> {
    const { repositoryId, volumeId } = this;
    const backupId = randomUUID();
    const plan = { repositoryId, backupId, volumeId, sizeBytes, parentBackupId: parent?.backupId ?? '' };
    const { repositories } = this.node.clients;
    const step = newStep();
    const endpoint = await repositories.prepareBackup({ step, ...plan, compression: this.#compression });
    const content = Buffer.alloc(sizeBytes);
    parent?.content.copy(content);
    await this.#copy(endpoint, { content, changes, grownFrom: parent?.content.length ?? 0 });
    await repositories.publishBackup({ step: newStep(), ...publicationOf(plan) });
    const backup = { backupId, parentId: plan.parentBackupId, content };
    this.backups.push(backup);
    return backup;
  }

  async #copy(
    { uri, sumsUri }: { uri: string; sumsUri: string },
    { content, changes, grownFrom }: { content: Buffer; changes: number; grownFrom: number },
  ): Promise<void> {
    await using data = await connected(uri);
    await using sums = await connected(sumsUri);
    const records = Math.ceil(content.length / CLUSTER_BYTES);
    const grown = grownFrom === content.length ? records : Math.floor(grownFrom / CLUSTER_BYTES);
    for (let change = 0; change < changes; change++) {
      const first = this.#random.int(0, records - 1);
      const end = Math.min(records, first + this.#random.int(1, 8));
      await this.#put({ data, sums }, content, { first, end, zero: this.#random.chance(0.3) });
    }
    // A volume that grew has all that is new as changed.
    if (grown < records)
      await this.#put({ data, sums }, content, { first: grown, end: records, zero: false });
    await data.client.flush();
    await sums.client.flush();
  }

  async #put(
    { data, sums }: Record<'data' | 'sums', { client: NbdClient }>,
    content: Buffer,
    { first, end, zero }: { first: number; end: number; zero: boolean },
  ): Promise<void> {
    for (let index = first; index < end; index++) {
      const offset = index * CLUSTER_BYTES;
      const cluster = content.subarray(offset, Math.min(offset + CLUSTER_BYTES, content.length));
      if (zero) {
        cluster.fill(0);
        await data.client.writeZeroes(offset, cluster.length);
      } else {
        // Half of it compresses well.
        this.#random.bytes(cluster.length / 2).copy(cluster);
        cluster[cluster.length - 1] = index + 1;
        await data.client.write(offset, cluster);
      }
      const record = zero ? ZEROES_RECORD : clusterDigest(cluster);
      await sums.client.write(index * RECORD_BYTES, record);
    }
  }
}

async function connected(uri: string): Promise<{ client: NbdClient } & AsyncDisposable> {
  const client = await NbdClient.connect({ uri });
  return { client, [Symbol.asyncDispose]: () => client.disconnect() };
}
