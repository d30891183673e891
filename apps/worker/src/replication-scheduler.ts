// Starts what rules of replication ask for: replicas that are missing, and prunes of what rules no longer keep. What is
// due follows from rows of the catalog alone, so that workers may come and go, and any number of them look at once.
import { randomUUID } from 'node:crypto';
import {
  type Catalog,
  type CatalogTransaction,
  intendPrune,
  intendReplica,
  lookAtRule,
  type ReplicationPlan,
  type ReplicationRule,
  type RuleRuns,
} from '@tidemark/catalog';
import type { Logger } from 'pino';
import { toTidemarkError } from './errors.ts';
import type { WorkerLimits } from './limits.ts';
import { lookAtEach, pagesOf } from './look-at-each.ts';
import { Rhythm } from './rhythm.ts';

type Limits = Pick<WorkerLimits, 'replicationLookMs' | 'replicationRetryMs' | 'replicationRetryMaxMs'>;

export class ReplicationScheduler {
  readonly #catalog: Catalog;
  readonly #limits: Limits;
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #rhythm: Rhythm;
  /** The newest event that the last look at all rules knew of, and when that was, of `performance.now()`. */
  #looked = { newestEvent: -1, atMs: Number.NEGATIVE_INFINITY };

  constructor(options: { catalog: Catalog; limits: Limits; log: Logger; now: () => number }) {
    this.#catalog = options.catalog;
    this.#limits = options.limits;
    this.#log = options.log;
    this.#now = options.now;
    this.#rhythm = new Rhythm(() => this.#lookWhereNew(), options.limits.replicationLookMs, options.log);
  }

  start(): void {
    this.#rhythm.start();
  }

  close(): Promise<void> {
    return this.#rhythm.close();
  }

  /** What is due changes with events, which tell of every row that it depends on, and slowly with time. */
  async #lookWhereNew(): Promise<void> {
    const newestEvent = await this.#catalog.events.newestId();
    const atMs = performance.now();
    const isQuiet = newestEvent === this.#looked.newestEvent;
    if (isQuiet && atMs - this.#looked.atMs < this.#limits.replicationRetryMs) return;
    await this.lookAtAll();
    this.#looked = { newestEvent, atMs };
  }

  lookAtAll(): Promise<void> {
    const rules = pagesOf(page => this.#catalog.replicationRules.list(page));
    return lookAtEach(rules, rule => this.#lookAt(rule));
  }

  async #lookAt(rule: ReplicationRule): Promise<void> {
    if (!rule.enabled || !(await this.#isReachable(rule.targetRepositoryId))) return;
    const now = new Date(this.#now());
    const { plan } = await lookAtRule(this.#catalog, rule, { now });
    if (plan.goes.length > 0) await this.#prune(rule);
    if (plan.next.length === 0 || !(await this.#takesReplicas(rule))) return;
    const runs = await this.#catalog.replicationRules.runs(rule.id);
    if (!this.#rests(runs)) await this.#replicate(rule, plan);
  }

  /** Each starts by itself: what one of them runs into keeps no other volume from being replicated. */
  async #replicate(rule: ReplicationRule, { next }: ReplicationPlan): Promise<void> {
    for (const { backupId, flatten } of next) {
      const { targetRepositoryId: repository, speedBytesPerSecond } = rule;
      const wanted = { backupId, repository, flatten, speedBytesPerSecond, ruleId: rule.id };
      const runId = randomUUID();
      try {
        const isStarted = await this.#catalog.transaction(async catalog => {
          const { live } = await catalog.replicationRules.lock(rule.id);
          if (live >= rule.concurrency) return false;
          await intendReplica(catalog, runId, wanted);
          return true;
        });
        if (!isStarted) return;
        this.#log.info({ rule: rule.name, backupId, flatten, runId }, 'replication due');
      } catch (error) {
        const { code, message: detail } = toTidemarkError(error);
        if (code === 'catalog-unavailable') throw error;
        this.#log.info({ rule: rule.name, backupId, code, detail }, 'replication not begun');
      }
    }
  }

  /** What goes is worked out anew while nobody can begin to use it; one prune of a repository at a time. */
  async #prune(rule: ReplicationRule): Promise<void> {
    const runId = randomUUID();
    const { targetRepositoryId } = rule;
    const gone = await this.#catalog.transaction(async catalog => {
      const target = await catalog.retention.lockBackups(targetRepositoryId);
      if ((await catalog.retention.turnHolder(targetRepositoryId, runId)) !== null) return 0;
      const { plan } = await lookAtRule(catalog, rule, { now: new Date(this.#now()), target });
      if (plan.goes.length > 0) await this.#intendPrune(catalog, { rule, plan, runId });
      return plan.goes.length;
    });
    if (gone > 0) this.#log.info({ rule: rule.name, backups: gone, runId }, 'replicas go');
  }

  async #intendPrune(
    catalog: CatalogTransaction,
    { rule, plan, runId }: { rule: ReplicationRule; plan: ReplicationPlan; runId: string },
  ): Promise<void> {
    await intendPrune(catalog, runId, {
      repository: await catalog.repositories.get(rule.targetRepositoryId),
      backupIds: plan.goes.map(({ id }) => id),
      volumeIds: [...new Set(plan.goes.map(({ volumeId }) => volumeId))],
      speedBytesPerSecond: rule.speedBytesPerSecond,
      reason: `replication rule '${rule.name}' does not keep them`,
    });
  }

  /** After failures, each time for longer: a full target is not asked every few seconds. */
  #rests({ failures, failedAt }: RuleRuns): boolean {
    if (failures === 0 || failedAt === null) return false;
    const { replicationRetryMs, replicationRetryMaxMs } = this.#limits;
    const restMs = Math.min(replicationRetryMs * 2 ** (failures - 1), replicationRetryMaxMs);
    return Math.abs(this.#now() - failedAt.getTime()) < restMs;
  }

  async #takesReplicas({ sourceRepositoryId, targetRepositoryId }: ReplicationRule): Promise<boolean> {
    const { storageNodeId } = await this.#catalog.repositories.get(targetRepositoryId);
    const { cordonedAt } = await this.#catalog.storageNodes.get(storageNodeId);
    return cordonedAt === null && this.#isReachable(sourceRepositoryId);
  }

  async #isReachable(repositoryId: string): Promise<boolean> {
    const { state, storageNodeId } = await this.#catalog.repositories.get(repositoryId);
    if (state !== 'ready') return false;
    return (await this.#catalog.storageNodes.get(storageNodeId)).state === 'online';
  }
}
