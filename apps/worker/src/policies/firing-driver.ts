// Brings firings forward, from rows of the catalog alone: what is due is planned, what is planned begins, members whose
// runs have ended end, others take their places, and a firing without any left ends with what follows it, once its
// replicas have ended. Each step is one transaction and good to repeat, so that workers may die, come and be several.
import type { Catalog, EndedMember } from '@tidemark/catalog';
import type { Logger } from 'pino';
import { toTidemarkError } from '../errors.ts';
import type { WorkerLimits } from '../limits.ts';
import type { Admission } from './admission.ts';
import type { BandwidthKeeper } from './bandwidth-keeper.ts';
import { followUpsOf } from './follow-ups.ts';
import type { Replicas } from './replicas.ts';

/** Ended members that are looked at in one go. */
const ENDED_AT_ONCE = 500;

export interface FiringDriverOptions {
  readonly catalog: Catalog;
  readonly admission: Admission;
  readonly bandwidth: BandwidthKeeper;
  readonly replicas: Replicas;
  readonly limits: WorkerLimits;
  readonly log: Logger;
  readonly now: () => number;
}

export class FiringDriver {
  readonly #options: FiringDriverOptions;
  readonly #stop = new AbortController();
  #current: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(options: FiringDriverOptions) {
    this.#options = options;
  }

  /** Rows of what is due of the policy, and then all that can be done at once. */
  async due(policyId: string): Promise<void> {
    const { catalog, limits } = this.#options;
    await catalog.policies.planDue(policyId, { graceMs: limits.policyGraceMs });
    await this.drive();
  }

  /** One at a time; who comes while one is under way is answered by the next. */
  drive(): Promise<void> {
    this.#next ??= this.#current
      .catch(() => {})
      .then(() => {
        this.#next = undefined;
        this.#current = this.#once();
        return this.#current;
      });
    return this.#next;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#current.catch(() => {});
  }

  async #once(): Promise<void> {
    const { catalog, admission, bandwidth, replicas, limits } = this.#options;
    if (this.#stop.signal.aborted) return;
    // The queue wakes workers when something is due; where it did not, this finds it.
    const late = new Date(this.#options.now() - limits.policyLateMs);
    const graceMs = limits.policyGraceMs;
    await this.#each(await catalog.policies.listDue(late), id => catalog.policies.planDue(id, { graceMs }));
    await this.#each(await catalog.firings.listToBegin(), id => this.#begin(id));
    await this.#each(await catalog.admissions.listEnded(ENDED_AT_ONCE), member => this.#settle(member));
    await admission.admitAll(this.#stop.signal);
    await this.#each(await replicas.listEnded(), replica => replicas.settle(replica));
    await this.#each(await replicas.listDue(), replica => replicas.start(replica));
    await this.#each(await catalog.firings.listToFinish(), id => this.#finish(id));
    await bandwidth.keep();
  }

  /** What is wrong with one must not hold up the others: it is told, and tried again with the next beat. */
  async #each<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
    for (const item of items) {
      if (this.#stop.signal.aborted) return;
      try {
        await work(item);
      } catch (error) {
        if (toTidemarkError(error).code === 'catalog-unavailable') throw error;
        this.#options.log.error({ err: error }, 'policy work failed; will try again');
      }
    }
  }

  async #begin(id: string): Promise<void> {
    const { catalog, log } = this.#options;
    const firing = await catalog.firings.begin(id);
    if (firing) log.info({ policyId: firing.policyId, firingId: id, dueAt: firing.dueAt }, 'firing begun');
  }

  async #settle(member: EndedMember): Promise<void> {
    const { admissions } = this.#options.catalog;
    const { id, runId, attempts, retry } = member;
    const failure = await this.#failureOf(member);
    if (failure === null) return this.#succeeded(member);
    // What an operator cancelled is not begun again.
    if (member.runState !== 'cancelled' && attempts <= retry.times) {
      return admissions.again(member, { reason: failure, delayMs: retry.delayMs });
    }
    await admissions.end(id, { from: 'admitted', runId, state: 'failed', reason: failure });
  }

  /** Null: it succeeded. A group's run may succeed without all of its members. */
  async #failureOf({ runState, runError, runId, groupId, volumeId }: EndedMember): Promise<string | null> {
    const group = groupId === null ? null : await this.#options.catalog.groups.find(groupId);
    const member = group?.members.find(one => one.volumeId === volumeId);
    if (member?.state === 'ready') return null;
    if (member?.error) return `run ${runId}: ${member.error.message}`;
    if (runState === 'succeeded' && groupId === null) return null;
    return runError ? `run ${runId}: ${runError.message}` : `run ${runId} was ${runState}`;
  }

  /** With the replicas that it is to have. */
  async #succeeded({ id, runId, firingId, backupId, replicaIds }: EndedMember): Promise<void> {
    await this.#options.catalog.transaction(async catalog => {
      const end = { from: 'admitted', runId, state: 'succeeded', reason: null } as const;
      if (!(await catalog.admissions.end(id, end))) return;
      if (backupId !== null) {
        await catalog.firingReplicas.add(firingId, { backupId, repositoryIds: replicaIds });
      }
    });
  }

  /** What follows its members is started once they have ended; it ends when its replicas have, too. */
  async #finish(id: string): Promise<void> {
    const { catalog, limits, log, now } = this.#options;
    const ended = await catalog.transaction(async nouns => {
      const found = await nouns.firings.lockToFinish(id);
      if (found === null) return null;
      const { firing, policy, members, replicas } = found;
      if (firing.followedAt === null) {
        const followUps = await followUpsOf(nouns, { ...found, now: new Date(now()) });
        await nouns.firings.follow(firing, followUps);
      }
      if (replicas.some(({ state }) => state === 'waiting' || state === 'started')) return null;
      const left = replicas.filter(({ state }) => state === 'failed').length;
      const reason = left === 0 ? null : `${left} of ${replicas.length} replicas failed`;
      const failed = left > 0 || members.some(({ state }) => state === 'failed');
      await nouns.firings.finish(firing, { failed, reason });
      return { policyId: policy.id, failed, reason };
    });
    if (ended === null) return;
    log.info({ firingId: id, ...ended }, 'firing ended');
    await catalog.firings.forget(ended.policyId, { olderThanMs: limits.policyFiringKeepMs });
  }
}
