// Brings each backup of a firing to the policy's other repositories: asked for in the transaction that ends its member,
// so that it is asked for once. What cannot be started then, though it may later, is tried again until it is too old;
// a run that failed is followed by another one, as the policy says of its backups.
import { randomUUID } from 'node:crypto';
import { type Catalog, type EndedReplica, type FiringReplica, intendReplica } from '@tidemark/catalog';
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
  'internal-error',
]);
/** Looked at in one go: the rest follows with the next beat. */
const AT_ONCE = 500;

export interface ReplicasOptions {
  readonly catalog: Catalog;
  readonly limits: WorkerLimits;
  readonly now: () => number;
}

export class Replicas {
  readonly #options: ReplicasOptions;

  constructor(options: ReplicasOptions) {
    this.#options = options;
  }

  /** Runs of theirs have ended. */
  listEnded(): Promise<EndedReplica[]> {
    return this.#options.catalog.firingReplicas.listEnded(AT_ONCE);
  }

  /** It succeeded, waits for its next run, or has failed for good. Good to repeat, by anybody. */
  async settle(replica: EndedReplica): Promise<void> {
    const { firingReplicas } = this.#options.catalog;
    const { runId, runState, runError, attempts, retry } = replica;
    if (runState === 'succeeded') return firingReplicas.end(replica, { state: 'succeeded', reason: null });
    const reason = runError ? `run ${runId}: ${runError.message}` : `run ${runId} was ${runState}`;
    // What an operator cancelled is not begun again.
    if (runState === 'cancelled' || attempts > retry.times) {
      return firingReplicas.end(replica, { state: 'failed', reason });
    }
    const delayMs = this.#longer(retry.delayMs, attempts - 1);
    await firingReplicas.again(replica, { reason, delayMs });
  }

  listDue(): Promise<FiringReplica[]> {
    return this.#options.catalog.firingReplicas.listDue(AT_ONCE);
  }

  /** One that is due. Good to repeat, by anybody. */
  async start(replica: FiringReplica): Promise<void> {
    const { backupId, repositoryId: repository } = replica;
    const settings = { flatten: false, speedBytesPerSecond: null, ruleId: null };
    const runId = randomUUID();
    try {
      await this.#options.catalog.transaction(async catalog => {
        const policy = await catalog.firingReplicas.hold(replica.id);
        if (policy === null) return;
        await intendReplica(catalog, runId, { backupId, repository, ...settings, ...onBehalfOf(policy) });
        await catalog.firingReplicas.started(replica.id, runId);
      });
    } catch (error) {
      await this.#refused(replica, error);
    }
  }

  async #refused(replica: FiringReplica, error: unknown): Promise<void> {
    const { catalog, limits, now } = this.#options;
    const { code, message: reason } = toTidemarkError(error);
    if (code === 'catalog-unavailable') throw error;
    // Somebody else has brought it.
    if (code === 'backup-exists') return catalog.firingReplicas.end(replica, { state: 'succeeded', reason });
    const delayMs = this.#longer(limits.replicationRetryMs, replica.refusals);
    const isTooOld = now() + delayMs > replica.createdAt.getTime() + limits.policyReplicaMs;
    if (LATER.has(code) && !isTooOld) await catalog.firingReplicas.again(replica, { reason, delayMs });
    else await catalog.firingReplicas.end(replica, { state: 'failed', reason });
    // A defect, ours or of a row, is told as well; and no beat for ever.
    if (code === 'internal-error') throw error;
  }

  /** Twice as long each time. */
  #longer(delayMs: number, times: number): number {
    return Math.max(delayMs, Math.min(delayMs * 2 ** times, this.#options.limits.replicationRetryMaxMs));
  }
}
