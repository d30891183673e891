// Starts what rules of replication ask for: replicas that are missing, and prunes of what rules no longer keep. What is
// due follows from rows of the catalog alone, so that workers may come and go, and any number of them look at once.
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import {
  type Catalog,
  type CatalogTransaction,
  type DueOfRule,
  intendPrune,
  intendReplica,
  pagesOf,
  planVolumes,
  type ReplicationRule,
  type RetentionRow,
  type RuleRuns,
  RuleWatch,
} from '@tidemark/catalog';
import type { Logger } from 'pino';
import { toTidemarkError } from './errors.ts';
import type { WorkerLimits } from './limits.ts';
import { lookAtEach } from './look-at-each.ts';
import { Rhythm } from './rhythm.ts';

/** Volumes in one prune: their backups are held while it is decided. Others follow with the next one. */
const PRUNED_AT_ONCE = 500;

type Limits = Pick<WorkerLimits, 'replicationLookMs' | 'replicationRetryMs' | 'replicationRetryMaxMs'>;

export class ReplicationScheduler {
  readonly #catalog: Catalog;
  readonly #limits: Limits;
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #rhythm: Rhythm;
  /** By the rule's id. */
  readonly #watches = new Map<string, RuleWatch>();
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

  async lookAtAll(): Promise<void> {
    const found = new Set<string>();
    const rules = pagesOf(page => this.#catalog.replicationRules.list(page));
    await lookAtEach(rules, rule => {
      found.add(rule.id);
      return this.#lookAt(rule);
    });
    for (const id of this.#watches.keys()) if (!found.has(id)) this.#watches.delete(id);
  }

  async #lookAt(rule: ReplicationRule): Promise<void> {
    if (!rule.enabled || !(await this.#isReachable(rule.targetRepositoryId))) return;
    const watch = this.#watches.get(rule.id) ?? new RuleWatch();
    this.#watches.set(rule.id, watch);
    const { next, prunedVolumeIds } = await watch.look(this.#catalog, rule, new Date(this.#now()));
    if (prunedVolumeIds.length > 0) await this.#prune(rule, watch, prunedVolumeIds.slice(0, PRUNED_AT_ONCE));
    if (next.length === 0 || !(await this.#takesReplicas(rule))) return;
    const runs = await this.#catalog.replicationRules.runs(rule.id);
    if (!this.#rests(runs)) await this.#replicate(rule, next);
  }

  /** Each starts by itself: what one of them runs into keeps no other volume from being replicated. */
  async #replicate(rule: ReplicationRule, next: DueOfRule['next']): Promise<void> {
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
  async #prune(rule: ReplicationRule, watch: RuleWatch, volumeIds: readonly string[]): Promise<void> {
    const runId = randomUUID();
    const now = new Date(this.#now());
    const gone = await this.#catalog.transaction(async catalog => {
      if (!(await isUnchanged(catalog, rule))) return null;
      if ((await catalog.retention.lockTurn(rule.targetRepositoryId, runId)) !== null) return null;
      const { goes } = await planVolumes(catalog, rule, { volumeIds, now, hold: true });
      if (goes.length > 0) await this.#intendPrune(catalog, { rule, goes, runId });
      return goes.length;
    });
    if (gone === null) return;
    watch.doubt(volumeIds);
    if (gone > 0) this.#log.info({ rule: rule.name, backups: gone, runId }, 'replicas go');
  }

  async #intendPrune(
    catalog: CatalogTransaction,
    { rule, goes, runId }: { rule: ReplicationRule; goes: readonly RetentionRow[]; runId: string },
  ): Promise<void> {
    await intendPrune(catalog, runId, {
      repository: await catalog.repositories.get(rule.targetRepositoryId),
      backupIds: goes.map(({ id }) => id),
      volumeIds: [...new Set(goes.map(({ volumeId }) => volumeId))],
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

/** Held until the end of the transaction: who lets a rule keep more loses nothing by what it was before. */
async function isUnchanged(
  { replicationRules }: CatalogTransaction,
  rule: ReplicationRule,
): Promise<boolean> {
  if ((await replicationRules.find(rule.id)) === null) return false;
  return isDeepStrictEqual(await replicationRules.getLocked(rule.id), rule);
}
