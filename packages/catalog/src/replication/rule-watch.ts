// What a rule of replication asks for, kept true by events: only volumes that something was told of are planned anew,
// and those whose plan changes with time. Each worker has its own, and may lose it: the first look reads all.
import type { CatalogTransaction } from '../catalog.ts';
import type { ReplicationRule } from '../replication-rule-repository.ts';
import { rulesOutOf } from '../retention/awaited.ts';
import { type GoneLook, goneByAll } from '../retention/gone.ts';
import { chosenBy, keepersOf } from '../retention/keepers.ts';
import type { RetentionRow } from '../retention-rows.ts';
import { planReplication, type ReplicationPlan, type WantedReplica } from './replica-plan.ts';

type Look = GoneLook & Pick<CatalogTransaction, 'events'>;

export interface RuleWatchLimits {
  /** Volumes that are read in one go: some thousand backups. */
  readonly volumesAtOnce: number;
  /** Beyond so many events reading all is cheaper than reading them. */
  readonly eventsMax: number;
  /** How soon a volume is looked at again whose plan depends on what no event tells of: who reads a backup. */
  readonly recheckMs: number;
  /** Rhythm of reading all, whatever events told. */
  readonly allMs: number;
}

export const RULE_WATCH_LIMITS: RuleWatchLimits = {
  volumesAtOnce: 250,
  eventsMax: 100_000,
  recheckMs: 30_000,
  allMs: 3_600_000,
};

export interface DueOfRule {
  /** At most one of each volume; the most urgent first. */
  readonly next: readonly WantedReplica[];
  /** With replicas that the rule no longer keeps. */
  readonly prunedVolumeIds: readonly string[];
}

interface DueOfVolume {
  readonly next: WantedReplica | undefined;
  /** Of the backup that is next. */
  readonly ageMs: number;
  readonly goes: boolean;
}

/** What is due of these volumes alone; their backups are held until the end of the transaction where that is asked. */
export async function planVolumes(
  catalog: Look,
  rule: ReplicationRule,
  { volumeIds, now, hold = false }: { volumeIds: readonly string[]; now: Date; hold?: boolean },
): Promise<ReplicationPlan & { readonly source: RetentionRow[]; readonly target: RetentionRow[] }> {
  const { retention } = catalog;
  const { sourceRepositoryId, targetRepositoryId } = rule;
  const wanted = new Set(volumeIds);
  if (hold) await retention.holdBackups(targetRepositoryId, volumeIds);
  const source = await retention.backups(sourceRepositoryId, { volumeIds });
  // What they stand on may be of other volumes, and is looked for in the target as well.
  const below = source.filter(({ volumeId }) => !wanted.has(volumeId));
  const checkpointIds = below.map(({ checkpointId }) => checkpointId);
  const target = await retention.backups(targetRepositoryId, { volumeIds, checkpointIds });
  const isChosen = await chosenBy(catalog, rule, volumeIds);
  const sides = { source, target, isChosen: (id: string) => wanted.has(id) && isChosen(id), now };
  const plan = planReplication(sides, rule);
  const of = { repositoryId: targetRepositoryId, by: rule.id, rows: target, now };
  const goes = await goneByAll(catalog, { ...of, goes: plan.goes });
  return { ...plan, goes, source, target };
}

export class RuleWatch {
  readonly #limits: RuleWatchLimits;
  /** The rule, and who else keeps backups in its target or copies them from there, as they were at the last look. */
  #settings = '';
  #seen = -1;
  #allAtMs = 0;
  /** Volumes that have to be planned anew. */
  readonly #stale = new Set<string>();
  /** Only of volumes that something is due of. */
  readonly #due = new Map<string, DueOfVolume>();
  /** When the plan of a volume may change by itself. */
  readonly #recheckAtMs = new Map<string, number>();

  constructor(limits: RuleWatchLimits = RULE_WATCH_LIMITS) {
    this.#limits = limits;
  }

  /** What is due now. Rejects as the catalog does, and then goes on with the next call. */
  async look(catalog: Look, rule: ReplicationRule, now: Date): Promise<DueOfRule> {
    await this.#findStale(catalog, rule, now);
    await this.#addDependent(catalog);
    const { volumesAtOnce } = this.#limits;
    while (this.#stale.size > 0) {
      const volumeIds = [...this.#stale].slice(0, volumesAtOnce);
      await this.#plan(catalog, rule, { volumeIds, now });
      for (const id of volumeIds) this.#stale.delete(id);
    }
    const all = [...this.#due];
    const waiting = all.flatMap(([, { next, ageMs }]) => (next ? [{ next, ageMs }] : []));
    return {
      next: waiting.sort((a, b) => a.ageMs - b.ageMs).map(({ next }) => next),
      prunedVolumeIds: all.filter(([, { goes }]) => goes).map(([id]) => id),
    };
  }

  /** They are planned anew at the next look. */
  doubt(volumeIds: readonly string[]): void {
    for (const id of volumeIds) this.#stale.add(id);
  }

  async #findStale(catalog: Look, rule: ReplicationRule, now: Date): Promise<void> {
    const { eventsMax, allMs } = this.#limits;
    // Before anything is read: what changes from now on has a later event.
    const { newest, prunedUpTo } = await catalog.events.ends();
    const isBehind = this.#seen < prunedUpTo || newest - this.#seen > eventsMax;
    const { sourceRepositoryId, targetRepositoryId } = rule;
    const keepers = await keepersOf(catalog, targetRepositoryId);
    const settings = JSON.stringify([rule, keepers, await rulesOutOf(catalog, targetRepositoryId)]);
    const isOther = settings !== this.#settings;
    const isOld = Math.abs(now.getTime() - this.#allAtMs) >= allMs;
    const told =
      isBehind || isOther || isOld ? null : await catalog.events.backupsChangedIn(this.#seen, newest);
    if (told === null) {
      const ids = await catalog.retention.volumesIn([sourceRepositoryId, targetRepositoryId]);
      this.#due.clear();
      this.#recheckAtMs.clear();
      this.#stale.clear();
      this.doubt(ids);
      this.#allAtMs = now.getTime();
    } else {
      this.doubt(told);
      for (const [id, atMs] of this.#recheckAtMs) if (atMs <= now.getTime()) this.#stale.add(id);
    }
    this.#settings = settings;
    this.#seen = newest;
  }

  /** What stands on a backup of another volume is planned by its soundness, and by its replica. */
  async #addDependent(catalog: Look): Promise<void> {
    for (let ids = [...this.#stale]; ids.length > 0; ) {
      const above = await catalog.retention.volumesAbove(ids);
      ids = above.filter(id => !this.#stale.has(id));
      this.doubt(ids);
    }
  }

  async #plan(
    catalog: Look,
    rule: ReplicationRule,
    { volumeIds, now }: { volumeIds: readonly string[]; now: Date },
  ): Promise<void> {
    const { next, goes, source, target } = await planVolumes(catalog, rule, { volumeIds, now });
    const createdAt = new Map(source.map(row => [row.id, row.createdAt.getTime()]));
    const nextOf = new Map(next.map(one => [one.volumeId, one]));
    const going = new Set(goes.map(({ volumeId }) => volumeId));
    for (const id of volumeIds) {
      const one = nextOf.get(id);
      this.#due.delete(id);
      this.#recheckAtMs.delete(id);
      if (one === undefined && !going.has(id)) continue;
      const ageMs = one === undefined ? 0 : createdAt.get(one.backupId)!;
      this.#due.set(id, { next: one, ageMs, goes: going.has(id) });
    }
    for (const row of [...source, ...target]) this.#watchClock(row, { now, isKept: rule.keep === null });
  }

  /** Events tell of what changes, but neither of time that passes nor of who begins or ends to read. */
  #watchClock(row: RetentionRow, { now, isKept }: { now: Date; isKept: boolean }): void {
    const { volumeId, pinnedUntil, pointInTime, holders, state } = row;
    const nowMs = now.getTime();
    const isRead = holders.length > 0 && (state === 'creating' || !isKept);
    const momentsMs = isRead ? [nowMs + this.#limits.recheckMs] : [];
    if (!isKept) momentsMs.push(pinnedUntil?.getTime() ?? 0, pointInTime?.getTime() ?? 0);
    const atMs = Math.min(...momentsMs.filter(ms => ms > nowMs), this.#recheckAtMs.get(volumeId) ?? Infinity);
    if (atMs !== Infinity) this.#recheckAtMs.set(volumeId, atMs);
  }
}
