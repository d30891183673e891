// Firings of policies as operators see them, and as they begin and end. How members are admitted is
// admission-repository.ts's.
import { randomUUID } from 'node:crypto';
import { parseSelector } from '@tidemark/proto';
import { MEMBER_DELAY_MS_MAX } from './admission-repository.ts';
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
import type { Prisma } from './generated/client.ts';
import { latestPossible } from './moments.ts';
import { type Page, type PageOptions, pageQuery, toPage } from './page.ts';
import { kindOf } from './policy/definition.ts';
import { type Policy, toPolicy } from './policy-repository.ts';
import { isId } from './ref.ts';
import type { Db, Scope } from './scope.ts';
import { type Volume, VolumeRepository } from './volume-repository.ts';

export type FiringWithCounts = Firing & { members: MemberCounts };

/** A statement has at most 65,535 parameters, and each member takes about ten. */
const MEMBERS_AT_ONCE = 2_000;
/** Of one firing, in its row: the rest is found among the runs. */
const FOLLOW_UPS_MAX = 500;
/** Each may have thousands of members. */
const FORGOTTEN_AT_ONCE = 20;
const OPEN = ['waiting', 'admitted'];
const json = (value: unknown) => JSON.parse(JSON.stringify(value)) as Prisma.InputJsonObject;

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
      const counts = await countsOf(
        db,
        rows.map(({ id }) => id),
      );
      return toPage(rows, page.limit, row => ({
        ...toFiring(row),
        members: counts.get(row.id) ?? noMembers(),
      }));
    });
  }

  /** Rejects `not-found`, also for one of another policy. */
  async get(policyId: string, id: string): Promise<FiringWithCounts> {
    const found = await this.#scope.read(async db => {
      const row = isId(id) ? await db.policyFiring.findFirst({ where: { id, policyId } }) : null;
      return row && { ...toFiring(row), members: (await countsOf(db, [id])).get(id) ?? noMembers() };
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

  /** Firings that run and have no member left that waits or is under way. */
  async listToFinish(): Promise<string[]> {
    const where = { state: 'running', members: { none: { state: { in: OPEN } } } };
    const rows = await this.#scope.read(db => db.policyFiring.findMany({ where, select: { id: true } }));
    return rows.map(({ id }) => id);
  }

  /** Held until the end of the transaction; null where it has ended, or goes on. */
  async lockToFinish(
    id: string,
  ): Promise<{ firing: Firing; policy: Policy; members: FiringMember[] } | null> {
    return this.#scope.write(async db => {
      const found = await lockFiring(db, id, 'running');
      if (found === null) return null;
      const rows = await db.policyFiringMember.findMany({ where: { firingId: id }, orderBy: { id: 'asc' } });
      if (rows.some(({ state }) => OPEN.includes(state))) return null;
      return { ...found, members: rows.map(toMember) };
    });
  }

  /** More of what followed: as many as one can look at are kept. */
  async addFollowUps(id: string, followUps: readonly FollowUp[]): Promise<void> {
    if (followUps.length === 0) return;
    const more = JSON.stringify(followUps);
    const at = againAt(followUps);
    await this.#scope.write(
      db => db.$executeRaw`
        UPDATE policy_firing SET follow_ups = follow_ups || ${more}::jsonb,
          replicas_at = least(replicas_at, ${at}::timestamptz)
        WHERE id = ${id}::uuid AND jsonb_array_length(follow_ups) < ${FOLLOW_UPS_MAX}`,
    );
  }

  /** Within the transaction of `lockToFinish`. */
  finish(firing: Firing, { failed, followUps }: { failed: boolean; followUps: FollowUp[] }): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { id, policyId } = firing;
      const state = failed ? 'failed' : 'succeeded';
      const all = [...firing.followUps, ...followUps].map(json);
      await db.policyFiring.update({
        where: { id },
        data: { state, followUps: all, finishedAt: this.#scope.now() },
      });
      tell({
        kind: `policy-firing-${state}`,
        subjectType: 'policy',
        subjectId: policyId,
        data: { firingId: id },
      });
    });
  }

  /** Ids of those with a replica that is to be tried again by now. One far ahead tells of a clock that was set back. */
  async listReplicasDue(): Promise<string[]> {
    const now = this.#scope.now();
    const wrong = new Date(now.getTime() + MEMBER_DELAY_MS_MAX);
    const where = { OR: [{ replicasAt: { lte: now } }, { replicasAt: { gt: wrong } }] };
    const rows = await this.#scope.read(db => db.policyFiring.findMany({ where, select: { id: true } }));
    return rows.map(({ id }) => id);
  }

  /** Held until the end of the transaction, in whatever state; null where somebody else has it, or it is gone. */
  lockReplicas(id: string): Promise<{ firing: Firing; policy: Policy } | null> {
    return this.#scope.write(db => lockFiring(db, id, null));
  }

  /** Within the transaction of `lockReplicas`. */
  async setFollowUps(id: string, followUps: readonly FollowUp[]): Promise<void> {
    const data = { followUps: followUps.map(json), replicasAt: againAt(followUps) };
    await this.#scope.write(db => db.policyFiring.update({ where: { id }, data }));
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
   * Members that failed, and those that did not start though they might have, wait again. Rejects `not-found`, and
   * `complete` where there is none. Returns how many.
   */
  retry(policyId: string, id: string): Promise<number> {
    return this.#scope.write(async (db, tell) => {
      await db.$queryRaw`SELECT 1 FROM policy_firing WHERE id = ${id}::uuid FOR UPDATE`;
      const firing = await this.get(policyId, id);
      const again = { state: 'waiting', reason: null, notBefore: null, finishedAt: null, attempts: 0 };
      const where = { firingId: id, state: { in: ['failed', 'skipped'] } };
      const { count } = await db.policyFiringMember.updateMany({ where, data: again });
      if (count === 0) {
        const text =
          `Firing ${id} is ${firing.state}: none of its members failed or was left out, so there is nothing ` +
          'to retry.';
        throw new CatalogError('firing', 'complete', text);
      }
      await db.policyFiring.update({ where: { id }, data: { state: 'running', finishedAt: null } });
      const data = { firingId: id, members: count };
      tell({ kind: 'policy-firing-retried', subjectType: 'policy', subjectId: policyId, data });
      return count;
    });
  }
}

/** The first of them; null: none is tried again. */
function againAt(followUps: readonly FollowUp[]): Date | null {
  const moments = followUps.flatMap(({ again }) => (again ? [Date.parse(again.at)] : []));
  return moments.length === 0 ? null : new Date(Math.min(...moments));
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
  /** Null: in any. */
  state: string | null,
): Promise<{ firing: Firing; policy: Policy } | null> {
  const held = await db.$queryRaw<unknown[]>`
    SELECT 1 FROM policy_firing
    WHERE id = ${id}::uuid AND (${state}::text IS NULL OR state = ${state}) FOR UPDATE SKIP LOCKED`;
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
