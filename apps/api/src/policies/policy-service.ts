// Policies: intents about them, their firings, and what they would do.
import { randomUUID } from 'node:crypto';
import type { Catalog, FiringMember, FiringWithCounts, Policy } from '@tidemark/catalog';
import type { z } from 'zod';
import { idOf } from '../filters.ts';
import { iso, isoOrNull } from '../moments.ts';
import type { PageQuery } from '../schemas/common.ts';
import type { FiringJson, FiringMemberJson, memberQuery, SimulateQuery } from '../schemas/firing.ts';
import type { CreatePolicy, PolicyJson, policyQuery, UpdatePolicy } from '../schemas/policy.ts';
import { changedDefinition, definitionOf, requireTogether } from './policy-definition.ts';
import { type SimulatedPage, simulatePolicy } from './policy-simulation.ts';

function toPolicyJson(policy: Policy): PolicyJson {
  const { id, name, enabled, revision, nextDueAt, definition, createdAt, updatedAt } = policy;
  return {
    ...{ id, name, enabled, revision },
    ...definition,
    nextDueAt: isoOrNull(nextDueAt),
    createdAt: iso(createdAt),
    updatedAt: iso(updatedAt),
  };
}

function toFiringJson({ definition: _, followedAt: __, ...firing }: FiringWithCounts): FiringJson {
  return {
    ...firing,
    followUps: firing.followUps.map(one => ({ ...one, againAt: isoOrNull(one.againAt ?? null) })),
    dueAt: iso(firing.dueAt),
    startAt: iso(firing.startAt),
    createdAt: iso(firing.createdAt),
    startedAt: isoOrNull(firing.startedAt),
    finishedAt: isoOrNull(firing.finishedAt),
  };
}

function toMemberJson(member: FiringMember): FiringMemberJson {
  const { id: _, firingId: __, policyId: ___, createdAt: ____, volumeName: volume, ...rest } = member;
  return {
    ...{ ...rest, volume },
    notBefore: isoOrNull(member.notBefore),
    admittedAt: isoOrNull(member.admittedAt),
    finishedAt: isoOrNull(member.finishedAt),
  };
}

export class PolicyService {
  readonly #catalog: Catalog;
  readonly #now: () => Date;

  constructor(catalog: Catalog, now: () => Date = () => new Date()) {
    this.#catalog = catalog;
    this.#now = now;
  }

  create({ name, enabled, ...body }: CreatePolicy): Promise<PolicyJson> {
    return this.#catalog.transaction(async catalog => {
      const definition = await definitionOf(catalog, body, this.#now());
      return toPolicyJson(await catalog.policies.create({ id: randomUUID(), name, enabled, definition }));
    });
  }

  async list({ volume, repository, ...page }: z.output<typeof policyQuery>) {
    const labels = volume === undefined ? undefined : (await this.#catalog.volumes.get(volume)).labels;
    const repositoryId = await idOf(repository, this.#catalog.repositories);
    const { items, nextCursor } = await this.#catalog.policies.list({ ...page, labels, repositoryId });
    return { items: items.map(toPolicyJson), nextCursor };
  }

  async get(ref: string): Promise<PolicyJson> {
    return toPolicyJson(await this.#catalog.policies.get(ref));
  }

  update(ref: string, change: UpdatePolicy): Promise<PolicyJson> {
    return this.#catalog.transaction(async catalog => {
      const { id, definition: before } = await catalog.policies.getLocked(ref);
      const definition = await changedDefinition(catalog, { before, change, now: this.#now() });
      const { name } = change;
      return toPolicyJson(
        await catalog.policies.update(id, { definition, ...(name !== undefined && { name }) }),
      );
    });
  }

  async setEnabled(ref: string, enabled: boolean): Promise<PolicyJson> {
    const { id, definition } = await this.#catalog.policies.get(ref);
    if (enabled) await requireTogether(this.#catalog, definition);
    return toPolicyJson(await this.#catalog.policies.setEnabled(id, enabled));
  }

  /** Returns it as it was. */
  async delete(ref: string): Promise<PolicyJson> {
    const policy = await this.#catalog.policies.get(ref);
    await this.#catalog.policies.delete(policy.id);
    return toPolicyJson(policy);
  }

  async fire(ref: string): Promise<FiringJson> {
    const { id } = await this.#catalog.policies.get(ref);
    return this.getFiring(id, await this.#catalog.policies.fire(id));
  }

  /** Newest first. */
  async listFirings(ref: string, page: PageQuery) {
    const { id: policyId } = await this.#catalog.policies.get(ref);
    const { items, nextCursor } = await this.#catalog.firings.list({ ...page, policyId });
    return { items: items.map(toFiringJson), nextCursor };
  }

  async getFiring(ref: string, firingId: string): Promise<FiringJson> {
    const { id } = await this.#catalog.policies.get(ref);
    return toFiringJson(await this.#catalog.firings.get(id, firingId));
  }

  async listMembers(ref: string, firingId: string, query: z.output<typeof memberQuery>) {
    const { id } = await this.getFiring(ref, firingId);
    const { items, nextCursor } = await this.#catalog.firings.members({ ...query, firingId: id });
    return { items: items.map(toMemberJson), nextCursor };
  }

  /** Rejects `firing-complete`. */
  async retry(ref: string, firingId: string): Promise<FiringJson> {
    const { id } = await this.#catalog.policies.get(ref);
    await this.#catalog.firings.retry(id, firingId);
    return this.getFiring(id, firingId);
  }

  /** Ends early, with what it has, once the signal is aborted. */
  async simulate(ref: string, query: SimulateQuery, signal: AbortSignal): Promise<SimulatedPage> {
    const { id: policyId, definition, firings: number } = await this.#catalog.policies.get(ref);
    await requireTogether(this.#catalog, definition);
    return simulatePolicy(this.#catalog, { policyId, definition, number, now: this.#now(), query, signal });
  }

  /** One that is not saved; as above. */
  async simulateNew(body: CreatePolicy, query: SimulateQuery, signal: AbortSignal): Promise<SimulatedPage> {
    const { name: _, enabled: __, ...rest } = body;
    const now = this.#now();
    const definition = await definitionOf(this.#catalog, rest, now);
    return simulatePolicy(this.#catalog, { policyId: 'new', definition, number: 0, now, query, signal });
  }
}
