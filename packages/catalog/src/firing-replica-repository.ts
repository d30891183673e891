// Backups of firings on their way to other repositories of their policy, as a worker brings them forward: each waits,
// gets a run, and gets another one when that has failed, like a member of the firing.
import { randomUUID } from 'node:crypto';
import { MEMBER_DELAY_MS_MAX } from './admission-repository.ts';
import type { PolicyFiringReplicaModel } from './generated/models.ts';
import type { PolicyDefinition } from './policy/definition.ts';
import { type Policy, toPolicy } from './policy-repository.ts';
import type { Scope } from './scope.ts';

export interface FiringReplica {
  id: string;
  firingId: string;
  backupId: string;
  repositoryId: string;
  state: 'waiting' | 'started' | 'succeeded' | 'failed';
  /** Why it waits, or failed. */
  reason: string | null;
  runId: string | null;
  /** Runs that were started for it. */
  attempts: number;
  /** How often it could not be started, since the last run. */
  refusals: number;
  notBefore: Date | null;
  createdAt: Date;
}

/** One that a firing under way, which goes on, is to have. */
export interface AwaitedReplica {
  readonly backupId: string;
  /** Names. */
  readonly policy: string;
  readonly repositoryId: string;
  readonly repository: string;
}

/** Of replicas whose runs have ended since. */
export interface EndedReplica extends FiringReplica {
  readonly runState: string;
  readonly runError: { code: string; message: string } | null;
  readonly retry: PolicyDefinition['retry'];
}

export function toReplica(row: PolicyFiringReplicaModel): FiringReplica {
  return { ...row, state: row.state as FiringReplica['state'] };
}

export class FiringReplicaRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** They may be started at once. Without effect for those that are there. */
  async add(firingId: string, wanted: { backupId: string; repositoryIds: readonly string[] }): Promise<void> {
    const { backupId, repositoryIds } = wanted;
    const now = this.#scope.now();
    const data = repositoryIds.map(repositoryId => ({
      ...{ id: randomUUID(), firingId, backupId, repositoryId },
      ...{ state: 'waiting', notBefore: now, createdAt: now },
    }));
    await this.#scope.write(db => db.policyFiringReplica.createMany({ data, skipDuplicates: true }));
  }

  /** Those that may be started now, the oldest first. A moment far ahead tells of a clock that was set back. */
  async listDue(limit: number): Promise<FiringReplica[]> {
    const now = this.#scope.now();
    const wrong = new Date(now.getTime() + MEMBER_DELAY_MS_MAX);
    const due = [{ notBefore: null }, { notBefore: { lte: now } }, { notBefore: { gt: wrong } }];
    const orderBy = [{ createdAt: 'asc' as const }, { id: 'asc' as const }];
    const query = { where: { state: 'waiting', OR: due }, orderBy, take: limit };
    return (await this.#scope.read(db => db.policyFiringReplica.findMany(query))).map(toReplica);
  }

  /** The policy, while it waits; held until the end of the transaction. Null: somebody else has it. */
  async hold(id: string): Promise<Policy | null> {
    return this.#scope.write(async db => {
      const held = await db.$queryRaw<{ firingId: string }[]>`
        SELECT firing_id::text AS "firingId" FROM policy_firing_replica
        WHERE id = ${id}::uuid AND state = 'waiting' FOR UPDATE SKIP LOCKED`;
      if (!held[0]) return null;
      const query = { where: { id: held[0].firingId }, include: { policy: true } };
      return toPolicy((await db.policyFiring.findUniqueOrThrow(query)).policy);
    });
  }

  /** Within the transaction that made the run. */
  async started(id: string, runId: string): Promise<void> {
    const counts = { attempts: { increment: 1 }, refusals: 0 };
    const data = { state: 'started', runId, reason: null, notBefore: null, ...counts };
    await this.#scope.write(db =>
      db.policyFiringReplica.updateMany({ where: { id, state: 'waiting' }, data }),
    );
  }

  /** It could not be started, or its run failed, and it waits for the delay. Without effect as that of `end`. */
  async again(
    { id, state, runId }: FiringReplica,
    { reason, delayMs }: { reason: string; delayMs: number },
  ): Promise<void> {
    const notBefore = new Date(this.#scope.now().getTime() + delayMs);
    const refusals = state === 'waiting' ? { refusals: { increment: 1 } } : {};
    const data = { state: 'waiting', reason, notBefore, ...refusals };
    await this.#scope.write(db => db.policyFiringReplica.updateMany({ where: { id, state, runId }, data }));
  }

  /** For good. Without effect where it is not in that state any more, or has got another run since. */
  async end(
    { id, state, runId }: FiringReplica,
    end: { state: 'succeeded' | 'failed'; reason: string | null },
  ): Promise<void> {
    const data = { ...end, notBefore: null };
    await this.#scope.write(db => db.policyFiringReplica.updateMany({ where: { id, state, runId }, data }));
  }

  /**
   * Of these backups what is to be copied yet, to repositories that are there: replicas that wait or are under way,
   * and those that are asked for once the backup's member has ended. One statement: what becomes the other meanwhile
   * is seen as either.
   */
  async awaited(backupIds: readonly string[]): Promise<AwaitedReplica[]> {
    if (backupIds.length === 0) return [];
    return this.#scope.read(
      db => db.$queryRaw<AwaitedReplica[]>`
        SELECT awaited.backup_id::text AS "backupId", policy.name AS policy,
          repository.id::text AS "repositoryId", repository.name AS repository
        FROM (
          SELECT firing_id, backup_id, repository_id FROM policy_firing_replica
          WHERE state IN ('waiting', 'started') AND backup_id = ANY(${[...backupIds]}::uuid[])
          UNION
          SELECT member.firing_id, member.backup_id, wanted.id::uuid
          FROM policy_firing_member AS member JOIN policy_firing AS firing ON firing.id = member.firing_id,
            jsonb_array_elements_text(firing.definition->'replicaIds') AS wanted(id)
          WHERE member.state = 'admitted' AND member.backup_id = ANY(${[...backupIds]}::uuid[])
        ) AS awaited
          JOIN policy_firing AS firing ON firing.id = awaited.firing_id AND firing.state = 'running'
          JOIN policy ON policy.id = firing.policy_id
          JOIN repository ON repository.id = awaited.repository_id AND repository.state = 'ready'
        ORDER BY policy.name, repository.name, awaited.backup_id`,
    );
  }

  async listEnded(limit: number): Promise<EndedReplica[]> {
    return this.#scope.read(async db => {
      const found = await db.$queryRaw<EndedRow[]>`
        SELECT replica.id::text AS id, run.state AS "runState", run.error AS "runError",
          firing.definition->'retry' AS retry
        FROM policy_firing_replica AS replica
          JOIN policy_firing AS firing ON firing.id = replica.firing_id
          LEFT JOIN run ON run.id = replica.run_id
        WHERE replica.state = 'started' AND (run.id IS NULL OR run.state IN ('succeeded', 'failed', 'cancelled'))
        LIMIT ${limit}`;
      const where = { id: { in: found.map(({ id }) => id) } };
      const rows = new Map((await db.policyFiringReplica.findMany({ where })).map(row => [row.id, row]));
      return found.flatMap(({ id, runState, ...rest }) => {
        const row = rows.get(id);
        return row ? [{ ...rest, ...toReplica(row), runState: runState ?? 'gone' }] : [];
      });
    });
  }
}

interface EndedRow {
  id: string;
  runState: string | null;
  runError: EndedReplica['runError'];
  retry: PolicyDefinition['retry'];
}
