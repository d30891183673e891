// Policies: what is backed up when. Who plans a policy's firings holds its row, so that each due moment is dealt with
// once, however many workers there are, and whatever the queue has forgotten.
import { randomUUID } from 'node:crypto';
import { type Labels, matchesSelector, parseSelector } from '@tidemark/proto';
import { nameTaken, notFound } from './errors.ts';
import type { PolicyModel } from './generated/models.ts';
import { json } from './json.ts';
import { latestPossible } from './moments.ts';
import { nameHolds, type Page, type PageOptions, pageQuery, toPage } from './page.ts';
import type { PolicyDefinition } from './policy/definition.ts';
import { planFirings } from './policy/plan-firings.ts';
import { Schedule } from './policy/schedule.ts';
import { byRef } from './ref.ts';
import type { Db, Scope } from './scope.ts';

export interface Policy {
  id: string;
  name: string;
  definition: PolicyDefinition;
  enabled: boolean;
  /** Of the definition, from 1. */
  revision: number;
  /** Number of the next firing, from 0. */
  firings: number;
  /** Due moments up to this one have been dealt with. */
  handledUntil: Date;
  /** Null while it is disabled, or nothing is due any more. */
  nextDueAt: Date | null;
  createdAt: Date;
  updatedAt: Date;
}

export interface NewPolicy {
  id: string;
  name: string;
  definition: PolicyDefinition;
  enabled: boolean;
}

export interface PolicyFilter {
  enabled?: boolean | undefined;
  /** Part of the name. */
  name?: string | undefined;
  /** It backs up to that repository, or has replicas made there. */
  repositoryId?: string | undefined;
  /** Its selector chooses a volume that has these. */
  labels?: Labels | undefined;
}

export function toPolicy(row: PolicyModel): Policy {
  return { ...row, definition: row.definition as unknown as PolicyDefinition };
}

const nextOf = ({ schedule }: PolicyDefinition, after: Date) => new Schedule(schedule).next(after);

export class PolicyRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** What is due from now on is its business. Rejects `name-taken`. */
  create(policy: NewPolicy): Promise<Policy> {
    return this.#scope.write(async (db, tell) => {
      const handledUntil = this.#scope.now();
      const { id, name, enabled } = policy;
      const nextDueAt = enabled ? nextOf(policy.definition, handledUntil) : null;
      const definition = json(policy.definition);
      const data = { id, name, enabled, definition, handledUntil, nextDueAt, updatedAt: handledUntil };
      const row = await db.policy.create({ data }).catch(nameTaken('policy', name));
      tell({ kind: 'policy-created', subjectType: 'policy', subjectId: id, data: { name, enabled } });
      return toPolicy(row);
    });
  }

  async find(ref: string): Promise<Policy | null> {
    const row = await this.#scope.read(db => db.policy.findUnique({ where: byRef(ref) }));
    return row && toPolicy(row);
  }

  /** Rejects `not-found`. */
  async get(ref: string): Promise<Policy> {
    const policy = await this.find(ref);
    if (!policy) throw notFound('policy', ref);
    return policy;
  }

  /** Within a transaction nobody else changes it until its end. Rejects `not-found`. */
  getLocked(ref: string): Promise<Policy> {
    return this.#scope.write(async db => {
      const { id } = await this.get(ref);
      return this.#lock(db, id);
    });
  }

  /** Oldest first. */
  list(options: PageOptions & PolicyFilter = {}): Promise<Page<Policy>> {
    const { after, orderBy, take, limit } = pageQuery(options, 'asc');
    const { enabled, name, repositoryId: place, labels } = options;
    const places = [
      { definition: { path: ['repositoryId'], equals: place } },
      { definition: { path: ['replicaIds'], array_contains: [place] } },
    ];
    const filter = {
      ...nameHolds(name),
      ...(enabled !== undefined && { enabled }),
      ...(place !== undefined && { OR: places }),
    };
    return this.#scope.read(async db => {
      const chosen = labels === undefined ? {} : { id: { in: await idsChoosing(db, labels) } };
      const where = { AND: [after, filter, chosen] };
      return toPage(await db.policy.findMany({ where, orderBy, take }), limit, toPolicy);
    });
  }

  /** All that the queue has to know of. */
  async listEnabled(): Promise<Policy[]> {
    return this.#scope.read(async db =>
      (await db.policy.findMany({ where: { enabled: true }, orderBy: { id: 'asc' } })).map(toPolicy),
    );
  }

  /** Of enabled ones whose next moment has come. A clock that was set back makes all of them worth a look. */
  async listDue(now: Date): Promise<string[]> {
    const handled = { handledUntil: { gt: latestPossible(now) } };
    const where = { enabled: true, OR: [{ nextDueAt: { lte: now } }, handled] };
    const rows = await this.#scope.read(db => db.policy.findMany({ where, select: { id: true } }));
    return rows.map(({ id }) => id);
  }

  /** A changed schedule counts from now on. Rejects `not-found`, `name-taken`. */
  update(id: string, change: { name?: string; definition?: PolicyDefinition }): Promise<Policy> {
    return this.#scope.write(async (db, tell) => {
      const before = await this.#lock(db, id);
      const now = this.#scope.now();
      const { name = before.name, definition = before.definition } = change;
      const isNewSchedule =
        JSON.stringify(definition.schedule) !== JSON.stringify(before.definition.schedule);
      const from = isNewSchedule ? now : before.handledUntil;
      const data = {
        name,
        definition: json(definition),
        revision: before.revision + 1,
        handledUntil: from,
        nextDueAt: before.enabled ? nextOf(definition, from) : null,
        updatedAt: now,
      };
      const row = await db.policy.update({ where: { id }, data }).catch(nameTaken('policy', name));
      tell({
        kind: 'policy-changed',
        subjectType: 'policy',
        subjectId: id,
        data: { name, revision: row.revision },
      });
      return toPolicy(row);
    });
  }

  /** Disabled: nothing of it waits any more; what was begun goes on. Enabled: due from now on. Good to repeat. */
  setEnabled(id: string, enabled: boolean): Promise<Policy> {
    return this.#scope.write(async (db, tell) => {
      const before = await this.#lock(db, id);
      if (before.enabled === enabled) return before;
      const now = this.#scope.now();
      const times = enabled
        ? { handledUntil: now, nextDueAt: nextOf(before.definition, now) }
        : { nextDueAt: null };
      const revision = before.revision + 1;
      const row = await db.policy.update({
        where: { id },
        data: { enabled, revision, updatedAt: now, ...times },
      });
      if (!enabled) await dropWaiting(db, { policyId: id, now, reason: `policy '${row.name}' was disabled` });
      tell({ kind: enabled ? 'policy-enabled' : 'policy-disabled', subjectType: 'policy', subjectId: id });
      return toPolicy(row);
    });
  }

  /** With its firings; runs that they started go on. Rejects `not-found`. */
  delete(id: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { name } = await this.#lock(db, id);
      await db.policy.delete({ where: { id } });
      tell({ kind: 'policy-deleted', subjectType: 'policy', subjectId: id, data: { name } });
    });
  }

  /** Rows of the firings that are due by now and have none. Returns how many. Good to repeat, by anybody. */
  planDue(id: string, { graceMs }: { graceMs: number }): Promise<number> {
    return this.#scope.write(async (db, tell) => {
      const policy = await this.#lock(db, id).catch(() => null);
      if (policy === null || !policy.enabled) return 0;
      const { schedule } = policy.definition;
      const now = this.#scope.now();
      const dues = new Schedule(schedule);
      const { handledUntil } = policy;
      const plan = planFirings({ policyId: id, schedule, dues, handledUntil, now, graceMs });
      let number = policy.firings;
      const rows = plan.firings.map(({ dueAt, startAt, cause, standsFor, skipped }) => ({
        id: randomUUID(),
        policyId: id,
        number: skipped === null ? number++ : null,
        ...{ dueAt, startAt, cause, standsFor },
        state: skipped === null ? 'planned' : 'skipped',
        reason: skipped,
        followUps: [],
        createdAt: now,
        finishedAt: skipped === null ? null : now,
      }));
      if (rows.length > 0) await db.policyFiring.createMany({ data: rows });
      const times = { handledUntil: plan.handledUntil, nextDueAt: plan.nextDueAt };
      await db.policy.update({ where: { id }, data: { firings: number, ...times } });
      for (const { id: firingId, state, dueAt } of rows) {
        const kind = state === 'skipped' ? 'policy-firing-skipped' : 'policy-firing-planned';
        tell({ kind, subjectType: 'policy', subjectId: id, data: { firingId, dueAt: dueAt.toISOString() } });
      }
      return rows.length;
    });
  }

  /** A firing at once, whatever the schedule says, also of a disabled one. Returns its id. Rejects `not-found`. */
  fire(id: string): Promise<string> {
    return this.#scope.write(async (db, tell) => {
      const { firings: number } = await this.#lock(db, id);
      const now = this.#scope.now();
      const firingId = randomUUID();
      const moments = { dueAt: now, startAt: now, createdAt: now };
      const firing = { id: firingId, policyId: id, number, cause: 'asked', state: 'planned', followUps: [] };
      await db.policyFiring.create({ data: { ...firing, ...moments } });
      await db.policy.update({ where: { id }, data: { firings: number + 1 } });
      const data = { firingId, dueAt: now.toISOString() };
      tell({ kind: 'policy-firing-planned', subjectType: 'policy', subjectId: id, data });
      return firingId;
    });
  }

  async #lock(db: Db, id: string): Promise<Policy> {
    await db.$queryRaw`SELECT 1 FROM policy WHERE id = ${id}::uuid FOR UPDATE`;
    const row = await db.policy.findUnique({ where: { id } });
    if (row === null) throw notFound('policy', id);
    return toPolicy(row);
  }
}

async function dropWaiting(
  db: Db,
  { policyId, now, reason }: { policyId: string; now: Date; reason: string },
): Promise<void> {
  const skipped = { state: 'skipped', reason, finishedAt: now };
  await db.policyFiring.updateMany({ where: { policyId, state: 'planned' }, data: skipped });
  await db.policyFiringMember.updateMany({ where: { policyId, state: 'waiting' }, data: skipped });
}

/** Of policies, which are few beside what they choose. */
async function idsChoosing(db: Db, labels: Labels): Promise<string[]> {
  const rows = (await db.policy.findMany()).map(toPolicy);
  const chosen = rows.filter(({ definition }) => matchesSelector(parseSelector(definition.selector), labels));
  return chosen.map(({ id }) => id);
}
