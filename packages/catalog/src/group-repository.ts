// Groups: checkpoints of several volumes at one instant, and backups of them. State follows the run that makes it:
// creating → ready or incomplete once it is decided that it is one instant; failed or cancelled where it is not.
import { CatalogError, isUniqueViolation, notFound } from './errors.ts';
import type { CheckpointGroupMemberModel, CheckpointGroupModel } from './generated/models.ts';
import { json } from './json.ts';
import { between, nameHolds, type Page, type PageOptions, pageQuery, toPage } from './page.ts';
import { byRef } from './ref.ts';
import type { JsonObject, RunError } from './run.ts';
import type { Db, Scope } from './scope.ts';
import { visibleVolumeIds } from './visibility.ts';

export type GroupKind = 'checkpoint' | 'backup';
/** What one member that fails means for the others. */
export type GroupCompletion = 'individual' | 'grouped';
/** An application that holds still for the instant. */
export type WantedHook =
  | { readonly webhook: string; readonly timeoutMs: number }
  /** `storageNode`: id or name. */
  | { readonly command: string; readonly storageNode: string; readonly timeoutMs: number };
/** `incomplete`: it is one instant, and not every backup of it came about. */
export type GroupState = 'creating' | 'ready' | 'incomplete' | 'failed' | 'cancelled' | 'deleting';
/** Of a grouped backup: whether its members may be published. */
export type GroupPublication = 'waiting' | 'allowed' | 'refused';
/** `checked`: copied, and as it was sent, but not published yet. */
export type GroupMemberState = 'creating' | 'copying' | 'checked' | 'ready' | 'failed' | 'cancelled';

export interface GroupMember {
  volumeId: string;
  volumeName: string;
  storageNodeId: string;
  checkpointId: string;
  backupId: string | null;
  /** Of the run that makes the backup. */
  runId: string | null;
  state: GroupMemberState;
  error: RunError | null;
}

export interface NewGroup {
  id: string;
  name: string;
  kind: GroupKind;
  completion: GroupCompletion;
  /** Null: the volumes were named. */
  selector: string | null;
  fenceLimitMs: number;
  repositoryId: string | null;
  /** The run that makes it. */
  runId: string;
}

export interface Group extends NewGroup {
  state: GroupState;
  publication: GroupPublication;
  /** Null until it is decided that it is one instant. */
  pointInTime: Date | null;
  proof: JsonObject | null;
  error: RunError | null;
  createdAt: Date;
  finishedAt: Date | null;
  /** By the names of their volumes. */
  members: GroupMember[];
}

export interface GroupFilter {
  state?: GroupState | undefined;
  kind?: GroupKind | undefined;
  /** Part of the name. */
  name?: string | undefined;
  /** Of one of its members. */
  volumeId?: string | undefined;
  storageNodeId?: string | undefined;
  repositoryId?: string | undefined;
  /** Whose firing has made it, as long as that is kept. */
  policyId?: string | undefined;
  /** Asked for from here on, and before. */
  since?: Date | undefined;
  until?: Date | undefined;
}

type NewMember = Omit<GroupMember, 'state' | 'error'>;
type Row = CheckpointGroupModel & { members: CheckpointGroupMemberModel[] };

const GIVEN_UP: GroupState[] = ['failed', 'cancelled'];
const include = { members: { orderBy: { volumeName: 'asc' } } } as const;

function toGroup({ members, ...row }: Row): Group {
  return {
    ...row,
    kind: row.kind as GroupKind,
    completion: row.completion as GroupCompletion,
    state: row.state as GroupState,
    publication: row.publication as GroupPublication,
    proof: row.proof as JsonObject | null,
    error: row.error as unknown as RunError | null,
    members: members.map(({ groupId: _, ...member }) => ({
      ...member,
      state: member.state as GroupMemberState,
      error: member.error as unknown as RunError | null,
    })),
  };
}

export class GroupRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** State `creating`. Rejects `name-taken`, also by one that is being deleted. */
  create(group: NewGroup, members: readonly NewMember[]): Promise<Group> {
    return this.#scope.write(async (db, tell) => {
      const rows = members.map(member => ({ ...member, state: 'creating' }));
      const data = { ...group, state: 'creating', members: { create: rows } };
      const row = await db.checkpointGroup.create({ data, include }).catch((error: unknown) => {
        if (!isUniqueViolation(error)) throw error;
        const text =
          `A group named '${group.name}' exists already. Choose another name, or delete that group first ` +
          `(tidemark group delete ${group.name}).`;
        throw new CatalogError('group', 'name-taken', text, error);
      });
      const { id: subjectId, runId } = group;
      const told = { name: group.name, members: members.length };
      tell({ kind: 'group-creating', subjectType: 'group', subjectId, runId, data: told });
      return toGroup(row);
    });
  }

  /** By id, or by name: of several the one that was not given up, else the newest. */
  async find(ref: string): Promise<Group | null> {
    const orderBy = [{ createdAt: 'desc' as const }, { id: 'desc' as const }];
    return this.#scope.read(async db => {
      const where = { ...byRef(ref), ...(await this.#visible(db)) };
      const living = { ...where, state: { notIn: GIVEN_UP } };
      const row =
        (await db.checkpointGroup.findFirst({ where: living, include })) ??
        (await db.checkpointGroup.findFirst({ where, orderBy, include }));
      return row && toGroup(row);
    });
  }

  /** Who sees some volumes alone sees the groups that have no other members. */
  async #visible(db: Db) {
    const volumeIds = await visibleVolumeIds(this.#scope, db);
    return volumeIds === null ? {} : { members: { some: {}, every: { volumeId: { in: volumeIds } } } };
  }

  /** Rejects `not-found`. */
  async get(ref: string): Promise<Group> {
    const group = await this.find(ref);
    if (!group) throw notFound('group', ref);
    return group;
  }

  /** Newest first. */
  list(options: PageOptions & GroupFilter = {}): Promise<Page<Group>> {
    const page = pageQuery(options, 'desc');
    const { state, kind, name, volumeId, storageNodeId, repositoryId, policyId, since, until } = options;
    const filter = {
      ...nameHolds(name),
      ...between('createdAt', since, until),
      ...(state !== undefined && { state }),
      ...(kind !== undefined && { kind }),
      ...(repositoryId !== undefined && { repositoryId }),
    };
    const ofVolume = volumeId === undefined ? {} : { members: { some: { volumeId } } };
    const onNode = storageNodeId === undefined ? {} : { members: { some: { storageNodeId } } };
    return this.#scope.read(async db => {
      const ofPolicy = policyId === undefined ? {} : { runId: { in: await runsFor(db, policyId) } };
      const where = { AND: [page.after, filter, ofVolume, onNode, ofPolicy, await this.#visible(db)] };
      const { orderBy, take } = page;
      const rows = await db.checkpointGroup.findMany({ where, orderBy, take, include });
      return toPage(rows, page.limit, toGroup);
    });
  }

  /** Those of these ids that there are. */
  async listByIds(ids: readonly string[]): Promise<Group[]> {
    const where = { id: { in: [...ids] } };
    return (await this.#scope.read(db => db.checkpointGroup.findMany({ where, include }))).map(toGroup);
  }

  /**
   * All storage nodes have said that their fences held: it is one instant, from here on for good. Rejects
   * `not-found`, and `not-ready` for one that was given up.
   */
  decide(id: string, { pointInTime, proof }: { pointInTime: Date; proof: JsonObject }): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const group = await lock(db, id);
      if (group.state !== 'creating') {
        const text = `Group '${group.name}' is ${group.state}: it cannot be decided any more.`;
        throw new CatalogError('group', 'not-ready', text);
      }
      await db.checkpointGroup.update({ where: { id }, data: { pointInTime, proof: json(proof) } });
      const state = group.kind === 'backup' ? 'copying' : 'ready';
      await db.checkpointGroupMember.updateMany({ where: { groupId: id }, data: { state } });
      const data = { pointInTime: pointInTime.toISOString() };
      tell({ kind: 'group-decided', subjectType: 'group', subjectId: id, runId: group.runId, data });
    });
  }

  /** Good to repeat. A member that has ended stays as it ended. */
  setMember(
    id: string,
    volumeId: string,
    { state, error = null }: { state: GroupMemberState; error?: RunError | null },
  ): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { runId } = await lock(db, id);
      const where = { groupId: id, volumeId, state: { notIn: ['ready', 'failed', 'cancelled'] } };
      const data = { state, ...(error && { error: json(error) }) };
      const { count } = await db.checkpointGroupMember.updateMany({ where, data });
      if (count === 0) return;
      const told = { volumeId, state, ...(error && json(error)) };
      tell({ kind: 'group-member-changed', subjectType: 'group', subjectId: id, runId, data: told });
    });
  }

  /** Of a grouped backup: allowed once every member is checked, unless it was refused before. Good to repeat. */
  askToPublish(id: string): Promise<GroupPublication> {
    return this.#scope.write(async (db, tell) => {
      const { publication, runId } = await lock(db, id);
      if (publication !== 'waiting') return publication as GroupPublication;
      const notChecked = { groupId: id, state: { not: 'checked' } };
      if ((await db.checkpointGroupMember.count({ where: notChecked })) > 0) return 'waiting';
      await db.checkpointGroup.update({ where: { id }, data: { publication: 'allowed' } });
      tell({ kind: 'group-publishing', subjectType: 'group', subjectId: id, runId });
      return 'allowed';
    });
  }

  /** Unless it was allowed before, none of its members is published any more. Good to repeat. */
  refusePublication(id: string): Promise<GroupPublication> {
    return this.#scope.write(async db => {
      const { publication } = await lock(db, id);
      if (publication !== 'waiting') return publication as GroupPublication;
      await db.checkpointGroup.update({ where: { id }, data: { publication: 'refused' } });
      return 'refused';
    });
  }

  /** The run that makes it has come to its end, or gives it up. Members that have not ended end with it. */
  end(
    id: string,
    { state, error = null }: { state: Exclude<GroupState, 'creating' | 'deleting'>; error?: RunError | null },
  ): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const group = await db.checkpointGroup.findUnique({ where: { id } });
      if (group === null) return;
      const data = { state, finishedAt: this.#scope.now(), ...(error && { error: json(error) }) };
      await db.checkpointGroup.update({ where: { id }, data });
      if (GIVEN_UP.includes(state)) {
        const where = { groupId: id, state: { notIn: ['failed', 'cancelled'] } };
        // What one of them failed at is told by itself: the others are given up for it.
        await db.checkpointGroupMember.updateMany({ where, data: { state: 'cancelled' } });
      }
      const told = error ? json(error) : {};
      const { runId } = group;
      tell({ kind: `group-${state}`, subjectType: 'group', subjectId: id, runId, data: told });
    });
  }

  /** A deletion begins. Rejects `not-found`, and `not-ready` while it is being made or deleted. */
  markDeleting(id: string, runId: string): Promise<Group> {
    return this.#scope.write(async (db, tell) => {
      const { name, state } = await lock(db, id);
      if (state === 'creating' || state === 'deleting') {
        const next = state === 'creating' ? 'Wait for its run, or cancel it' : 'Wait until its run has ended';
        throw new CatalogError('group', 'not-ready', `Group '${name}' is ${state}. ${next}.`);
      }
      const before = await this.get(id);
      await db.checkpointGroup.update({ where: { id }, data: { state: 'deleting' } });
      tell({ kind: 'group-deleting', subjectType: 'group', subjectId: id, runId, data: { name } });
      return before;
    });
  }

  /** A deletion that was given up: it is again as it was. */
  unmarkDeleting(id: string, state: GroupState, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { count } = await db.checkpointGroup.updateMany({
        where: { id, state: 'deleting' },
        data: { state },
      });
      if (count === 1) tell({ kind: `group-${state}`, subjectType: 'group', subjectId: id, runId });
    });
  }

  /** The row alone; the event names its volumes, by which it is told who may see it. Good to repeat. */
  delete(id: string, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const members = await db.checkpointGroupMember.findMany({
        where: { groupId: id },
        orderBy: { volumeId: 'asc' },
        select: { volumeId: true },
      });
      const data = { volumeIds: members.map(({ volumeId }) => volumeId) };
      const { count } = await db.checkpointGroup.deleteMany({ where: { id } });
      if (count === 1) tell({ kind: 'group-deleted', subjectType: 'group', subjectId: id, runId, data });
    });
  }
}

/** Nobody else changes it, or its members, until the transaction ends. Rejects `not-found`. */
async function lock(db: Db, id: string): Promise<CheckpointGroupModel> {
  await db.$queryRaw`SELECT 1 FROM checkpoint_group WHERE id = ${id}::uuid FOR UPDATE`;
  const row = await db.checkpointGroup.findUnique({ where: { id } });
  if (row === null) throw notFound('group', id);
  return row;
}

/** Those that made groups for firings of the policy. */
async function runsFor(db: Db, policyId: string): Promise<string[]> {
  const rows = await db.$queryRaw<{ id: string }[]>`
    SELECT run_id::text AS id FROM checkpoint_group AS g WHERE EXISTS (
      SELECT 1 FROM policy_firing_member AS m WHERE m.run_id = g.run_id AND m.policy_id = ${policyId}::uuid)`;
  return rows.map(({ id }) => id);
}
