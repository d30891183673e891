// Rules of replication: which backups of one repository are to be in another one, too, and what is kept of them there.
import { isForeignKeyViolation, nameTaken, notFound } from './errors.ts';
import { Prisma } from './generated/client.ts';
import type { ReplicationRuleModel } from './generated/models.ts';
import { nameHolds, type Page, type PageOptions, pageQuery, toPage } from './page.ts';
import { byRef } from './ref.ts';
import type { RetentionRules } from './retention/keep.ts';
import type { Db, Scope } from './scope.ts';

export interface ReplicationRule {
  id: string;
  name: string;
  sourceRepositoryId: string;
  /** Names of the repositories. */
  source: string;
  targetRepositoryId: string;
  target: string;
  /** Of volumes, by their labels; empty: all, and backups whose volume is gone. */
  selector: string;
  enabled: boolean;
  /** What is kept in the target; null: everything. */
  keep: RetentionRules | null;
  timeZone: string;
  /** Each replica is a full backup. */
  flatten: boolean;
  newestFirst: boolean;
  /** Volumes at a time. */
  concurrency: number;
  /** Of each run; null: as fast as it goes. */
  speedBytesPerSecond: number | null;
  createdAt: Date;
}

export type NewReplicationRule = Omit<ReplicationRule, 'source' | 'target' | 'createdAt'>;
export type ReplicationRuleChange = Partial<
  Omit<NewReplicationRule, 'id' | 'sourceRepositoryId' | 'targetRepositoryId'>
>;

export interface ReplicationRuleFilter {
  enabled?: boolean | undefined;
  /** Part of the name. */
  name?: string | undefined;
  sourceRepositoryId?: string | undefined;
  targetRepositoryId?: string | undefined;
}

/** Runs of a rule, as far as the next ones depend on them. */
export interface RuleRuns {
  /** Under way. */
  live: number;
  /** Since the last one that succeeded. */
  failures: number;
  failedAt: Date | null;
  error: { code: string; message: string } | null;
}

const include = { source: { select: { name: true } }, target: { select: { name: true } } } as const;
const LIVE = ['queued', 'running'];
/** As many are looked at for failures in a row. */
const RUNS_LOOKED_AT = 20;

type Row = ReplicationRuleModel & { source: { name: string }; target: { name: string } };

function toRule({ source, target, speedBytesPerSecond: speed, keep, ...row }: Row): ReplicationRule {
  return {
    ...row,
    source: source.name,
    target: target.name,
    keep: keep as RetentionRules | null,
    speedBytesPerSecond: speed === null ? null : Number(speed),
  };
}

function columns({ keep, speedBytesPerSecond: speed, ...rest }: ReplicationRuleChange) {
  return {
    ...rest,
    ...(keep !== undefined && { keep: keep === null ? Prisma.DbNull : { ...keep } }),
    ...(speed !== undefined && { speedBytesPerSecond: speed === null ? null : BigInt(speed) }),
  };
}

export class ReplicationRuleRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** Rejects `replication-rule-name-taken`, and `repository-not-found`. */
  create(rule: NewReplicationRule): Promise<ReplicationRule> {
    const { id, name, sourceRepositoryId, targetRepositoryId, ...rest } = rule;
    return this.#scope.write(async (db, tell) => {
      const data = { id, name, sourceRepositoryId, targetRepositoryId, ...columns(rest) };
      const row = await db.replicationRule.create({ data, include }).catch(error => {
        if (isForeignKeyViolation(error)) throw notFound('repository', targetRepositoryId);
        return nameTaken('replication-rule', name)(error);
      });
      this.#tell(tell, 'created', row);
      return toRule(row);
    });
  }

  async find(ref: string): Promise<ReplicationRule | null> {
    const row = await this.#scope.read(db => db.replicationRule.findUnique({ where: byRef(ref), include }));
    return row && toRule(row);
  }

  /** Rejects `not-found`. */
  async get(ref: string): Promise<ReplicationRule> {
    const rule = await this.find(ref);
    if (!rule) throw notFound('replication-rule', ref);
    return rule;
  }

  /** Oldest first. */
  list(options: PageOptions & ReplicationRuleFilter = {}): Promise<Page<ReplicationRule>> {
    const page = pageQuery(options, 'asc');
    const { enabled, name, sourceRepositoryId, targetRepositoryId } = options;
    const filter = {
      ...nameHolds(name),
      ...(enabled !== undefined && { enabled }),
      ...(sourceRepositoryId !== undefined && { sourceRepositoryId }),
      ...(targetRepositoryId !== undefined && { targetRepositoryId }),
    };
    const query = { where: { AND: [page.after, filter] }, orderBy: page.orderBy, take: page.take, include };
    return this.#scope.read(async db => toPage(await db.replicationRule.findMany(query), page.limit, toRule));
  }

  /** Rejects `not-found` and `replication-rule-name-taken`. */
  update(ref: string, change: ReplicationRuleChange): Promise<ReplicationRule> {
    return this.#scope.write(async (db, tell) => {
      const { id, name } = await this.get(ref);
      const update = db.replicationRule.update({ where: { id }, data: columns(change), include });
      const row = await update.catch(nameTaken('replication-rule', change.name ?? name));
      this.#tell(tell, 'changed', row);
      return toRule(row);
    });
  }

  /** What was replicated stays. Rejects `not-found`. */
  delete(ref: string): Promise<ReplicationRule> {
    return this.#scope.write(async (db, tell) => {
      const rule = await this.get(ref);
      const row = await db.replicationRule.delete({ where: { id: rule.id }, include });
      this.#tell(tell, 'deleted', row);
      return rule;
    });
  }

  /** Within a transaction nobody else starts runs of the rule until its end. Rejects `not-found`. */
  lock(id: string): Promise<RuleRuns> {
    return this.#scope.write(async db => {
      await this.#lock(db, id);
      return this.runs(id);
    });
  }

  /** Within a transaction nobody else changes it, or starts runs of it, until its end. Rejects `not-found`. */
  getLocked(ref: string): Promise<ReplicationRule> {
    return this.#scope.write(async db => {
      const { id } = await this.get(ref);
      await this.#lock(db, id);
      return this.get(id);
    });
  }

  async #lock(db: Db, id: string): Promise<void> {
    const rows = await db.$queryRaw<unknown[]>`
      SELECT 1 FROM replication_rule WHERE id = ${id}::uuid FOR UPDATE`;
    if (rows.length === 0) throw notFound('replication-rule', id);
  }

  runs(id: string): Promise<RuleRuns> {
    return this.#scope.read(async db => {
      const rule = await db.replicationRule.findUnique({ where: { id } });
      if (rule === null) throw notFound('replication-rule', id);
      const where = runsOf(id, rule.targetRepositoryId);
      const live = await db.run.count({ where: { ...where, state: { in: LIVE } } });
      const ended = await db.run.findMany({
        where: { ...where, state: { notIn: LIVE } },
        orderBy: { finishedAt: 'desc' },
        take: RUNS_LOOKED_AT,
        select: { state: true, finishedAt: true, error: true },
      });
      const succeeded = ended.findIndex(({ state }) => state === 'succeeded');
      const failures = succeeded < 0 ? ended.length : succeeded;
      const last = failures > 0 ? ended[0]! : undefined;
      const error = (last?.error ?? null) as RuleRuns['error'];
      return { live, failures, failedAt: last?.finishedAt ?? null, error };
    });
  }

  /** When a run of it last succeeded, as far as runs are kept; null: none has. */
  async lastSuccess({ id, targetRepositoryId }: ReplicationRule): Promise<Date | null> {
    const where = { ...runsOf(id, targetRepositoryId), state: 'succeeded' };
    const last = await this.#scope.read(db =>
      db.run.findFirst({ where, orderBy: { finishedAt: 'desc' }, select: { finishedAt: true } }),
    );
    return last?.finishedAt ?? null;
  }

  #tell(
    tell: Parameters<Parameters<Scope['write']>[0]>[1],
    what: 'created' | 'changed' | 'deleted',
    row: Row,
  ): void {
    const data = { name: row.name, source: row.source.name, target: row.target.name };
    tell({ kind: `replication-rule-${what}`, subjectType: 'replication-rule', subjectId: row.id, data });
  }
}

function runsOf(ruleId: string, targetRepositoryId: string) {
  return {
    ...{ kind: 'replicate', repositoryId: targetRepositoryId },
    request: { path: ['ruleId'], equals: ruleId },
  };
}
