// Bounds and rhythms of the worker, each with its reason.
import { strict as assert } from 'node:assert';

/** Below, three renewals do not fit in; above, a dead worker's runs would stand still for too long. */
export const LEASE_MS_MIN = 3_000;
export const LEASE_MS_MAX = 600_000;

/** Runs that one run has going at a time: more would only share the same disks and network. */
export const CHILD_RUNS_MAX = 2;

export interface WorkerLimits {
  /** How long a run is left alone after its worker was last heard of. */
  leaseMs: number;
  /** Renewal of the lease, by which is noticed what an operator asks for: cancel, pause, another speed. */
  renewMs: number;
  /** Runs without a queue job are found this soon. */
  dispatchMs: number;
  /** Queue jobs added in one go; the rest follows with the next. */
  dispatchMax: number;
  /** Progress is written at most this often. */
  progressMs: number;
  /** Retryable failures in a row, without any progress, until a run is given up. */
  failuresMax: number;
  /** The same once data is being copied: a storage node that is away for minutes must not cost it. */
  patientFailuresMax: number;
  /**
   * How long the storage node that is copied to may be away, until a backup is given up: a host boots in that time.
   * Longer, the moment would grow at the cost of the volume's disk.
   */
  targetAwayMs: number;
  /**
   * Workers that may go silent with a run in a row, without any progress, until it is given up; as many again may do so
   * while it is undone. A fleet whose workers are killed at random does not come near; ten of them take minutes.
   */
  takeoversMax: number;
  /** Copies of one point in time that are tried in one attempt, until a backup is given up. */
  copiesMax: number;
  /** How often a run begins anew from a new point in time, until it is given up. */
  restartsMax: number;
  /** How often the moment behind an export is looked at. */
  momentLookMs: number;
  /** How soon a run that waits for its turn is looked at again; each look writes two events. */
  turnMs: number;
  /** First delay before another attempt; it doubles from then on. */
  retryDelayMs: number;
  retryDelayMaxMs: number;
  /** Tries to undo what a storage node still holds, once its run has ended: hours, at the longest delay. */
  cleanupsMax: number;
  /** A job that was asked to end has to have ended by then. */
  jobEndMs: number;
  /** Rhythm of asking storage nodes for their status, and how long one may take to answer. */
  monitorMs: number;
  statusTimeoutMs: number;
  /** Rhythm of comparing each storage node with the catalog; 0: only when somebody asks. */
  reconcileMs: number;
  /** Of several workers that hear of the same return of a storage node only the first asks for a comparison. */
  reconcileQuietMs: number;
  /** Between the two looks that a difference has to be seen at: what is just being made is done by then. */
  confirmMs: number;
  /** A run that nobody has worked on for this long is told of; many long copies may be before it. */
  stuckMs: number;
  /** Rhythm of auditing the bitmaps of each volume, and how much of it is read; 0: only when somebody asks. */
  auditMs: number;
  /** How often is looked for volumes whose audit is due. */
  auditLookMs: number;
  auditSampleBytes: number;
  /** Rhythm of looking for backups that are due to be verified: late by no more than this. */
  verifyScheduleMs: number;
  /** Rhythm of looking what rules of replication ask for. */
  replicationLookMs: number;
  /** How long a rule rests after a run of it has failed; it doubles from then on. */
  replicationRetryMs: number;
  replicationRetryMaxMs: number;
  /** How long events are kept; 0: for ever. */
  eventRetentionMs: number;
  /** Rhythm of looking for events that are too old, and how many of them go in one step. */
  eventPruneMs: number;
  eventPruneMax: number;
  /** How long runs are kept that have ended, unless something refers to them; 0: for ever. */
  runRetentionMs: number;
  /** Rhythm of looking for runs that are too old, and how many are looked at in one step. */
  runPruneMs: number;
  runPruneMax: number;
  /** How long entries of the audit log are kept; 0: for ever. */
  auditLogRetentionMs: number;
  /** Rhythm of looking for entries that are too old, and how many of them go in one step. */
  auditLogPruneMs: number;
  auditLogPruneMax: number;
  /** Rhythm of bringing firings of policies forward, beside what the queue asks for. */
  policyBeatMs: number;
  /** Rhythm of comparing the queue's schedulers with the catalog's policies: a lost queue is filled this soon. */
  policySyncMs: number;
  /** A policy that the queue has not told of by then is looked at without it. */
  policyLateMs: number;
  /** A firing that begins later than this was missed: a worker is restarted within it. */
  policyGraceMs: number;
  /** How soon a member is looked at again that waits for room, or for a storage node. */
  policyWaitMs: number;
  /** A replica that could not be started is given up so long after its firing: the next ones bring it. */
  policyReplicaMs: number;
  /** How long firings that have ended are kept to be looked at: each has a row for every volume. */
  policyFiringKeepMs: number;
}

export const WORKER_LIMITS: WorkerLimits = {
  leaseMs: 15_000,
  renewMs: 500,
  dispatchMs: 1_000,
  dispatchMax: 500,
  progressMs: 250,
  failuresMax: 5,
  patientFailuresMax: 64,
  targetAwayMs: 300_000,
  takeoversMax: 10,
  copiesMax: 5,
  restartsMax: 3,
  momentLookMs: 1_000,
  turnMs: 5_000,
  retryDelayMs: 1_000,
  retryDelayMaxMs: 30_000,
  cleanupsMax: 500,
  jobEndMs: 60_000,
  monitorMs: 5_000,
  statusTimeoutMs: 3_000,
  reconcileMs: 600_000,
  reconcileQuietMs: 15_000,
  confirmMs: 2_000,
  stuckMs: 1_800_000,
  auditMs: 86_400_000,
  auditLookMs: 60_000,
  auditSampleBytes: 64 * 2 ** 20,
  verifyScheduleMs: 60_000,
  replicationLookMs: 5_000,
  replicationRetryMs: 30_000,
  replicationRetryMaxMs: 3_600_000,
  eventRetentionMs: 30 * 86_400_000,
  eventPruneMs: 60_000,
  eventPruneMax: 2_000,
  runRetentionMs: 90 * 86_400_000,
  runPruneMs: 3_600_000,
  runPruneMax: 500,
  // Who asked for what is asked about after audits of a whole year.
  auditLogRetentionMs: 730 * 86_400_000,
  auditLogPruneMs: 3_600_000,
  auditLogPruneMax: 2_000,
  policyBeatMs: 1_000,
  policySyncMs: 5_000,
  policyLateMs: 2_000,
  policyGraceMs: 300_000,
  policyWaitMs: 15_000,
  policyReplicaMs: 86_400_000,
  policyFiringKeepMs: 30 * 86_400_000,
};

export interface WebhookLimits {
  /** Webhooks that one worker serves at once. */
  atOnce: number;
  /** How long one is left alone after its worker was last heard of: longer than one answer may take. */
  leaseMs: number;
  /** All of one attempt. */
  answerMs: number;
  /** What is left of it for an answer that is waited for when the worker stops: a cut attempt is made twice. */
  closeMs: number;
  /** First delay before the next attempt; it doubles from then on. */
  delayMs: number;
  delayMaxMs: number;
  /** How soon a webhook is looked at again whose secret cannot be read: somebody has to set a key. */
  secretlessMs: number;
  /** Attempts until a delivery is dead: about half an hour with these delays. */
  attemptsMax: number;
  /** Dead deliveries in a row until a webhook is suspended: nobody is there. */
  deathsMax: number;
  /** Deliveries that wait for one webhook; further events wait in the catalog. */
  pendingMax: number;
  /** Events that are read in one step, and deliveries that are sent before others have their turn. */
  readAtOnce: number;
  sendsInARow: number;
  /** How often is looked without any notice, and at most when there are many. */
  lookMs: number;
  wakeMs: number;
}

export const WEBHOOK_LIMITS: WebhookLimits = {
  atOnce: 16,
  leaseMs: 60_000,
  answerMs: 10_000,
  closeMs: 2_000,
  delayMs: 1_000,
  delayMaxMs: 600_000,
  secretlessMs: 30_000,
  attemptsMax: 12,
  deathsMax: 5,
  pendingMax: 1_000,
  readAtOnce: 200,
  sendsInARow: 100,
  lookMs: 1_000,
  wakeMs: 50,
};
assert(WEBHOOK_LIMITS.answerMs * 2 < WEBHOOK_LIMITS.leaseMs, 'a lease has to outlast an attempt');

/** Of a webhook's answer: its status counts, and a line of text may come with it. */
export const WEBHOOK_ANSWER_BYTES_MAX = 16 * 1024;

/** Publishing makes a whole image durable, and merging bitmaps reads them: minutes on a busy disk. */
export const LONG_CALL_TIMEOUT_MS = 600_000;
/** Scratch files of many members are made, on a disk that may be busy; no guest waits meanwhile. */
export const GROUP_PREPARE_TIMEOUT_MS = 120_000;
/**
 * Shares of a fence's limit within which all storage nodes have to have their fences, and then to have committed: what
 * is left is for the way of the release.
 */
export const FENCE_SHARE = 0.5;
export const COMMIT_SHARE = 0.8;
/** A release opens the fence as it arrives, and answers when what was committed is durable. */
export const GROUP_RELEASE_TIMEOUT_MS = 20_000;
/** What was committed is taken back at once where that goes; a storage node that is away then is told later. */
export const GROUP_GIVE_UP_TIMEOUT_MS = 2_000;
/** The storage node ends a hook at its limit, and then answers. */
export const HOOK_ANSWER_GRACE_MS = 5_000;
/** A publication reads the whole image back, which may be terabytes; a storage node that died is noticed anyway. */
export const PUBLISH_TIMEOUT_MS = 24 * 3_600_000;

export function checkLimits(limits: WorkerLimits): void {
  assert(limits.renewMs * 3 <= limits.leaseMs, 'a lease has to survive two lost renewals');
  assert(limits.retryDelayMs <= limits.retryDelayMaxMs, 'the first delay is the shortest');
  assert(limits.statusTimeoutMs < limits.monitorMs, 'a round of status calls ends before the next begins');
}

/** The delay before the attempt that follows the given number of failures, from 1. */
export function retryDelay(limits: WorkerLimits, failures: number): number {
  return Math.min(limits.retryDelayMs * 2 ** (failures - 1), limits.retryDelayMaxMs);
}

/** From what a row takes to what a long copy or a busy queue may take. */
export const RUN_BUCKETS_SECONDS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 14_400, 86_400];
export const QUEUE_WAIT_BUCKETS_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300, 3_600];
/** Volumes with series of their own: five each, and as many lines for each worker. Further ones are only counted. */
export const METRIC_VOLUMES_MAX = 10_000;
/** What the catalog was asked for metrics is shown again for as long: several scrapers cost no more than one. */
export const METRICS_KEPT_MS = 10_000;
