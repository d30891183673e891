// All groups of volumes of this storage node: those that are under way or in doubt, and those decided lately.
import { TidemarkError } from '@tidemark/proto';
import { checkId } from '../host/plain-id.ts';
import type { StateStore } from '../host/state-store.ts';
import { Turns } from '../host/turns.ts';
import { FENCE_LIMIT_MS, FENCE_LIMIT_MS_MAX, GROUP_MEMBERS_MAX } from '../limits.ts';
import { Group, type GroupHost } from './group.ts';
import { groupNotFound, groupState, groupUndone, otherRun } from './group-errors.ts';
import { assertFree, GroupMember, type HeldVolume, type MemberRequest } from './group-member.ts';
import { type GroupRecord, GroupRecords, isDecided } from './group-record.ts';

export interface PrepareRequest {
  readonly groupId: string;
  readonly groupName: string;
  readonly runId: string;
  readonly members: readonly MemberRequest[];
  /** 0: FENCE_LIMIT_MS. */
  readonly fenceLimitMs: number;
}

/** Told of what a person has to look at. */
export type GroupReport = (problem: { groupId?: string; file?: string; message: string }) => void;

export class Groups {
  readonly #host: GroupHost;
  readonly #report: GroupReport;
  readonly #groups = new Map<string, Group>();
  readonly #turns = new Turns();

  constructor(options: Omit<GroupHost, 'records'> & { store: StateStore; report: GroupReport }) {
    const { store, report, ...host } = options;
    this.#host = { ...host, records: new GroupRecords({ store, report }) };
    this.#report = report;
  }

  /**
   * To be called with the volumes open and no guest there. What was never released is undone; one in doubt keeps its
   * volumes. One that cannot be undone is reported, and keeps nobody from being served.
   */
  async load(): Promise<void> {
    for (const record of await this.#host.records.load()) {
      const { groupId, state } = record;
      const group = Group.recorded(this.#host, record);
      this.#groups.set(groupId, group);
      if (isDecided(record)) continue;
      // Also those of one that goes: as long as it cannot, what it left goes nowhere else with a volume.
      group.holdVolumes();
      if (state === 'released') continue;
      await this.#undo(group, 'its storage node stopped before it was released');
    }
  }

  /** Undoes those that have not been released. */
  async close(): Promise<void> {
    const undone = this.undecided().map(group =>
      this.#turns.take(group.record.groupId, async () => {
        if (!group.isInDoubt) await this.#undo(group, 'its storage node was stopped');
      }),
    );
    await Promise.all(undone);
  }

  undecided(): Group[] {
    return [...this.#groups.values()].filter(({ record }) => !isDecided(record));
  }

  /**
   * Good to repeat. Rejects with what is wrong with a member, with nothing left behind: `volume-not-found`,
   * `volume-in-group`, `checkpoint-inconsistent`, `checkpoint-name-taken`, ...
   */
  prepare(request: PrepareRequest): Promise<Group> {
    checkRequest(request);
    const { groupId, runId } = request;
    return this.#turns.take(groupId, async () => {
      const known = this.#groups.get(groupId);
      if (known !== undefined) return again(known, request);
      const group = await this.#prepare(
        {
          version: 1,
          groupId,
          groupName: request.groupName,
          runId,
          state: 'prepared',
          sinceMs: this.#host.clock.wallMs(),
          fenceLimitMs: request.fenceLimitMs || FENCE_LIMIT_MS,
          members: request.members.map(memberRecord),
          reason: '',
        },
        request.members,
      );
      this.#groups.set(groupId, group);
      return group;
    });
  }

  /** In the group's turn. Rejects with `group-not-found`, and `group-state` for a run that has not prepared it. */
  inTurn<T>(
    { groupId, runId }: { groupId: string; runId: string },
    action: (group: Group) => Promise<T>,
  ): Promise<T> {
    return this.#turns.take(checkId(groupId, 'group'), async () => {
      const group = this.#groups.get(groupId);
      if (group === undefined) throw groupNotFound(groupId);
      if (group.record.runId !== runId) throw otherRun(group.record);
      return action(group);
    });
  }

  /** By any run. To undo one that was never heard of is to see to it that it never will be. Good to repeat. */
  decide({ groupId, runId, keep }: { groupId: string; runId: string; keep: boolean }): Promise<void> {
    return this.#turns.take(checkId(groupId, 'group'), async () => {
      const group = this.#groups.get(groupId);
      if (keep && group === undefined) throw groupNotFound(groupId);
      if (group === undefined) await this.#refuseForGood(groupId, runId);
      else if (keep) await group.keep();
      else await group.undo('it was not to be kept');
      await this.#forgetOld();
    });
  }

  async #prepare(record: GroupRecord, requests: readonly MemberRequest[]): Promise<Group> {
    const { volumes, records } = this.#host;
    for (const { volumeId } of requests) assertFree(volumes.get(volumeId));
    const held = await this.#hold(requests);
    const members: GroupMember[] = [];
    try {
      await records.save(record);
    } catch (error) {
      for (const { end } of held) end();
      throw error;
    }
    const staging = requests.map((request, index) =>
      GroupMember.stage(this.#host, record, { held: held[index]!, request }),
    );
    const ends = await Promise.allSettled(staging);
    for (const end of ends) if (end.status === 'fulfilled') members.push(end.value);
    const failed = ends.find(end => end.status === 'rejected');
    const soon = (action: () => Promise<void>) => {
      void this.#turns.take(record.groupId, action).catch(error => this.#tell(record, error));
    };
    if (failed === undefined) return Group.prepared(this.#host, { record, members, soon });
    for (const member of members) await member.undo();
    await records.remove(record.groupId);
    throw failed.reason;
  }

  /** One after the other, always in the same order: two groups never wait for each other. */
  async #hold(requests: readonly MemberRequest[]): Promise<HeldVolume[]> {
    const held = new Map<string, HeldVolume>();
    try {
      for (const volumeId of requests.map(request => request.volumeId).sort()) {
        held.set(volumeId, await this.#host.volumes.hold(volumeId));
      }
    } catch (error) {
      for (const { end } of held.values()) end();
      throw error;
    }
    return requests.map(({ volumeId }) => held.get(volumeId)!);
  }

  async #refuseForGood(groupId: string, runId: string): Promise<void> {
    const record: GroupRecord = {
      version: 1,
      groupId,
      groupName: '',
      runId,
      state: 'undone',
      sinceMs: this.#host.clock.wallMs(),
      fenceLimitMs: 0,
      members: [],
      reason: 'it was undone before it was prepared',
    };
    await this.#host.records.save(record);
    this.#groups.set(groupId, Group.recorded(this.#host, record));
  }

  /** What stands in the way is told; whoever decides tries again, and so does the next start. */
  async #undo(group: Group, reason: string): Promise<void> {
    await group.undo(reason).catch(error => this.#tell(group.record, error));
  }

  #tell({ groupId }: GroupRecord, error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    this.#report({ groupId, message: `could not be undone: ${text}` });
  }

  async #forgetOld(): Promise<void> {
    const known = await this.#host.records.forgetOld();
    for (const groupId of known) this.#groups.delete(groupId);
  }
}

const memberRecord = ({ volumeId, checkpointId, moment }: MemberRequest) => ({
  volumeId,
  checkpointId,
  momentId: moment?.momentId ?? '',
});

/** Asked for once more. */
function again(group: Group, request: PrepareRequest): Group {
  const { record, state } = group;
  if (record.state === 'undone') throw groupUndone(record, record.reason);
  if (record.runId !== request.runId) throw otherRun(record);
  const same = JSON.stringify(record.members) === JSON.stringify(request.members.map(memberRecord));
  if (same && state !== 'broken') return group;
  throw groupState(record, 'be prepared again', same ? state : 'prepared with other members');
}

/** Throws `invalid-request`. */
function checkRequest({ groupId, members, fenceLimitMs }: PrepareRequest): void {
  checkId(groupId, 'group');
  const invalid = (text: string) => new TidemarkError('invalid-request', `Group ${groupId} ${text}`);
  if (members.length === 0 || members.length > GROUP_MEMBERS_MAX) {
    throw invalid(`has 1 to ${GROUP_MEMBERS_MAX} volumes on one storage node, not ${members.length}.`);
  }
  if (fenceLimitMs > FENCE_LIMIT_MS_MAX) {
    throw invalid(`may keep guests waiting for ${FENCE_LIMIT_MS_MAX} ms at most, not ${fenceLimitMs}.`);
  }
  for (const { checkpointId, moment } of members) {
    checkId(checkpointId, 'checkpoint');
    if (moment !== undefined) checkId(moment.momentId, 'moment');
  }
  const ids = new Set(members.map(({ volumeId }) => volumeId));
  if (ids.size < members.length) throw invalid('names a volume twice. Name each once.');
}
