// The parts of the API's answers that the command shows. JSON output passes answers on as they came.

export interface StorageNode {
  id: string;
  name: string;
  controlAddress: string;
  nbdAddress: string | null;
  state: string;
  lastSeenAt: string | null;
  cordonedAt: string | null;
  capacityBytes: number | null;
  availableBytes: number | null;
  version: string | null;
  labels: Record<string, string>;
}

export interface JoinToken {
  id: string;
  name: string | null;
  expiresAt: string;
  usedAt: string | null;
}

export interface Volume {
  id: string;
  name: string;
  storageNode: string;
  sizeBytes: number;
  format: string;
  state: string;
  sourceBackupId: string | null;
  mixedWithBackupId: string | null;
  exportUri: string | null;
  auditedAt: string | null;
  auditResult: string | null;
  checkpointLimit: number;
  labels: Record<string, string>;
  createdAt: string;
}

export interface Checkpoint {
  id: string;
  name: string;
  state: string;
  description: string;
  pointInTime: string | null;
  pinnedUntil: string | null;
  changedSinceBytes: number | null;
  grownBytes: number | null;
  inconsistent: boolean | null;
  backups: string[];
}

export interface Dropped {
  id: string;
  name: string;
}

export interface ChangedBlocks {
  granularityBytes: number;
  extents: { offset: number; length: number }[];
  nextOffset: number | null;
}

export interface Snapshot {
  id: string;
  name: string;
  state: string;
  pointInTime: string | null;
}

export interface Commit {
  id: string;
  runId: string;
  state: string;
  top: { name: string } | null;
  base: { name: string } | null;
  shallow: boolean;
  delete: boolean;
  decision: string | null;
  lostSnapshots: { name: string }[];
  error: { code: string; message: string } | null;
  createdAt: string;
  finishedAt: string | null;
}

export interface Group {
  id: string;
  name: string;
  kind: string;
  completion: string;
  selector: string | null;
  state: string;
  fenceLimitMs: number;
  pointInTime: string | null;
  runId: string;
  members: {
    volume: string;
    checkpointId: string;
    backupId: string | null;
    state: string;
    error: { code: string; message: string } | null;
  }[];
  proof: {
    longestWaitMs: number;
    nodes: {
      storageNode: string;
      fencedMs: number;
      committedMs: number;
      releasedMs: number;
      held: boolean;
      heldMs: number;
      waitMaxMs: number;
    }[];
  } | null;
  error: { code: string; message: string } | null;
  createdAt: string;
  finishedAt: string | null;
}

export interface Repository {
  id: string;
  name: string;
  storageNode: string;
  limitBytes: number | null;
  compression: string;
  verifyPercentPerDay: number;
  usedBytes: number | null;
  availableBytes: number | null;
  labels: Record<string, string>;
  state: string;
}

export interface Backup {
  id: string;
  volumeId: string;
  volumeName: string;
  repositoryId: string;
  checkpoint: string;
  parentId: string | null;
  replicaOfId: string | null;
  kind: string;
  reason: string;
  state: string;
  description: string;
  pinnedUntil: string | null;
  sizeBytes: number;
  compression: string;
  verifiedAt: string | null;
  verifyResult: string | null;
  damage: { offset: number; length: number }[] | null;
  storedBytes: number | null;
  dirtyBytes: number | null;
  sentBytes: number | null;
  pointInTime: string | null;
  fileName: string | null;
  durationMs: number | null;
}

export interface PruneItem {
  backup: string;
  volumeId: string;
  /** Null once the volume is gone. */
  volume: string | null;
  pointInTime: string | null;
  checkpoint: { name: string; goes: boolean };
  goes: boolean;
  keep: string[];
  blockedBy: string | null;
  freedBytes: number;
}

export interface PruneCheckpoint {
  name: string;
  volumeId: string;
  pointInTime: string | null;
  goes: boolean;
  keep: string[];
}

export interface PruneAnswer {
  /** Null for a dry run. */
  run: Run | null;
  items: PruneItem[];
  checkpoints: PruneCheckpoint[];
  freedBytes: number;
}

export interface Run {
  id: string;
  kind: string;
  state: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled';
  attempt: number;
  restarts: number;
  paused: boolean;
  cancelRequested: boolean;
  finishRequested: boolean;
  undoing: boolean;
  cleanupPending: boolean;
  speedBytesPerSecond: number | null;
  volumeId: string | null;
  backupId: string | null;
  progress: { currentBytes: number; totalBytes: number; sentBytes: number; dirtyBytes: number };
  reason: string | null;
  result: Record<string, unknown> | null;
  error: { code: string; message: string } | null;
  /** Of a cancelled run: what is undone, and what stays. */
  ending: string | null;
  checkpointAt: string | null;
  createdAt: string;
  finishedAt: string | null;
  steps: {
    name: string;
    state: string;
    startedAt: string | null;
    finishedAt: string | null;
    error: { code: string; message: string } | null;
  }[];
}

export interface ReplicationRule {
  id: string;
  name: string;
  source: string;
  target: string;
  selector: string;
  enabled: boolean;
  /** Null: everything. */
  keep: Record<string, number> | null;
  timeZone: string;
  flatten: boolean;
  newestFirst: boolean;
  concurrency: number;
  speedBytesPerSecond: number | null;
  /** Null in lists. */
  status: {
    missing: { backups: number; bytes: number };
    lagMs: number;
    newestPointInTime: string | null;
    running: number;
    blocked: { backup: string; why: string }[];
    failedAt: string | null;
    error: { code: string; message: string } | null;
  } | null;
}

export interface TidemarkEvent {
  id: number;
  kind: string;
  subjectType: string;
  subjectId: string;
  runId: string | null;
  volumeId: string | null;
  data: Record<string, unknown>;
  createdAt: string;
}

export interface Webhook {
  id: string;
  name: string;
  url: string;
  kinds: string[];
  selector: string;
  state: string;
  deathsInARow: number;
  createdAt: string;
}

export interface WebhookDelivery {
  id: string;
  eventId: number | null;
  kind: string;
  state: string;
  attempts: number;
  status: number | null;
  detail: string | null;
  attemptedAt: string | null;
}

export interface RunProgressEvent {
  runId: string;
  runKind: string;
  step: string | null;
  currentBytes: number;
  totalBytes: number;
}

export interface Difference {
  id: string;
  kind: string;
  subjectType: string;
  subjectId: string;
  state: string;
  message: string;
  actions: string[];
  failure: string | null;
  firstSeenAt: string;
  lastSeenAt: string;
  endedAt: string | null;
}

export interface Token {
  id: string;
  name: string;
  role: string;
  scope: string;
  state: string;
  createdBy: string;
  expiresAt: string | null;
  lastUsedAt: string | null;
}

export interface Policy {
  name: string;
  enabled: boolean;
  selector: string;
  schedule: { cron: string; timeZone: string };
  kind: string;
  fullEvery: number;
  keep: Record<string, number> | null;
  nextDueAt: string | null;
}

export interface Firing {
  id: string;
  cause: string;
  dueAt: string;
  state: string;
  reason: string | null;
  members: Record<string, number>;
  followUps: { kind: string }[];
  finishedAt: string | null;
}

export interface FiringMember {
  volume: string;
  kind: string;
  state: string;
  reason: string | null;
  runId: string | null;
  estimateBytes: number | null;
}

export interface SimulatedFiring {
  startAt: string;
  volumes: {
    volume: string;
    kind: string;
    kept: number;
    keeps: { pointInTime: string; reasons: string[] }[] | null;
    pruned: { pointInTime: string }[];
  }[];
}

export interface AuditEntry {
  at: string;
  actor: string;
  action: string;
  subject: string;
  result: string;
  code: string | null;
  runId: string | null;
  remoteAddress: string;
}
