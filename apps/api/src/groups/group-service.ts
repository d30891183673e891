// Groups: intents to make and delete them, and what there is.
import {
  type Catalog,
  type DroppedOfMember,
  type Group,
  intendGroup,
  intendGroupDeletion,
} from '@tidemark/catalog';
import type { z } from 'zod';
import { idOf, momentOf } from '../filters.ts';
import { iso, isoOrNull } from '../moments.ts';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import type { CreateGroup, GroupJson, groupQuery } from '../schemas/group.ts';

function toGroupJson(group: Group): GroupJson {
  return {
    id: group.id,
    name: group.name,
    kind: group.kind,
    completion: group.completion,
    selector: group.selector,
    repositoryId: group.repositoryId,
    state: group.state,
    fenceLimitMs: group.fenceLimitMs,
    pointInTime: isoOrNull(group.pointInTime),
    runId: group.runId,
    members: group.members.map(({ volumeName: volume, ...member }) => ({ ...member, volume })),
    // Written by the worker, which makes it of the same facts.
    proof: group.proof as GroupJson['proof'],
    error: group.error,
    createdAt: iso(group.createdAt),
    finishedAt: isoOrNull(group.finishedAt),
  };
}

export class GroupService {
  readonly #catalog: Catalog;
  readonly #runs: RunStarter;
  readonly #now: () => Date;

  constructor(catalog: Catalog, runs: RunStarter, now: () => Date = () => new Date()) {
    this.#catalog = catalog;
    this.#runs = runs;
    this.#now = now;
  }

  create(body: CreateGroup): Promise<StartedRun<{ group: GroupJson; dropped: DroppedOfMember[] }>> {
    return this.#runs.start(async (catalog, runId) => {
      const { run, group, dropped } = await intendGroup(catalog, runId, body);
      return { run, group: toGroupJson(group), dropped };
    });
  }

  /** Newest first. */
  async list({
    volume,
    storageNode,
    repository,
    policy,
    since,
    until,
    ...page
  }: z.output<typeof groupQuery>) {
    const { items, nextCursor } = await this.#catalog.groups.list({
      ...page,
      volumeId: await idOf(volume, this.#catalog.volumes),
      storageNodeId: await idOf(storageNode, this.#catalog.storageNodes),
      repositoryId: await idOf(repository, this.#catalog.repositories),
      policyId: await idOf(policy, this.#catalog.policies),
      since: momentOf(since),
      until: momentOf(until),
    });
    return { items: items.map(toGroupJson), nextCursor };
  }

  async get(ref: string): Promise<GroupJson> {
    return toGroupJson(await this.#catalog.groups.get(ref));
  }

  async find(id: string): Promise<GroupJson | null> {
    const group = await this.#catalog.groups.find(id);
    return group && toGroupJson(group);
  }

  remove(ref: string): Promise<StartedRun<{ group: GroupJson }>> {
    return this.#runs.start(async (catalog, runId) => {
      const { run, group } = await intendGroupDeletion(catalog, runId, { ref, now: this.#now() });
      return { run, group: toGroupJson(group) };
    });
  }
}
