// What a backup is expected to take, and how much room its repository has: asked of the storage nodes, which alone
// know. Who does not answer in time is left out of the account, or makes the backup wait where it could not run.
import type { Catalog, FiringMember } from '@tidemark/catalog';
import { TidemarkError } from '@tidemark/proto';
import type { StorageNodes } from '../storage-nodes.ts';

const ANSWER_MAX_MS = 3_000;
/** Volumes of a group: storage nodes have their guests to serve. */
const ASKED_AT_ONCE = 8;

export class Needs {
  readonly #catalog: Catalog;
  readonly #storageNodes: StorageNodes;

  constructor(catalog: Catalog, storageNodes: StorageNodes) {
    this.#catalog = catalog;
    this.#storageNodes = storageNodes;
  }

  /** Bytes, at most; null: not known. Rejects `storage-node-unreachable`. */
  async ofMember({ volumeId, repositoryId, kind }: FiringMember): Promise<number | null> {
    if (repositoryId === null || kind === 'checkpoint') return null;
    const clients = await this.#storageNodes.ofVolume(volumeId);
    const options = { timeoutMs: ANSWER_MAX_MS };
    return unlessUnknown(async () => {
      const base = kind === 'full' ? null : await this.#base(volumeId, repositoryId, kind);
      if (base !== null) {
        const { checkpoints } = await clients.checkpoints.listCheckpoints({ volumeId }, options);
        const live = checkpoints.find(({ checkpointId }) => checkpointId === base);
        if (live !== undefined && !live.inconsistent) return live.changedSinceBytes;
      }
      return (await clients.volumes.getVolume({ volumeId }, options)).allocatedBytes;
    });
  }

  /** By the members' ids, as `ofMember` has it; what that rejects with is handed to `failed` of the member. */
  async ofAll(
    members: readonly FiringMember[],
    failed: (member: FiringMember) => (error: unknown) => never,
  ): Promise<Map<string, number | null>> {
    const needs = new Map<string, number | null>();
    const rest = members.values();
    const ask = async () => {
      for (const member of rest) {
        needs.set(member.id, await this.ofMember(member).catch(failed(member)));
      }
    };
    await Promise.all(Array.from({ length: ASKED_AT_ONCE }, ask));
    return needs;
  }

  /** Null: not known. Rejects `storage-node-unreachable`. */
  async availableBytes(repositoryId: string): Promise<number | null> {
    const clients = await this.#storageNodes.ofRepository(repositoryId);
    return unlessUnknown(async () => {
      const request = { repositoryId };
      return (await clients.repositories.getRepository(request, { timeoutMs: ANSWER_MAX_MS })).availableBytes;
    });
  }

  async #base(volumeId: string, repositoryId: string, kind: string): Promise<string | null> {
    const { backups } = this.#catalog;
    const found =
      kind === 'differential'
        ? await backups.findFullBase(volumeId, repositoryId)
        : await backups.findBase(volumeId, repositoryId);
    return found?.checkpointId ?? null;
  }
}

async function unlessUnknown(ask: () => Promise<number>): Promise<number | null> {
  try {
    return await ask();
  } catch (error) {
    if (!(error instanceof TidemarkError)) throw error;
    if (error.code === 'storage-node-unreachable') throw error;
    return null;
  }
}
