// Lets waiting members begin, in their order, as far as limits and room allow. The decision and the run are one
// transaction, which no other worker's admission overlaps.
import { randomUUID } from 'node:crypto';
import {
  bandwidthAt,
  type Candidate,
  type Catalog,
  type CatalogTransaction,
  type FiringMember,
  judge,
  type Load,
  type Loads,
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
  /** By the member's id; null: not known. */
  readonly needs: ReadonlyMap<string, number | null>;
  readonly availableBytes: number | null;
}

/** Storage nodes that do not answer, and why: each member of theirs would wait as long for as little. */
class Silent extends Error {
  override name = 'Silent';
  readonly reasons: ReadonlyMap<string, string>;

  constructor(reasons: ReadonlyMap<string, string>) {
    super([...reasons.values()].join(' '));
    this.reasons = reasons;
  }
}

const silent =
  (storageNodeId: string) =>
  (error: unknown): never => {
    const { code, message } = toTidemarkError(error);
    throw code === 'storage-node-unreachable' ? new Silent(new Map([[storageNodeId, message]])) : error;
  };

/** All that both found; rejects with all who are silent, or else with the first that went wrong. */
async function sideBySide<A, B>(one: Promise<A>, other: Promise<B>): Promise<[A, B]> {
  const answers = await Promise.allSettled([one, other]);
  const failures: unknown[] = answers.flatMap(each => (each.status === 'rejected' ? [each.reason] : []));
  const reasons = failures.flatMap(failure => (failure instanceof Silent ? [...failure.reasons] : []));
  if (reasons.length > 0) throw new Silent(new Map(reasons));
  return Promise.all([one, other]);
}

/** Nobody was asked yet: limits alone can be judged. */
const NOTHING_KNOWN: Facts = { needs: new Map(), availableBytes: null };

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

interface Judged {
  readonly candidate: Candidate;
  readonly members: readonly FiringMember[];
  readonly facts: Facts;
  readonly loads: Loads;
}

interface Considered {
  readonly candidate: Candidate;
  readonly members: readonly FiringMember[];
  readonly full: FullOnes;
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
      const { definition, firingId } = candidate;
      // All that wait of its firing at once, or none.
      const members =
        definition.grouped === null ? [candidate] : await this.#catalog.admissions.holdAll(firingId);
      const verdict = await this.#admit(candidate, members);
      if (verdict !== null) await this.#heed(verdict, { candidate, members, full });
    } catch (error) {
      if (error instanceof Silent) return this.#heedSilence(error, candidate, full);
      const failure = toTidemarkError(error);
      if (failure.code === 'catalog-unavailable') throw error;
      if (failure.code === 'internal-error') this.#log.error({ err: error }, 'admission failed');
      await this.#refused(candidate, failure);
    }
  }

  /** For the rest of the look nobody of theirs is asked about, whether it is a volume or a repository of theirs. */
  async #heedSilence({ reasons, message }: Silent, candidate: Candidate, full: FullOnes): Promise<void> {
    const { admissions, repositories } = this.#catalog;
    const { policyWaitMs: delayMs } = this.#limits;
    const { definition, firingId } = candidate;
    if (definition.grouped !== null) await admissions.defer({ firingId }, { reason: message, delayMs });
    for (const [storageNodeId, reason] of reasons) {
      const theirs = (await repositories.idsOn(storageNodeId)).map(repositoryId => ({ repositoryId }));
      for (const who of [{ storageNodeId }, ...theirs]) {
        full.add(who);
        await admissions.defer(who, { reason, delayMs });
      }
    }
  }

  /** Null: somebody else has dealt with it. Rejects with `Silent`. */
  async #admit(candidate: Candidate, members: readonly FiringMember[]): Promise<Verdict | null> {
    if (members.length === 0) return null;
    // Those that have no place yet need not be asked about, every second.
    const known = await this.#catalog.admissions.loads();
    const early = await this.#judge(this.#catalog, {
      candidate,
      members,
      facts: NOTHING_KNOWN,
      loads: known,
    });
    if (early.kind !== 'admit') return early;
    const facts = await this.#facts(candidate, members);
    return candidate.definition.grouped === null
      ? this.#admitOne(candidate, facts)
      : this.#admitGroup(candidate, facts);
  }

  async #facts({ repositoryId }: Candidate, members: readonly FiringMember[]): Promise<Facts> {
    const asked = this.#needs.ofAll(members, ({ storageNodeId }) => silent(storageNodeId));
    const [needs, availableBytes] = await sideBySide(asked, this.#availableBytes(repositoryId));
    return { needs, availableBytes };
  }

  async #availableBytes(repositoryId: string | null): Promise<number | null> {
    if (repositoryId === null) return null;
    const { storageNodeId } = await this.#catalog.repositories.get(repositoryId);
    return this.#needs.availableBytes(repositoryId).catch(silent(storageNodeId));
  }

  #admitOne(candidate: Candidate, facts: Facts): Promise<Verdict | null> {
    return this.#catalog.transaction(async catalog => {
      await catalog.admissions.lock();
      if (!(await catalog.admissions.hold(candidate.id))) return null;
      const loads = await catalog.admissions.loads();
      const verdict = await this.#judge(catalog, { candidate, members: [candidate], facts, loads });
      if (verdict.kind !== 'admit') return verdict;
      const running = loads.policies.get(candidate.policyId) ?? 0;
      const speedBytesPerSecond = this.#share(candidate, running + 1);
      const made = await intendMember(catalog, randomUUID(), { candidate, speedBytesPerSecond });
      const estimateBytes = facts.needs.get(candidate.id) ?? null;
      await catalog.admissions.admit(candidate.id, { ...made, estimateBytes });
      return verdict;
    });
  }

  #admitGroup(candidate: Candidate, facts: Facts): Promise<Verdict | null> {
    return this.#catalog.transaction(async catalog => {
      await catalog.admissions.lock();
      const members = await catalog.admissions.holdAll(candidate.firingId);
      if (members.length === 0) return null;
      const loads = await catalog.admissions.loads();
      const verdict = await this.#judge(catalog, { candidate, members, facts, loads });
      if (verdict.kind !== 'admit') return verdict;
      const speedBytesPerSecond = this.#share(candidate, members.length);
      const together = { candidate, members, speedBytesPerSecond, needs: facts.needs };
      await intendMembers(catalog, randomUUID(), together);
      return verdict;
    });
  }

  /** Of one of so many backups. */
  #share({ policy }: Candidate, running: number): number {
    const { bandwidth, schedule } = policy.definition;
    const allowed = bandwidthAt(bandwidth, { timeZone: schedule.timeZone, now: new Date(this.#now()) });
    return shareOf(allowed, running);
  }

  async #judge(
    catalog: Pick<CatalogTransaction, 'storageNodes' | 'repositories'>,
    { candidate, members, facts, loads }: Judged,
  ): Promise<Verdict> {
    const { policy, repositoryId } = candidate;
    const storageNodes: Load[] = [];
    for (const [id, ofNode] of Map.groupBy(members, ({ storageNodeId }) => storageNodeId)) {
      const { name, maxConcurrentBackups: max } = await catalog.storageNodes.get(id);
      storageNodes.push({ id, name, running: loads.storageNodes.get(id) ?? 0, coming: ofNode.length, max });
    }
    const repository = repositoryId === null ? null : await catalog.repositories.get(repositoryId);
    const { id, name } = policy;
    const coming = members.length;
    const known = members.map(member => facts.needs.get(member.id) ?? null).filter(bytes => bytes !== null);
    return judge({
      policy: { id, name, running: loads.policies.get(id) ?? 0, coming, max: policy.definition.concurrency },
      storageNodes,
      repository: repository && {
        id: repository.id,
        name: repository.name,
        running: loads.repositories.get(repository.id) ?? 0,
        coming,
        max: repository.maxConcurrentBackups,
        availableBytes: facts.availableBytes,
        limitBytes: repository.limitBytes,
        reservedBytes: loads.reservedBytes.get(repository.id) ?? 0,
      },
      needBytes: known.length === 0 ? null : known.reduce((sum, bytes) => sum + bytes, 0),
    });
  }

  async #heed(verdict: Verdict, { candidate, members, full }: Considered): Promise<void> {
    const { admissions } = this.#catalog;
    if (verdict.kind === 'admit') return;
    const { reason } = verdict;
    if (verdict.kind === 'refuse') {
      for (const { id } of members) await admissions.end(id, { from: 'waiting', state: 'failed', reason });
      return;
    }
    const delayMs = this.#limits.policyWaitMs;
    const isGroup = candidate.definition.grouped !== null;
    const { firingId } = candidate;
    if (verdict.who === 'room')
      return admissions.defer(isGroup ? { firingId } : { id: candidate.id }, { reason, delayMs });
    const { who, id } = verdict;
    const byNode = who === 'storage node' ? { storageNodeId: id } : { repositoryId: id };
    const theirs = who === 'policy' ? { policyId: id } : byNode;
    // What comes later in the order does not overtake those that wait together.
    full.add(theirs);
    return admissions.tellWaiting(isGroup ? { firingId } : theirs, reason);
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
