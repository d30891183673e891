// Firings of policies as operators see them, and as they begin and end. How members are admitted is
// admission-repository.ts's.
import { randomUUID } from 'node:crypto';
import { parseSelector } from '@tidemark/proto';
import { CatalogError, notFound } from './errors.ts';
import {
  type Firing,
  type FiringMember,
  type FollowUp,
  MEMBER_STATES,
  type MemberCounts,
  type MemberState,
  noMembers,
  toFiring,
  toMember,
} from './firing.ts';
import { type FiringReplica, toReplica } from './firing-replica-repository.ts';
import type { PolicyFiringModel } from './generated/models.ts';
import { json } from './json.ts';
import { latestPossible } from './moments.ts';
import { type Page, type PageOptions, pageQuery, toPage } from './page.ts';
import { kindOf } from './policy/definition.ts';
import { type Policy, toPolicy } from './policy-repository.ts';
import { isId } from './ref.ts';
import type { Db, Scope } from './scope.ts';
import { type Volume, VolumeRepository } from './volume-repository.ts';

export type FiringWithCounts = Firing & { members: MemberCounts };

export interface FiringToFinish {
  firing: Firing;
  policy: Policy;
  members: FiringMember[];
  replicas: FiringReplica[];
}

/** A statement has at most 65,535 parameters, and each member takes about ten. */
const MEMBERS_AT_ONCE = 2_000;
/** Of one firing, as they are shown: the rest is found among the runs. */
const REPLICAS_SHOWN = 500;
/** Each may have thousands of members. */
const FORGOTTEN_AT_ONCE = 20;
const OPEN = ['waiting', 'admitted'];
const OPEN_REPLICA = ['waiting', 'started'];

export class FiringRepository {
  readonly #scope: Scope;
  readonly #volumes: VolumeRepository;

  constructor(scope: Scope) {
    this.#scope = scope;
    this.#volumes = new VolumeRepository(scope);
  }

  /** Newest first. */
  list(options: PageOptions & { policyId: string }): Promise<Page<FiringWithCounts>> {
    const page = pageQuery(options, 'desc');
    return this.#scope.read(async db => {
      const where = { AND: [page.after, { policyId: options.policyId }] };
      const rows = await db.policyFiring.findMany({ where, orderBy: page.orderBy, take: page.take });
      const all = await withCounts(db, rows);
      return toPage(rows, page.limit, row => all.get(row.id)!);
    });
  }

  /** Rejects `not-found`, also for one of another policy. */
  async get(policyId: string, id: string): Promise<FiringWithCounts> {
    const found = await this.#scope.read(async db => {
      const row = isId(id) ? await db.policyFiring.findFirst({ where: { id, policyId } }) : null;
      return row && (await withCounts(db, [row])).get(id)!;
    });
    if (!found) throw notFound('firing', id);
    return found;
  }

  /** In the order in which they were made. */
  members(
    options: PageOptions & { firingId: string; state?: MemberState | undefined },
  ): Promise<Page<FiringMember>> {
    const page = pageQuery(options, 'asc');
    const { firingId, state } = options;
    return this.#scope.read(async db => {
      const where = { AND: [page.after, { firingId, ...(state !== undefined && { state }) }] };
      const rows = await db.policyFiringMember.findMany({ where, orderBy: page.orderBy, take: page.take });
      return toPage(rows, page.limit, toMember);
    });
  }

  /** Ids of those that wait to begin, in their order. A due moment ahead tells of a clock that was set back. */
  async listToBegin(): Promise<string[]> {
    const now = this.#scope.now();
    const where = {
      state: 'planned',
      OR: [{ startAt: { lte: now } }, { dueAt: { gt: latestPossible(now) } }],
    };
    const orderBy = [{ startAt: 'asc' as const }, { id: 'asc' as const }];
    const rows = await this.#scope.read(db =>
      db.policyFiring.findMany({ where, orderBy, select: { id: true } }),
    );
    return rows.map(({ id }) => id);
  }

  /**
   * Its members, by the labels of this moment, and the policy's definition as it is now. Good to repeat, by anybody:
   * null where it has begun already.
   */
  begin(id: string): Promise<Firing | null> {
    return this.#scope.write(async (db, tell) => {
      const found = await lockFiring(db, id, 'planned');
      if (found === null) return null;
      const { firing, policy } = found;
      const { definition } = policy;
      const now = this.#scope.now();
      const volumes = await this.#volumes.listSelected(parseSelector(definition.selector));
      const busy = await supersede(db, { firing, volumes, now });
      const rows = volumes.map(volume => {
        const skipped = busy.get(volume.id) ?? unready(volume, definition.grouped !== null);
        return {
          ...{ id: randomUUID(), firingId: id, policyId: policy.id },
          ...{ volumeId: volume.id, volumeName: volume.name, storageNodeId: volume.storageNodeId },
          kind: kindOf(definition, firing.number ?? 0),
          state: skipped === null ? 'waiting' : 'skipped',
          reason: skipped,
          repositoryId: definition.repositoryId,
          createdAt: now,
          finishedAt: skipped === null ? null : now,
        };
      });
      for (let start = 0; start < rows.length; start += MEMBERS_AT_ONCE) {
        await db.policyFiringMember.createMany({ data: rows.slice(start, start + MEMBERS_AT_ONCE) });
      }
      const reason = rows.length === 0 ? 'no volume has the labels that its selector asks for' : null;
      const data = { state: 'running', definition: json(definition), startedAt: now, reason };
      const row = await db.policyFiring.update({ where: { id }, data });
      const told = { firingId: id, members: rows.length };
      tell({ kind: 'policy-firing-started', subjectType: 'policy', subjectId: policy.id, data: told });
      return toFiring(row);
    });
  }

  /**
   * Firings that run and have no member left that waits or is under way: those that nothing has followed yet, and
   * those that have no such replica either.
   */
  async listToFinish(): Promise<string[]> {
    const isLast = { OR: [{ followedAt: null }, { replicas: { none: { state: { in: OPEN_REPLICA } } } }] };
    const where = { state: 'running', members: { none: { state: { in: OPEN } } }, ...isLast };
    const rows = await this.#scope.read(db => db.policyFiring.findMany({ where, select: { id: true } }));
    return rows.map(({ id }) => id);
  }

  /** Held until the end of the transaction; null where it has ended, or its members go on. */
  async lockToFinish(id: string): Promise<FiringToFinish | null> {
    return this.#scope.write(async db => {
      const found = await lockFiring(db, id, 'running');
      if (found === null) return null;
      const rows = await db.policyFiringMember.findMany({ where: { firingId: id }, orderBy: { id: 'asc' } });
      if (rows.some(({ state }) => OPEN.includes(state))) return null;
      const replicas = await db.policyFiringReplica.findMany({ where: { firingId: id } });
      return { ...found, members: rows.map(toMember), replicas: replicas.map(toReplica) };
    });
  }

  /** What follows its members, who have ended. Within the transaction of `lockToFinish`. */
  async follow({ id }: Firing, followUps: readonly FollowUp[]): Promise<void> {
    const data = { followUps: followUps.map(json), followedAt: this.#scope.now() };
    await this.#scope.write(db => db.policyFiring.update({ where: { id }, data }));
  }

  /** Within the transaction of `lockToFinish`. `reason`: null where there is nothing more to say. */
  finish(firing: Firing, { failed, reason }: { failed: boolean; reason: string | null }): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { id, policyId } = firing;
      const state = failed ? 'failed' : 'succeeded';
      const data = { state, finishedAt: this.#scope.now(), ...(reason !== null && { reason }) };
      await db.policyFiring.update({ where: { id }, data });
      tell({
        kind: `policy-firing-${state}`,
        subjectType: 'policy',
        subjectId: policyId,
        data: { firingId: id, ...(reason !== null && { reason }) },
      });
    });
  }

  /** Those of the policy that ended longer ago, with their members; the oldest first, so many at once. */
  async forget(policyId: string, { olderThanMs }: { olderThanMs: number }): Promise<number> {
    const before = new Date(this.#scope.now().getTime() - olderThanMs);
    return this.#scope.write(
      db => db.$executeRaw`
        DELETE FROM policy_firing WHERE id IN (
          SELECT id FROM policy_firing WHERE policy_id = ${policyId}::uuid AND finished_at < ${before}
          ORDER BY created_at, id LIMIT ${FORGOTTEN_AT_ONCE})`,
    );
  }

  /**
   * Members that failed, and those that did not start though they might have, wait again, and so do replicas that
   * failed. Rejects `not-found`, and `complete` where there is none. Returns how many.
   */
  retry(policyId: string, id: string): Promise<number> {
    return this.#scope.write(async (db, tell) => {
      await db.$queryRaw`SELECT 1 FROM policy_firing WHERE id = ${id}::uuid FOR UPDATE`;
      const firing = await this.get(policyId, id);
      const again = { state: 'waiting', reason: null, notBefore: null, finishedAt: null, attempts: 0 };
      const where = { firingId: id, state: { in: ['failed', 'skipped'] } };
      const { count: members } = await db.policyFiringMember.updateMany({ where, data: again });
      const replicas = await db.$executeRaw`
        UPDATE policy_firing_replica SET state = 'waiting', reason = NULL, attempts = 0, refusals = 0,
          not_before = ${this.#scope.now()}, created_at = ${this.#scope.now()}
        WHERE firing_id = ${id}::uuid AND state = 'failed'`;
      if (members + replicas === 0) {
        const text =
          `Firing ${id} is ${firing.state}: none of its members or replicas failed or was left out, so there is ` +
          'nothing to retry.';
        throw new CatalogError('firing', 'complete', text);
      }
      // Members whose turn comes anew are followed anew.
      const followed = members > 0 ? { followUps: [], followedAt: null } : {};
      const running = { state: 'running', reason: null, finishedAt: null, ...followed };
      await db.policyFiring.update({ where: { id }, data: running });
      const data = { firingId: id, members, replicas };
      tell({ kind: 'policy-firing-retried', subjectType: 'policy', subjectId: policyId, data });
      return members + replicas;
    });
  }
}

/** One that moves is there again soon, and waits for that; but nobody else of a group waits for it. */
function unready({ name, state }: Volume, isGrouped: boolean): string | null {
  if (state === 'ready' || (state === 'moving' && !isGrouped)) return null;
  return `volume '${name}' is ${state}`;
}

/** Null: somebody else has it, or it is in another state. A firing of a policy that is gone is gone, too. */
async function lockFiring(
  db: Db,
  id: string,
  state: string,
): Promise<{ firing: Firing; policy: Policy } | null> {
  const held = await db.$queryRaw<unknown[]>`
    SELECT 1 FROM policy_firing
    WHERE id = ${id}::uuid AND state = ${state} FOR UPDATE SKIP LOCKED`;
  if (held.length === 0) return null;
  const { policy, ...row } = await db.policyFiring.findUniqueOrThrow({
    where: { id },
    include: { policy: true },
  });
  return { firing: toFiring(row), policy: toPolicy(policy) };
}

/**
 * Members of earlier firings of the policy that still wait make way for this one's. Of volumes with one under way, why
 * this firing leaves them out.
 */
async function supersede(
  db: Db,
  { firing, volumes, now }: { firing: Firing; volumes: readonly Volume[]; now: Date },
): Promise<Map<string, string>> {
  const { id, policyId, dueAt } = firing;
  const others = { policyId, firingId: { not: id } };
  const reason = `the firing due at ${dueAt.toISOString()} came before its turn`;
  const data = { state: 'skipped', reason, finishedAt: now };
  const wanted = new Set(volumes.map(volume => volume.id));
  const waiting = await db.policyFiringMember.findMany({
    where: { ...others, state: 'waiting' },
    select: { id: true, volumeId: true },
  });
  const ids = waiting.filter(({ volumeId }) => wanted.has(volumeId)).map(member => member.id);
  for (let start = 0; start < ids.length; start += MEMBERS_AT_ONCE) {
    const some = ids.slice(start, start + MEMBERS_AT_ONCE);
    await db.policyFiringMember.updateMany({ where: { id: { in: some }, state: 'waiting' }, data });
  }
  const running = await db.policyFiringMember.findMany({ where: { ...others, state: 'admitted' } });
  return new Map(
    running.map(({ volumeId, runId }) => [volumeId, `run ${runId} of an earlier firing is still under way`]),
  );
}

/** By their ids; the replicas of each stand after what else followed. */
async function withCounts(
  db: Db,
  rows: readonly PolicyFiringModel[],
): Promise<Map<string, FiringWithCounts>> {
  const ids = rows.map(({ id }) => id);
  const counts = await countsOf(db, ids);
  const shown = await db.$queryRaw<ShownReplica[]>`
    SELECT firing.id::text AS "firingId", replica.* FROM unnest(${ids}::uuid[]) AS firing (id), LATERAL (
      SELECT run_id::text AS "runId", reason, CASE WHEN state = 'waiting' THEN not_before END AS "againAt"
      FROM policy_firing_replica WHERE firing_id = firing.id
      ORDER BY backup_id, repository_id LIMIT ${REPLICAS_SHOWN}) AS replica`;
  const replicas = Map.groupBy(shown, ({ firingId }) => firingId);
  return new Map(
    rows.map(row => {
      const { followUps, ...firing } = toFiring(row);
      const brought = (replicas.get(row.id) ?? []).map(({ firingId: _, ...one }) => ({
        kind: 'replicate' as const,
        ...one,
      }));
      const members = counts.get(row.id) ?? noMembers();
      return [row.id, { ...firing, followUps: [...followUps, ...brought], members }];
    }),
  );
}

interface ShownReplica {
  firingId: string;
  runId: string | null;
  reason: string | null;
  againAt: Date | null;
}

async function countsOf(db: Db, firingIds: string[]): Promise<Map<string, MemberCounts>> {
  const by = {
    by: ['firingId', 'state'] as ('firingId' | 'state')[],
    where: { firingId: { in: firingIds } },
  };
  const groups = await db.policyFiringMember.groupBy({ ...by, _count: { _all: true } });
  const counts = new Map<string, MemberCounts>();
  for (const { firingId, state, _count } of groups) {
    const ofFiring = counts.get(firingId) ?? noMembers();
    const known = MEMBER_STATES.find(word => word === state)!;
    counts.set(firingId, { ...ofFiring, [known]: _count._all });
  }
  return counts;
}
