// How members of firings are admitted and end: counted against the limits of their policy, storage node and repository
// under one lock, so that workers which admit at the same time do not exceed them together.
import { type FiringMember, toMember } from './firing.ts';
import type { PolicyFiringMemberModel } from './generated/models.ts';
import type { PolicyDefinition, PolicyKind } from './policy/definition.ts';
import { type Policy, toPolicy } from './policy-repository.ts';
import type { Db, Scope } from './scope.ts';

/** Backups under way, and what was promised to them. */
export interface Loads {
  /** Members under way, by policy. */
  readonly policies: ReadonlyMap<string, number>;
  /**
   * Backup runs that have not ended, and backups of groups that have yet to become runs, whoever asked for them, by
   * storage node and by repository.
   */
  readonly storageNodes: ReadonlyMap<string, number>;
  readonly repositories: ReadonlyMap<string, number>;
  /** Bytes, by repository. */
  readonly reservedBytes: ReadonlyMap<string, number>;
}

export interface Candidate extends FiringMember {
  readonly policy: Policy;
  /** As the firing began. */
  readonly definition: PolicyDefinition;
  readonly dueAt: Date;
}

/** Of members whose runs have ended since. */
export interface EndedMember extends FiringMember {
  readonly runState: string;
  /** Of a run that makes a group. */
  readonly groupId: string | null;
  /** Repositories that its backup is copied to. */
  readonly replicaIds: readonly string[];
  readonly runError: { code: string; message: string } | null;
  readonly retry: PolicyDefinition['retry'];
}

/** Who is full is not asked for again: nothing of it can be admitted. */
export interface Full {
  readonly policyIds: readonly string[];
  readonly storageNodeIds: readonly string[];
  readonly repositoryIds: readonly string[];
}

export interface Admitted {
  /** Where there is nothing to build on, a backup is full. */
  readonly kind: PolicyKind;
  readonly runId: string;
  readonly backupId: string | null;
  readonly estimateBytes: number | null;
}

/** Of whom there may be many members that wait. */
export type MembersOf = { policyId: string } | { storageNodeId: string } | { repositoryId: string };

const freeAt = (now: Date) => ({ OR: [{ notBefore: null }, { notBefore: { lte: now } }] });

const ADMISSION_LOCK_KEY = 7_411_020n;
/** No delay is longer: a moment further ahead tells of a clock that was set back. */
export const MEMBER_DELAY_MS_MAX = 86_400_000;
const SKEW_MS = 300_000;

export class AdmissionRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** Within a transaction: nobody else admits until its end. */
  async lock(): Promise<void> {
    await this.#scope.write(async db => {
      await db.$executeRaw`SELECT pg_advisory_xact_lock(${ADMISSION_LOCK_KEY})`;
    });
  }

  loads(): Promise<Loads> {
    return this.#scope.read(async db => {
      const admitted = await db.$queryRaw<{ id: string; running: number }[]>`
        SELECT policy_id::text AS id, count(*)::int AS running FROM policy_firing_member
        WHERE state = 'admitted' GROUP BY policy_id`;
      const reserved = await db.$queryRaw<{ id: string; bytes: number }[]>`
        SELECT repository_id::text AS id, sum(estimate_bytes)::float8 AS bytes FROM policy_firing_member
        WHERE state = 'admitted' AND repository_id IS NOT NULL GROUP BY repository_id`;
      const runs = await db.$queryRaw<RunningRow[]>`
        SELECT storage_node_id::text AS node, repository_id::text AS repository, count(*)::int AS running FROM run
        WHERE kind = 'backup' AND state IN ('queued', 'running') GROUP BY storage_node_id, repository_id`;
      runs.push(...(await groupedLoads(db)));
      return {
        policies: new Map(admitted.map(({ id, running }) => [id, running])),
        reservedBytes: new Map(reserved.map(({ id, bytes }) => [id, bytes ?? 0])),
        storageNodes: summed(runs.map(({ node, running }) => [node, running])),
        repositories: summed(runs.map(({ repository, running }) => [repository, running])),
      };
    });
  }

  /** Members that may be admitted now, as far as their delays go, in their order. */
  candidates({ policyIds, storageNodeIds, repositoryIds }: Full, limit: number): Promise<Candidate[]> {
    const now = this.#scope.now();
    const wrong = new Date(now.getTime() + MEMBER_DELAY_MS_MAX + SKEW_MS);
    return this.#scope.read(async db => {
      const found = await db.$queryRaw<{ id: string }[]>`
        SELECT member.id::text AS id FROM policy_firing_member AS member
          JOIN policy_firing AS firing ON firing.id = member.firing_id
          JOIN policy ON policy.id = member.policy_id
        WHERE member.state = 'waiting' AND firing.state = 'running'
          AND (member.not_before IS NULL OR member.not_before <= ${now} OR member.not_before > ${wrong})
          AND NOT member.policy_id = ANY(${policyIds}::uuid[])
          AND NOT member.storage_node_id = ANY(${storageNodeIds}::uuid[])
          AND (member.repository_id IS NULL OR NOT member.repository_id = ANY(${repositoryIds}::uuid[]))
        ORDER BY (policy.definition->>'priority')::int, firing.due_at, member.volume_name LIMIT ${limit}`;
      const ids = found.map(({ id }) => id);
      const include = { firing: { include: { policy: true } } } as const;
      const rows = await db.policyFiringMember.findMany({ where: { id: { in: ids } }, include });
      const byId = new Map(rows.map(row => [row.id, row]));
      return ids.flatMap(id => {
        const row = byId.get(id);
        return row?.firing.definition == null ? [] : [toCandidate(row)];
      });
    });
  }

  /** Held until the end of the transaction; false where it does not wait any more. */
  async hold(memberId: string): Promise<boolean> {
    return this.#scope.write(async db => {
      const rows = await db.$queryRaw<unknown[]>`
        SELECT 1 FROM policy_firing_member WHERE id = ${memberId}::uuid AND state = 'waiting' FOR UPDATE`;
      return rows.length > 0;
    });
  }

  /**
   * All of a firing that wait, held until the end of the transaction, by the names of their volumes. None while it is
   * still to be told of others that their run has ended: they may have to wait, too, and to be of the same instant.
   */
  holdAll(firingId: string): Promise<FiringMember[]> {
    return this.#scope.write(async db => {
      await db.$queryRaw`
        SELECT 1 FROM policy_firing_member WHERE firing_id = ${firingId}::uuid AND state = 'waiting'
        ORDER BY id FOR UPDATE`;
      const [unsettled] = await db.$queryRaw<unknown[]>`
        SELECT 1 FROM policy_firing_member AS member LEFT JOIN run ON run.id = member.run_id
        WHERE member.firing_id = ${firingId}::uuid AND member.state = 'admitted'
          AND (run.id IS NULL OR run.state IN ('succeeded', 'failed', 'cancelled')) LIMIT 1`;
      if (unsettled !== undefined) return [];
      const where = { firingId, state: 'waiting' };
      return (await db.policyFiringMember.findMany({ where, orderBy: { volumeName: 'asc' } })).map(toMember);
    });
  }

  /** Within the transaction that made the run. */
  admit(memberId: string, { estimateBytes, ...ids }: Admitted): Promise<void> {
    return this.#scope.write(async db => {
      const data = {
        ...ids,
        state: 'admitted',
        reason: null,
        notBefore: null,
        estimateBytes: estimateBytes === null ? null : BigInt(Math.ceil(estimateBytes)),
        attempts: { increment: 1 },
        admittedAt: this.#scope.now(),
      };
      await db.policyFiringMember.updateMany({ where: { id: memberId, state: 'waiting' }, data });
    });
  }

  /** It, or all of theirs that wait without a delay of their own, cannot be admitted before the delay is over. */
  async defer(
    who: { id: string } | { firingId: string } | MembersOf,
    { reason, delayMs }: { reason: string; delayMs: number },
  ): Promise<void> {
    const now = this.#scope.now();
    const notBefore = new Date(now.getTime() + delayMs);
    const where = { ...who, state: 'waiting', ...('id' in who ? {} : freeAt(now)) };
    await this.#scope.write(db => db.policyFiringMember.updateMany({ where, data: { reason, notBefore } }));
  }

  /** All that wait for whoever is full, and not for a delay of their own, are told so. */
  async tellWaiting(who: MembersOf | { firingId: string }, reason: string): Promise<void> {
    const isNews = { OR: [{ reason: null }, { reason: { not: reason } }] };
    const where = { ...who, state: 'waiting', AND: [isNews, freeAt(this.#scope.now())] };
    await this.#scope.write(db => db.policyFiringMember.updateMany({ where, data: { reason } }));
  }

  /** False where it is not in that state any more, or has got another run than `runId` since. */
  async end(
    memberId: string,
    end: {
      from: 'waiting' | 'admitted';
      runId?: string | null;
      state: 'succeeded' | 'failed' | 'skipped';
      reason: string | null;
    },
  ): Promise<boolean> {
    const { from, runId, state, reason } = end;
    const data = { state, reason, finishedAt: this.#scope.now() };
    const where = { id: memberId, state: from, ...(runId !== undefined && { runId }) };
    const { count } = await this.#scope.write(db => db.policyFiringMember.updateMany({ where, data }));
    return count > 0;
  }

  /** Its run failed, and it is given another one after the delay. Without effect where it has got that already. */
  async again(
    { id, runId }: Pick<FiringMember, 'id' | 'runId'>,
    { reason, delayMs }: { reason: string; delayMs: number },
  ): Promise<void> {
    const notBefore = new Date(this.#scope.now().getTime() + delayMs);
    const where = { id, runId, state: 'admitted' };
    await this.#scope.write(db =>
      db.policyFiringMember.updateMany({ where, data: { state: 'waiting', reason, notBefore } }),
    );
  }

  listEnded(limit: number): Promise<EndedMember[]> {
    return this.#scope.read(async db => {
      const found = await db.$queryRaw<EndedRow[]>`
        SELECT member.id::text AS id, run.state AS "runState", run.error AS "runError",
          CASE WHEN run.kind = 'create-group' THEN run.request->>'groupId' END AS "groupId",
          firing.definition->'retry' AS retry, firing.definition->'replicaIds' AS "replicaIds"
        FROM policy_firing_member AS member
          JOIN policy_firing AS firing ON firing.id = member.firing_id
          LEFT JOIN run ON run.id = member.run_id
        WHERE member.state = 'admitted' AND (run.id IS NULL OR run.state IN ('succeeded', 'failed', 'cancelled'))
        LIMIT ${limit}`;
      const rows = await db.policyFiringMember.findMany({ where: { id: { in: found.map(({ id }) => id) } } });
      const byId = new Map(rows.map(row => [row.id, row]));
      return found.flatMap(({ id, runState, ...rest }) => {
        const row = byId.get(id);
        return row ? [{ ...rest, ...toMember(row), runState: runState ?? 'gone' }] : [];
      });
    });
  }

  /** Runs of members under way, with what they were last told of their speed. */
  listSpeeds(): Promise<SpeedOfRun[]> {
    return this.#scope.read(speedRows);
  }
}

interface RunningRow {
  node: string | null;
  repository: string | null;
  running: number;
}

/** Their runs are made after the instant. */
function groupedLoads(db: Db): Promise<RunningRow[]> {
  return db.$queryRaw<RunningRow[]>`
    SELECT member.storage_node_id::text AS node, made.repository_id::text AS repository, count(*)::int AS running
    FROM checkpoint_group AS made JOIN checkpoint_group_member AS member ON member.group_id = made.id
    WHERE made.state = 'creating' AND member.backup_id IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM run WHERE run.id = member.run_id)
    GROUP BY member.storage_node_id, made.repository_id`;
}

export interface SpeedOfRun {
  readonly policyId: string;
  readonly runId: string;
  /** Null: no limit was asked for. */
  readonly speedBytesPerSecond: number | null;
  /** Its policy had windows of bandwidth as the firing began. */
  readonly wasLimited: boolean;
}

interface EndedRow {
  id: string;
  runState: string | null;
  groupId: string | null;
  replicaIds: string[];
  runError: EndedMember['runError'];
  retry: PolicyDefinition['retry'];
}

type CandidateRow = PolicyFiringMemberModel & {
  firing: { definition: unknown; dueAt: Date; policy: Parameters<typeof toPolicy>[0] };
};

function toCandidate({ firing, ...row }: CandidateRow): Candidate {
  const { policy, definition, dueAt } = firing;
  return { ...toMember(row), policy: toPolicy(policy), definition: definition as PolicyDefinition, dueAt };
}

/** What the request asked for counts until somebody said otherwise. */
function speedRows(db: Db) {
  return db.$queryRaw<SpeedOfRun[]>`
    SELECT member.policy_id::text AS "policyId", run.id::text AS "runId",
      coalesce(run.speed_bytes_per_second, (run.request->>'speedBytesPerSecond')::bigint)::float8
        AS "speedBytesPerSecond",
      jsonb_array_length(firing.definition->'bandwidth') > 0 AS "wasLimited"
    FROM policy_firing_member AS member
      JOIN run ON run.backup_id = member.backup_id JOIN policy_firing AS firing ON firing.id = member.firing_id
    WHERE member.state = 'admitted' AND run.kind = 'backup' AND run.state IN ('queued', 'running')`;
}

function summed(entries: readonly [string | null, number][]): Map<string, number> {
  const sums = new Map<string, number>();
  for (const [id, running] of entries) if (id !== null) sums.set(id, (sums.get(id) ?? 0) + running);
  return sums;
}
