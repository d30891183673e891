// Brings firings forward, from rows of the catalog alone: what is due is planned, what is planned begins, members whose
// runs have ended end, others take their places, and a firing without any left ends with what follows it. Each step is
// one transaction and good to repeat, so that workers may die, come and be several.
import type { Catalog, EndedMember } from '@tidemark/catalog';
import type { Logger } from 'pino';
import type { WorkerLimits } from '../limits.ts';
import type { Admission } from './admission.ts';
import type { BandwidthKeeper } from './bandwidth-keeper.ts';
import { followUpsOf } from './follow-ups.ts';

/** Ended members that are looked at in one go. */
const ENDED_AT_ONCE = 500;

export interface FiringDriverOptions {
  readonly catalog: Catalog;
  readonly admission: Admission;
  readonly bandwidth: BandwidthKeeper;
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
    const { catalog, admission, bandwidth, limits } = this.#options;
    if (this.#stop.signal.aborted) return;
    // The queue wakes workers when something is due; where it did not, this finds it.
    const late = new Date(this.#options.now() - limits.policyLateMs);
    for (const id of await catalog.policies.listDue(late)) {
      await catalog.policies.planDue(id, { graceMs: limits.policyGraceMs });
    }
    for (const id of await catalog.firings.listToBegin()) await this.#begin(id);
    for (const member of await catalog.admissions.listEnded(ENDED_AT_ONCE)) await this.#settle(member);
    await admission.admitAll(this.#stop.signal);
    for (const id of await catalog.firings.listToFinish()) await this.#finish(id);
    await bandwidth.keep();
  }

  async #begin(id: string): Promise<void> {
    const { catalog, log } = this.#options;
    const firing = await catalog.firings.begin(id);
    if (firing) log.info({ policyId: firing.policyId, firingId: id, dueAt: firing.dueAt }, 'firing begun');
  }

  async #settle(member: EndedMember): Promise<void> {
    const { admissions } = this.#options.catalog;
    const { id, runState, runError, attempts, retry, runId } = member;
    if (runState === 'succeeded') {
      return admissions.end(id, { from: 'admitted', state: 'succeeded', reason: null });
    }
    const reason = runError ? `run ${runId}: ${runError.message}` : `run ${runId} was ${runState}`;
    // What an operator cancelled is not begun again.
    if (runState === 'failed' && attempts <= retry.times) {
      return admissions.again(id, { reason, delayMs: retry.delayMs });
    }
    return admissions.end(id, { from: 'admitted', state: 'failed', reason });
  }

  async #finish(id: string): Promise<void> {
    const { catalog, log, now } = this.#options;
    const ended = await catalog.transaction(async nouns => {
      const found = await nouns.firings.lockToFinish(id);
      if (found === null) return null;
      const followUps = await followUpsOf(nouns, { ...found, now: new Date(now()) });
      const failed = found.members.some(({ state }) => state === 'failed');
      await nouns.firings.finish(found.firing, { failed, followUps });
      return { policyId: found.policy.id, failed, followUps: followUps.length };
    });
    if (ended) log.info({ firingId: id, ...ended }, 'firing ended');
  }
}
