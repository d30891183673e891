// One group on this storage node, from prepare until it is decided (ADR 0049). To be called in the group's turn.
//
//   prepared → fenced → committed → released → kept or undone
//
// Until it is released nothing of it counts, and whatever goes wrong undoes it at once, by itself: nobody can have been
// told that it held. From then on it is in doubt, and stays as it is until it is decided.
import { randomUUID } from 'node:crypto';
import {
  type BlockGraph,
  type Clock,
  runTransaction,
  type TransactionAction,
  type WriteFence,
} from '@tidemark/engine';
import { GROUP_PREPARED_MS_MAX } from '../limits.ts';
import { fenceBroken, groupState, groupUndone } from './group-errors.ts';
import { type GroupMember, type MemberHost, undoRecorded } from './group-member.ts';
import {
  type GroupProof,
  type GroupRecord,
  type GroupRecords,
  isDecided,
  type MemberInstant,
  titleOf,
} from './group-record.ts';

export interface GroupHost extends MemberHost {
  readonly graph: BlockGraph;
  readonly clock: Clock;
  readonly records: GroupRecords;
  /** For tests alone: guests' changes are not held, so that a test of atomicity can show what it would notice. */
  readonly fencesOff: boolean;
}

/** How far a group is that lives in this process. */
type Stage = 'prepared' | 'fenced' | 'committed' | 'ended';

interface Fenced {
  readonly fence: WriteFence;
  readonly fenceId: string;
  readonly fencedAtMs: number;
  readonly drainedInMs: number;
}

interface Committed {
  readonly instants: MemberInstant[];
  readonly tookMs: number;
}

interface GroupParts {
  readonly record: GroupRecord;
  readonly members: readonly GroupMember[];
  /** Has an action run in the group's turn. */
  readonly soon: (action: () => Promise<void>) => void;
}

export interface ReleaseAnswer {
  readonly held: boolean;
  /** Where it was not held: why. */
  readonly reason: string;
  readonly fenceLimitMs: number;
  readonly proof: Pick<GroupProof, 'fenceId' | 'heldMs' | 'waits' | 'waitP99Ms' | 'waitMaxMs'> | undefined;
}

export class Group {
  readonly #host: GroupHost;
  readonly #members: readonly GroupMember[];
  readonly #soon: GroupParts['soon'];
  readonly #expiry = new AbortController();
  #record: GroupRecord;
  #stage: Stage;
  #fence: WriteFence | undefined;
  /** Once no change is under way behind it. */
  #fenced: Fenced | undefined;
  #committed: Committed | undefined;
  /** Why it is to go, while it cannot be undone. */
  #broken = '';

  private constructor(host: GroupHost, parts: GroupParts) {
    this.#host = host;
    this.#record = parts.record;
    this.#members = parts.members;
    this.#soon = parts.soon;
    this.#stage = parts.members.length > 0 ? 'prepared' : 'ended';
  }

  /** With all of its members staged. */
  static prepared(host: GroupHost, parts: GroupParts): Group {
    const group = new Group(host, parts);
    const { clock } = host;
    void clock.sleep(GROUP_PREPARED_MS_MAX, group.#expiry.signal).then(() => {
      if (group.#stage !== 'prepared' || group.#expiry.signal.aborted) return;
      group.#soon(() => group.undo(`it was not fenced within ${GROUP_PREPARED_MS_MAX / 1000} s`));
    });
    return group;
  }

  /** As the disk has it. */
  static recorded(host: GroupHost, record: GroupRecord): Group {
    return new Group(host, { record, members: [], soon: () => {} });
  }

  get record(): GroupRecord {
    return this.#record;
  }

  /** As `ListGroups` tells it. */
  get state(): string {
    if (this.#broken !== '' || this.#record.state === 'undoing') return 'broken';
    return this.#stage === 'ended' ? this.#record.state : this.#stage;
  }

  get isInDoubt(): boolean {
    return this.#record.state === 'released' || this.#record.state === 'undoing';
  }

  /** Resolves with no change of its volumes under way. Rejects with `group-fence-broken` and it undone otherwise. */
  async fence(): Promise<Omit<Fenced, 'fence'>> {
    if (this.#fenced !== undefined && this.#stage !== 'ended') return this.#unbroken();
    const { proof } = this.#record;
    if (proof !== undefined && this.#record.state !== 'undone') return proof;
    if (this.#stage !== 'prepared') throw this.#refusal('be fenced');
    this.#expiry.abort();
    const { graph, clock, fencesOff } = this.#host;
    const closedAtMs = clock.monotonicMs();
    const onBroken = () => this.#soon(() => this.undo(this.#late()));
    const nodes = fencesOff ? [] : this.#members.map(({ volume }) => volume.node);
    const fence = graph.fence(nodes, { clock, limitMs: this.#record.fenceLimitMs, onBroken });
    this.#stage = 'fenced';
    this.#fence = fence;
    await fence.rested();
    const drainedInMs = clock.monotonicMs() - closedAtMs;
    const fencedAtMs = clock.wallMs();
    this.#fenced = { fence, fenceId: randomUUID(), fencedAtMs, drainedInMs };
    return this.#unbroken();
  }

  /** The instant. Rejects with `group-fence-broken` and it undone where the fence has not held so far. */
  async commit(): Promise<Committed & { fenceId: string }> {
    const { proof } = this.#record;
    if (proof !== undefined && this.#record.state !== 'undone') return proof;
    if (this.#stage === 'ended' || this.#fenced === undefined) throw this.#refusal('be committed');
    const { fenceId } = await this.#unbroken();
    if (this.#committed !== undefined) return { ...this.#committed, fenceId };
    const { clock, graph } = this.#host;
    const beganMs = clock.monotonicMs();
    const pointInTimeMs = clock.wallMs();
    try {
      await runTransaction(graph, [
        this.#whileFenced(),
        ...this.#members.flatMap(member => member.actions()),
      ]);
    } catch (error) {
      await this.undo(error instanceof Error ? error.message : String(error));
      throw error;
    }
    const instants = this.#members.map(member => member.enter(pointInTimeMs));
    this.#stage = 'committed';
    this.#committed = { instants, tookMs: clock.monotonicMs() - beganMs };
    return { ...this.#committed, fenceId };
  }

  /** First lets guests go on. Where it was held, what was committed is durable afterwards; otherwise it is undone. */
  async release(): Promise<ReleaseAnswer> {
    if (this.#record.proof === undefined && this.#stage === 'committed') await this.#publish();
    else if (this.#stage !== 'ended') await this.undo('it was released before it was committed');
    const { state, proof, fenceLimitMs, reason } = this.#record;
    const held = state === 'released' || state === 'kept';
    const { fence, fenceId } = this.#fenced ?? {};
    const shown = proof ?? (fence && { ...fence.report(), fenceId: fenceId! });
    return { held, reason: held ? '' : this.#broken || reason, fenceLimitMs, proof: shown };
  }

  /** Good to repeat. Rejects with `group-state` unless it was released, and had held. */
  async keep(): Promise<void> {
    if (this.#record.state === 'kept') return;
    if (this.#record.state !== 'released') throw this.#refusal('be kept');
    await this.#save({ state: 'kept' });
    this.#letVolumesGo();
  }

  /** Good to repeat. Rejects with `group-state` where it was kept; with what stands in the way, to be tried again. */
  async undo(reason: string): Promise<void> {
    if (this.#record.state === 'undone') return;
    if (this.#record.state === 'kept') throw groupState(this.#record, 'be undone', 'kept');
    if (this.#record.state === 'released') await this.#save({ state: 'undoing', reason });
    this.#broken ||= this.#record.reason || reason;
    this.#stage = 'ended';
    this.#expiry.abort();
    this.#fence?.open();
    const failures: unknown[] = [];
    const undoing =
      this.#members.length > 0
        ? this.#members.map(member => member.undo())
        : this.#record.members.map(member => undoRecorded(this.#host, member));
    for (const { status, ...end } of await Promise.allSettled(undoing)) {
      if (status === 'rejected') failures.push((end as { reason: unknown }).reason);
    }
    if (failures.length > 0) throw failures[0];
    await this.#save({ state: 'undone', reason: this.#broken });
    this.#broken = '';
  }

  /** The volumes of one that is in doubt, after a start. */
  holdVolumes(): void {
    const { groupId, members } = this.#record;
    for (const { volumeId, checkpointId } of members) {
      if (!this.#host.volumes.has(volumeId)) continue;
      const { use } = this.#host.volumes.get(volumeId);
      use.group = { groupId, title: titleOf(this.#record), checkpointId };
    }
  }

  #letVolumesGo(): void {
    const { groupId, members } = this.#record;
    for (const { volumeId } of members) {
      if (!this.#host.volumes.has(volumeId)) continue;
      const { use } = this.#host.volumes.get(volumeId);
      if (use.group?.groupId === groupId) use.group = undefined;
    }
  }

  async #unbroken(): Promise<Omit<Fenced, 'fence'>> {
    const { fence, ...told } = this.#fenced!;
    if (fence.holds) return told;
    await this.undo(this.#late());
    throw fenceBroken(this.#record, this.#late());
  }

  /** The first action of the commit: nothing can come between it and the others. */
  #whileFenced(): TransactionAction {
    const { fence } = this.#fenced!;
    const prepare = () => {
      if (!fence.holds) throw fenceBroken(this.#record, this.#late());
      return {};
    };
    return { kind: 'while-fenced', nodes: () => [], prepare };
  }

  async #publish(): Promise<void> {
    const { fence, fenceId, fencedAtMs, drainedInMs } = this.#fenced!;
    const { instants, tookMs } = this.#committed!;
    if (!fence.open()) return this.undo(this.#late());
    const ends = await Promise.allSettled(this.#members.map(member => member.publish()));
    try {
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
      const told = { fenceId, fencedAtMs, drainedInMs, tookMs, instants };
      await this.#save({ state: 'released', proof: { ...told, ...fence.report() } });
      this.#stage = 'ended';
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      await this.undo(`what was committed could not be made durable (${text})`);
    }
  }

  async #save(change: Partial<GroupRecord>): Promise<void> {
    const record = { ...this.#record, ...change };
    await this.#host.records.save(record);
    this.#record = record;
  }

  #late(): string {
    return `guests were let go on after ${this.#record.fenceLimitMs} ms`;
  }

  #refusal(verb: string): Error {
    if (this.#fence?.broken === true) return fenceBroken(this.#record, this.#late());
    if (this.#record.state === 'undone') return groupUndone(this.#record, this.#record.reason);
    if (this.#broken !== '') return groupUndone(this.#record, this.#broken);
    return groupState(this.#record, verb, isDecided(this.#record) ? this.#record.state : this.state);
  }
}
