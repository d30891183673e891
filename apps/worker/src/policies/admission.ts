// Lets waiting members begin, in their order, as far as limits and room allow. The decision and the run are one
// transaction, which no other worker's admission overlaps.
import { randomUUID } from 'node:crypto';
import {
  bandwidthAt,
  type Candidate,
  type Catalog,
  type CatalogTransaction,
  judge,
  type MembersOf,
  shareOf,
  type Verdict,
} from '@tidemark/catalog';
import type { TidemarkError } from '@tidemark/proto';
import type { Logger } from 'pino';
import { toTidemarkError } from '../errors.ts';
import type { WorkerLimits } from '../limits.ts';
import { intendMembers } from './group-intent.ts';
import { intendMember } from './member-intent.ts';
import type { Needs } from './needs.ts';

/** Members looked at in one go, and so often in a beat: the rest follows with the next. */
const CANDIDATES_AT_ONCE = 100;
const ROUNDS_MAX = 10;

/** It may be able to later: nothing is wrong with the member. */
const NOT_NOW: ReadonlySet<string> = new Set([
  'storage-node-unreachable',
  'storage-node-not-ready',
  'volume-not-ready',
  'volume-busy',
  'volume-in-group',
  'internal-error',
  'repository-not-ready',
]);

interface Facts {
  readonly needBytes: number | null;
  readonly availableBytes: number | null;
}

/** Whose storage node does not answer: each other member of theirs would wait as long for as little. */
class Silent extends Error {
  override name = 'Silent';
  readonly who: MembersOf;

  constructor(who: MembersOf, { message }: TidemarkError) {
    super(message);
    this.who = who;
  }
}

const silent =
  (who: MembersOf) =>
  (error: unknown): never => {
    const failure = toTidemarkError(error);
    throw failure.code === 'storage-node-unreachable' ? new Silent(who, failure) : error;
  };

/** Nobody of theirs can begin now. */
class FullOnes {
  readonly policyIds = new Set<string>();
  readonly storageNodeIds = new Set<string>();
  readonly repositoryIds = new Set<string>();

  add(who: MembersOf): void {
    if ('policyId' in who) this.policyIds.add(who.policyId);
    else if ('storageNodeId' in who) this.storageNodeIds.add(who.storageNodeId);
    else this.repositoryIds.add(who.repositoryId);
  }

  has({ policyId, storageNodeId, repositoryId }: Candidate): boolean {
    const isFull = this.policyIds.has(policyId) || this.storageNodeIds.has(storageNodeId);
    return isFull || (repositoryId !== null && this.repositoryIds.has(repositoryId));
  }

  lists() {
    const { policyIds, storageNodeIds, repositoryIds } = this;
    return {
      policyIds: [...policyIds],
      storageNodeIds: [...storageNodeIds],
      repositoryIds: [...repositoryIds],
    };
  }
}

export class Admission {
  readonly #catalog: Catalog;
  readonly #needs: Needs;
  readonly #limits: WorkerLimits;
  readonly #log: Logger;
  readonly #now: () => number;

  constructor(options: {
    catalog: Catalog;
    needs: Needs;
    limits: WorkerLimits;
    log: Logger;
    now: () => number;
  }) {
    this.#catalog = options.catalog;
    this.#needs = options.needs;
    this.#limits = options.limits;
    this.#log = options.log;
    this.#now = options.now;
  }

  /** Resolves when nobody else can begin now. */
  async admitAll(signal: AbortSignal): Promise<void> {
    const full = new FullOnes();
    /** Firings whose members were considered together. */
    const grouped = new Set<string>();
    for (let round = 0; round < ROUNDS_MAX; round++) {
      const candidates = await this.#catalog.admissions.candidates(full.lists(), CANDIDATES_AT_ONCE);
      if (candidates.length === 0) return;
      for (const candidate of candidates) {
        if (signal.aborted) return;
        if (grouped.has(candidate.firingId) || full.has(candidate)) continue;
        if (candidate.definition.grouped !== null) grouped.add(candidate.firingId);
        await this.#consider(candidate, full);
      }
    }
  }

  async #consider(candidate: Candidate, full: FullOnes): Promise<void> {
    try {
      const isGroup = candidate.definition.grouped !== null;
      const verdict = isGroup
        ? await this.#admitGroup(candidate)
        : await this.#admit(candidate, await this.#facts(candidate));
      if (verdict !== null) await this.#heed(candidate, verdict, full);
    } catch (error) {
      if (error instanceof Silent) {
        const { who, message: reason } = error;
        full.add(who);
        return this.#catalog.admissions.defer(who, { reason, delayMs: this.#limits.policyWaitMs });
      }
      const failure = toTidemarkError(error);
      if (failure.code === 'catalog-unavailable') throw error;
      if (failure.code === 'internal-error') this.#log.error({ err: error }, 'admission failed');
      await this.#refused(candidate, failure);
    }
  }

  /** Rejects with `Silent`. */
  async #facts(candidate: Candidate): Promise<Facts> {
    const { storageNodeId, repositoryId } = candidate;
    const needBytes = await this.#needs.ofMember(candidate).catch(silent({ storageNodeId }));
    if (repositoryId === null) return { needBytes, availableBytes: null };
    const availableBytes = await this.#needs.availableBytes(repositoryId).catch(silent({ repositoryId }));
    return { needBytes, availableBytes };
  }

  /** Null: somebody else has dealt with it. */
  #admit(candidate: Candidate, facts: Facts): Promise<Verdict | null> {
    return this.#catalog.transaction(async catalog => {
      await catalog.admissions.lock();
      if (!(await catalog.admissions.hold(candidate.id))) return null;
      const { verdict, running } = await this.#judge(catalog, candidate, facts);
      if (verdict.kind !== 'admit') return verdict;
      const { bandwidth, schedule } = candidate.policy.definition;
      const allowed = bandwidthAt(bandwidth, { timeZone: schedule.timeZone, now: new Date(this.#now()) });
      const speedBytesPerSecond = shareOf(allowed, running + 1);
      const made = await intendMember(catalog, randomUUID(), { candidate, speedBytesPerSecond });
      await catalog.admissions.admit(candidate.id, { ...made, estimateBytes: facts.needBytes });
      return verdict;
    });
  }

  /** All that wait of its firing at once, or none; their needs are not known before they are one. */
  #admitGroup(candidate: Candidate): Promise<Verdict | null> {
    return this.#catalog.transaction(async catalog => {
      await catalog.admissions.lock();
      const members = await catalog.admissions.holdAll(candidate.firingId);
      if (members.length === 0) return null;
      const { verdict } = await this.#judge(catalog, candidate, { needBytes: null, availableBytes: null });
      if (verdict.kind !== 'admit') return verdict;
      const { bandwidth, schedule } = candidate.policy.definition;
      const allowed = bandwidthAt(bandwidth, { timeZone: schedule.timeZone, now: new Date(this.#now()) });
      const speedBytesPerSecond = shareOf(allowed, members.length);
      await intendMembers(catalog, randomUUID(), { candidate, members, speedBytesPerSecond });
      return verdict;
    });
  }

  async #judge(catalog: CatalogTransaction, candidate: Candidate, { needBytes, availableBytes }: Facts) {
    const { policy, storageNodeId, repositoryId } = candidate;
    const loads = await catalog.admissions.loads();
    const storageNode = await catalog.storageNodes.get(storageNodeId);
    const repository = repositoryId === null ? null : await catalog.repositories.get(repositoryId);
    const running = loads.policies.get(policy.id) ?? 0;
    const verdict = judge({
      policy: { name: policy.name, running, max: policy.definition.concurrency },
      storageNode: {
        name: storageNode.name,
        running: loads.storageNodes.get(storageNodeId) ?? 0,
        max: storageNode.maxConcurrentBackups,
      },
      repository: repository && {
        name: repository.name,
        running: loads.repositories.get(repository.id) ?? 0,
        max: repository.maxConcurrentBackups,
        availableBytes,
        limitBytes: repository.limitBytes,
        reservedBytes: loads.reservedBytes.get(repository.id) ?? 0,
      },
      needBytes,
    });
    return { verdict, running };
  }

  async #heed(candidate: Candidate, verdict: Verdict, full: FullOnes): Promise<void> {
    const { id, policyId, storageNodeId, repositoryId } = candidate;
    const { admissions } = this.#catalog;
    if (verdict.kind === 'admit') return;
    const { reason } = verdict;
    if (verdict.kind === 'refuse') {
      await admissions.end(id, { from: 'waiting', state: 'failed', reason });
      return;
    }
    if (verdict.who === 'room')
      return admissions.defer({ id }, { reason, delayMs: this.#limits.policyWaitMs });
    const byNode = verdict.who === 'storage node' ? { storageNodeId } : { repositoryId: repositoryId! };
    const who = verdict.who === 'policy' ? { policyId } : byNode;
    full.add(who);
    return admissions.tellWaiting(who, reason);
  }

  /** Of a group what is wrong with one is wrong with all. */
  async #refused(candidate: Candidate, { code, message: reason }: TidemarkError): Promise<void> {
    const { policy, firingId, definition } = candidate;
    this.#log.info({ policy: policy.name, volume: candidate.volumeName, code }, 'member not admitted');
    const { admissions } = this.#catalog;
    const members = definition.grouped === null ? [candidate] : await admissions.holdAll(firingId);
    for (const { id } of members) {
      if (NOT_NOW.has(code)) await admissions.defer({ id }, { reason, delayMs: this.#limits.policyWaitMs });
      else {
        const state = code === 'volume-not-found' ? 'skipped' : 'failed';
        await admissions.end(id, { from: 'waiting', state, reason });
      }
    }
  }
}
