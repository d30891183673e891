// Brings each backup of a firing to the policy's other repositories: started in the transaction that ends its member,
// so that it is started once. What cannot be started then, though it may later, is tried again until it is too old.
import { randomUUID } from 'node:crypto';
import {
  type Catalog,
  type CatalogTransaction,
  type Firing,
  type FollowUp,
  intendReplica,
  type Policy,
  type ReplicaAgain,
} from '@tidemark/catalog';
import { toTidemarkError } from '../errors.ts';
import type { WorkerLimits } from '../limits.ts';
import { onBehalfOf } from './follow-ups.ts';

/** Nothing is wrong with the backup: somebody is away, or what it stands on is on its way. */
const LATER: ReadonlySet<string> = new Set([
  'storage-node-unreachable',
  'storage-node-not-ready',
  'storage-node-cordoned',
  'repository-not-ready',
  'backup-in-use',
]);

export interface ReplicasOptions {
  readonly catalog: Catalog;
  readonly limits: WorkerLimits;
  readonly now: () => number;
}

interface Wanted {
  readonly backupId: string;
  readonly repositoryId: string;
  readonly policy: Policy;
  /** So often it could not be started before. */
  readonly tries: number;
  /** It is not tried again after that. */
  readonly untilMs: number;
}

export class Replicas {
  readonly #options: ReplicasOptions;

  constructor(options: ReplicasOptions) {
    this.#options = options;
  }

  /** Of a member that has succeeded, within the transaction that says so. */
  async start(
    catalog: CatalogTransaction,
    wanted: { backupId: string; replicaIds: readonly string[]; policy: Policy },
  ): Promise<FollowUp[]> {
    const { replicaIds, ...of } = wanted;
    const untilMs = this.#options.now() + this.#options.limits.policyReplicaMs;
    const followUps: FollowUp[] = [];
    for (const repositoryId of replicaIds) {
      followUps.push(await this.#try(catalog, { ...of, repositoryId, tries: 0, untilMs }));
    }
    return followUps;
  }

  /** All that are due. One that is wrong must not hold up the others: each firing is a transaction of its own. */
  listDue(): Promise<string[]> {
    return this.#options.catalog.firings.listReplicasDue();
  }

  /** Of the firing, those whose time has come. Good to repeat, by anybody. */
  async again(firingId: string): Promise<void> {
    await this.#options.catalog.transaction(async catalog => {
      const found = await catalog.firings.lockReplicas(firingId);
      if (found === null) return;
      const { firing, policy } = found;
      const followUps: FollowUp[] = [];
      for (const one of firing.followUps) {
        followUps.push(
          one.again && this.#isDue(one.again)
            ? await this.#try(catalog, { ...one.again, policy, untilMs: this.#untilMs(firing) })
            : one,
        );
      }
      await catalog.firings.setFollowUps(firingId, followUps);
    });
  }

  /** One further ahead than any delay was written before a clock was set back. */
  #isDue({ at }: ReplicaAgain): boolean {
    const aheadMs = Date.parse(at) - this.#options.now();
    return aheadMs <= 0 || aheadMs > this.#options.limits.replicationRetryMaxMs;
  }

  #untilMs({ createdAt }: Firing): number {
    return createdAt.getTime() + this.#options.limits.policyReplicaMs;
  }

  async #try(catalog: CatalogTransaction, wanted: Wanted): Promise<FollowUp> {
    const { backupId, repositoryId, policy, tries, untilMs } = wanted;
    const settings = { flatten: false, speedBytesPerSecond: null, ruleId: null, ...onBehalfOf(policy) };
    const runId = randomUUID();
    try {
      await intendReplica(catalog, runId, { backupId, repository: repositoryId, ...settings });
      return { kind: 'replicate', runId, reason: null };
    } catch (error) {
      const { code, message: reason } = toTidemarkError(error);
      if (code === 'internal-error' || code === 'catalog-unavailable') throw error;
      // The transaction goes on without it: what it had taken hold of by then nobody else would let go of.
      await catalog.backupLeases.drop('run', runId);
      const { now, limits } = this.#options;
      const delayMs = Math.min(limits.replicationRetryMs * 2 ** tries, limits.replicationRetryMaxMs);
      const atMs = now() + delayMs;
      if (!LATER.has(code) || atMs > untilMs) return { kind: 'replicate', runId: null, reason };
      const at = new Date(atMs).toISOString();
      return {
        kind: 'replicate',
        runId: null,
        reason,
        again: { backupId, repositoryId, tries: tries + 1, at },
      };
    }
  }
}
