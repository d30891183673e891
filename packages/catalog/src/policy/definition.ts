// What a policy says, as its row keeps it. References are resolved to ids.
import type { GroupCompletion, WantedHook } from '../group-repository.ts';
import type { RetentionRules } from '../retention/keep.ts';

/** What becomes of due moments at which nobody was there: nothing, one firing for all, one for each. */
export type MissedRule = 'skip' | 'once' | 'all';

export interface PolicySchedule {
  /** Five fields. */
  cron: string;
  /** A name of the time zone database; days of retention and hours of bandwidth are its, too. */
  timeZone: string;
  missed: MissedRule;
  /** Of `all`: the newest so many. */
  missedMax: number;
  /** Firings start up to this much later than they are due, each by its own. */
  jitterMs: number;
}

export type PolicyKind = 'full' | 'incremental' | 'differential' | 'checkpoint';

export interface BandwidthWindow {
  /** Local times, HH:MM; one that ends before it begins ends on the next day, and equal ones are a whole day. */
  from: string;
  to: string;
  /** On which it begins, from 1, Monday, to 7; empty: all. */
  days: number[];
  /** Of all backups of the policy together; 0: no limit. */
  bytesPerSecond: number;
}

/** Of the groups that firings make; as `POST /v1/groups` takes them. */
export interface PolicyGroups {
  /** Guests wait no longer. */
  fenceLimitMs: number;
  completion: GroupCompletion;
  /** In the order in which they are called. Of commands `storageNode` is an id. */
  hooks: WantedHook[];
}

export interface PolicyDefinition {
  description: string;
  /** Of volumes. */
  selector: string;
  schedule: PolicySchedule;
  kind: PolicyKind;
  /** The first of each so many firings is full; 0: only where there is nothing to build on. */
  fullEvery: number;
  /** Null for checkpoints alone. */
  repositoryId: string | null;
  /** Repositories that each backup is copied to. */
  replicaIds: string[];
  /** Null: nothing is pruned. */
  keep: RetentionRules | null;
  /** Share of the backups of each firing that is verified, in percent. */
  verifyPercent: number;
  /** Backups at the same time. */
  concurrency: number;
  /** The first that holds a moment counts; outside of all there is no limit. */
  bandwidth: BandwidthWindow[];
  /** Lower ones go first. */
  priority: number;
  /** Of members that failed, by themselves. */
  retry: { times: number; delayMs: number };
  /** The oldest checkpoint of a volume that has as many as it may have goes for the new one. */
  dropOldest: boolean;
  /** All its volumes at one instant; null: each by itself. */
  grouped: PolicyGroups | null;
}

/** Of the firing with that number. */
export function kindOf({ kind, fullEvery }: PolicyDefinition, number: number): PolicyKind {
  if (kind === 'checkpoint' || kind === 'full') return kind;
  return fullEvery > 0 && number % fullEvery === 0 ? 'full' : kind;
}
