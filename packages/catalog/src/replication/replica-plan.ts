// What a rule of replication asks for next: which backups are missing in the target repository, which of them are to be
// copied now and how, what cannot be, and which replicas the rule no longer keeps. No clock, no I/O.
import { type RetentionRules, reasonsToKeep } from '../retention/keep.ts';
import type { RetentionRow } from '../retention-rows.ts';

export interface ReplicationSetting {
  /** Null: everything is kept. */
  readonly keep: RetentionRules | null;
  readonly timeZone: string;
  /** Each replica is a full backup. */
  readonly flatten: boolean;
  readonly newestFirst: boolean;
}

export interface ReplicationSides {
  /** All backups of both repositories. */
  readonly source: readonly RetentionRow[];
  readonly target: readonly RetentionRow[];
  readonly isChosen: (volumeId: string) => boolean;
  readonly now: Date;
}

export interface WantedReplica {
  readonly backupId: string;
  readonly volumeId: string;
  /** By itself, with all that it stands on. */
  readonly flatten: boolean;
}

export interface BlockedReplica {
  readonly backupId: string;
  readonly why: string;
}

export interface ReplicationPlan {
  /** At most one of each volume; the most urgent first. */
  readonly next: WantedReplica[];
  /** Wanted and not available in the target; oldest first. */
  readonly missing: RetentionRow[];
  readonly blocked: BlockedReplica[];
  /** Replicas of volumes with nothing left to copy that no rule keeps. */
  readonly goes: RetentionRow[];
}

export function planReplication(sides: ReplicationSides, setting: ReplicationSetting): ReplicationPlan {
  const plan: ReplicationPlan = { next: [], missing: [], blocked: [], goes: [] };
  const chosen = ({ volumeId, state }: RetentionRow) => state === 'available' && sides.isChosen(volumeId);
  const targets = Map.groupBy(sides.target, ({ volumeId }) => volumeId);
  const sources = Map.groupBy(sides.source.filter(chosen), ({ volumeId }) => volumeId);
  const volumeIds = new Set([...sources.keys(), ...[...targets.keys()].filter(sides.isChosen)]);
  for (const volumeId of volumeIds) {
    const volume = new VolumePlan(sides, setting, {
      source: sources.get(volumeId) ?? [],
      target: targets.get(volumeId) ?? [],
    });
    const found = volume.plan();
    plan.next.push(...found.next);
    plan.missing.push(...found.missing);
    plan.blocked.push(...found.blocked);
    plan.goes.push(...found.goes);
  }
  const ageOf = new Map(sides.source.map(row => [row.id, row.createdAt.getTime()]));
  plan.next.sort((a, b) => ageOf.get(a.backupId)! - ageOf.get(b.backupId)!);
  plan.missing.sort(byAge);
  return plan;
}

class VolumePlan {
  readonly #sides: ReplicationSides;
  readonly #setting: ReplicationSetting;
  /** Available ones of the source, oldest first, and all of the target. */
  readonly #source: readonly RetentionRow[];
  readonly #target: readonly RetentionRow[];
  /** Of all volumes: chains cross them. */
  readonly #sourceById: ReadonlyMap<string, RetentionRow>;
  readonly #targetByCheckpoint: ReadonlyMap<string, RetentionRow>;

  constructor(
    sides: ReplicationSides,
    setting: ReplicationSetting,
    rows: { source: readonly RetentionRow[]; target: readonly RetentionRow[] },
  ) {
    this.#sides = sides;
    this.#setting = setting;
    this.#source = rows.source.filter(({ pointInTime }) => pointInTime !== null).toSorted(byAge);
    this.#target = rows.target;
    this.#sourceById = new Map(sides.source.map(row => [row.id, row]));
    this.#targetByCheckpoint = new Map(sides.target.map(row => [row.checkpointId, row]));
  }

  plan(): ReplicationPlan {
    const blocked: BlockedReplica[] = [];
    const wanted = new Set(this.#wanted());
    const missing = [...wanted].filter(row => this.#twinOf(row)?.state !== 'available');
    // What was let go there stays gone.
    const behind = missing.filter(row => !['hidden', 'removing'].includes(this.#twinOf(row)?.state ?? ''));
    const isBusy = this.#target.some(({ state }) => state === 'creating');
    const next: WantedReplica[] = [];
    for (const row of this.#setting.newestFirst ? behind.toReversed() : behind) {
      const why = this.#whyNot(row);
      if (why !== null) blocked.push({ backupId: row.id, why });
      else if (!isBusy && next.length === 0) next.push(this.#choose(row, wanted));
    }
    const isThere = behind.length === blocked.length && !isBusy;
    return { next, missing: behind, blocked, goes: isThere ? this.#goes() : [] };
  }

  #twinOf({ checkpointId }: RetentionRow): RetentionRow | undefined {
    return this.#targetByCheckpoint.get(checkpointId);
  }

  /** As if all were in the target: what the rule would keep of them. Oldest first. */
  #wanted(): RetentionRow[] {
    const { keep, timeZone } = this.#setting;
    if (keep === null) return [...this.#source];
    const own = new Set(this.#source.map(({ checkpointId }) => checkpointId));
    const others = this.#target.filter(row => row.state === 'available' && !own.has(row.checkpointId));
    // Who reads a source has nothing to do with what is wanted elsewhere.
    const candidates = [...this.#source, ...others]
      .filter(({ pointInTime }) => pointInTime !== null)
      .map(row => ({ ...row, pointInTime: row.pointInTime!, holders: [] }));
    const reasons = reasonsToKeep(candidates, { rules: keep, now: this.#sides.now, timeZone });
    return this.#source.filter(({ id }) => reasons.get(id)!.length > 0);
  }

  #whyNot(row: RetentionRow): string | null {
    if (row.unsound !== null) return row.unsound;
    if (this.#twinOf(row)?.state !== 'missing') return null;
    return 'the files of its replica are missing in the target: put them back, or repair its difference with forget';
  }

  /** The backup, or one below it that has to be there first. */
  #choose(row: RetentionRow, wanted: ReadonlySet<RetentionRow>): WantedReplica {
    const { volumeId } = row;
    const flat = (one: RetentionRow) => ({ backupId: one.id, volumeId, flatten: true });
    if (this.#setting.flatten) return flat(row);
    const members = [row];
    for (;;) {
      const { parentId } = members[0]!;
      const parent = this.#sourceById.get(parentId ?? '');
      if (parent === undefined) break;
      const twin = this.#twinOf(parent);
      if (twin?.state === 'available') return { backupId: row.id, volumeId, flatten: false };
      // Nothing is built on one that is about to go, and only sound ones are copied.
      if (twin !== undefined || parent.state !== 'available' || parent.unsound !== null) return flat(row);
      members.unshift(parent);
    }
    // Nothing of the chain is there: what nobody wants of it comes within the first that somebody does.
    const first = members.findIndex(member => wanted.has(member));
    return first > 0 ? flat(members[first]!) : { backupId: row.id, volumeId, flatten: false };
  }

  #goes(): RetentionRow[] {
    const { keep, timeZone } = this.#setting;
    if (keep === null) return [];
    const replicas = this.#target
      .filter(row => row.state === 'available' && row.replicaOfId !== null && row.pointInTime !== null)
      .map(row => ({ ...row, pointInTime: row.pointInTime! }));
    const reasons = reasonsToKeep(replicas, { rules: keep, now: this.#sides.now, timeZone });
    // The next increments in the source stand on these.
    const newest = this.#source.at(-1);
    const full = this.#source.findLast(({ parentId }) => parentId === null);
    const bases = [newest?.checkpointId, full?.checkpointId];
    return replicas.filter(row => reasons.get(row.id)!.length === 0 && !bases.includes(row.checkpointId));
  }
}

function byAge(a: RetentionRow, b: RetentionRow): number {
  return a.createdAt.getTime() - b.createdAt.getTime() || (a.id < b.id ? -1 : 1);
}
