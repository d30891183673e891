// The catalog's only door.

export type { Acting } from './acting.ts';
export {
  type AdmissionRepository,
  type Admitted,
  type Candidate,
  type EndedMember,
  type Full,
  type Loads,
  MEMBER_DELAY_MS_MAX,
  type MembersOf,
  type SpeedOfRun,
} from './admission-repository.ts';
export type { AdoptionRepository, FoundBackup, FoundRepository, FoundVolume } from './adoption-repository.ts';
export type {
  ApiToken,
  ApiTokenFilter,
  ApiTokenRepository,
  ApiTokenRole,
  NewApiToken,
} from './api-token-repository.ts';
export {
  AUDIT_LOG_DAYS_MIN,
  type AuditEntry,
  type AuditEntryResult,
  type AuditFilter,
  type AuditRepository,
  type NewAuditEntry,
} from './audit-repository.ts';
export type { BackupDamageRepository } from './backup-damage-repository.ts';
export type { BackupImport, BackupManifest } from './backup-import.ts';
export type { BackupLease, BackupLeaseHolder, BackupLeaseRepository } from './backup-lease-repository.ts';
export type {
  Backup,
  BackupFilter,
  BackupKind,
  BackupOrigin,
  BackupRepository,
  BackupState,
  NewBackup,
} from './backup-repository.ts';
export { Catalog, type CatalogOptions, type CatalogTransaction } from './catalog.ts';
export type { HeldCheckpoint, VolumeOfCheckpoints } from './checkpoint-holders.ts';
export type {
  Checkpoint,
  CheckpointRepository,
  CheckpointState,
  CheckpointTexts,
  FoundCheckpoint,
  NewCheckpoint,
} from './checkpoint-repository.ts';
export type {
  Commit,
  CommitDecision,
  CommitRepository,
  CommitState,
  LostSnapshot,
  NewCommit,
} from './commit-repository.ts';
export type { DamagedRange } from './damaged-ranges.ts';
export type {
  Difference,
  DifferenceFilter,
  DifferenceRepository,
  DifferenceState,
  SeenDifference,
} from './difference-repository.ts';
export { CatalogError, type CatalogErrorKind, type Noun } from './errors.ts';
export { EventListener } from './event-listener.ts';
export type { Event, EventFilter, EventPage, EventRepository } from './event-repository.ts';
export {
  type Firing,
  type FiringCause,
  type FiringMember,
  type FiringState,
  type FollowUp,
  MEMBER_STATES,
  type MemberCounts,
  type MemberState,
} from './firing.ts';
export type { EndedReplica, FiringReplica, FiringReplicaRepository } from './firing-replica-repository.ts';
export type { FiringRepository, FiringToFinish, FiringWithCounts } from './firing-repository.ts';
export type {
  Group,
  GroupCompletion,
  GroupKind,
  GroupMember,
  GroupMemberState,
  GroupPublication,
  GroupRepository,
  GroupState,
  NewGroup,
  WantedHook,
} from './group-repository.ts';
export type {
  AcceptedAnswer,
  IdempotencyRef,
  IdempotencyRepository,
  IdempotencyState,
  StoredAnswer,
} from './idempotency-repository.ts';
export type { Base } from './intents/audited-base.ts';
export { type IntendedBackup, intendBackup, type WantedBackup } from './intents/backup-intent.ts';
export {
  type IntendedCheckpoint,
  intendCheckpoint,
  type WantedCheckpoint,
} from './intents/checkpoint-intent.ts';
export { intendGroupDeletion } from './intents/group-deletion.ts';
export { keptHooks } from './intents/group-hooks.ts';
export { intendGroup, type WantedGroup } from './intents/group-intent.ts';
export { type DroppedOfMember, GROUP_MEMBERS_MAX } from './intents/group-members.ts';
export { findCheckpoint, requireFreeCheckpointName, requireReady } from './intents/known-checkpoint.ts';
export { type DroppedCheckpoint, makeRoom } from './intents/make-room.ts';
export { intendMove, type WantedMove } from './intents/move-intent.ts';
export { intendPrune, type WantedPrune } from './intents/prune-intent.ts';
export { type IntendedReplica, intendReplica, type WantedReplica } from './intents/replica-intent.ts';
export { requireOnline, requireOpen } from './intents/require-online.ts';
export { steerGroup } from './intents/steer-group.ts';
export { intendVerification, type WantedVerification } from './intents/verify-intent.ts';
export type { Inventory, InventoryRepository, RunFact } from './inventory-repository.ts';
export type { Joined, Joining, JoinToken, JoinTokenRepository } from './join-token-repository.ts';
export type { BestBackup, LossRepository, LostVolume } from './loss-repository.ts';
export type { CatalogCounts, MetricsRepository, VolumeBackupFacts } from './metrics-repository.ts';
export { applyMigrations } from './migrate.ts';
export { hasPassed, latestPossible } from './moments.ts';
export { PAGE_ITEMS_MAX, type Page, type PageOptions, pagesOf } from './page.ts';
export { chooseRoomiest, type Promised } from './placement.ts';
export { type AdmissionFacts, judge, type Load, type Room, type Verdict } from './policy/admission.ts';
export { bandwidthAt, isTimeOfDay, shareOf } from './policy/bandwidth.ts';
export {
  type BandwidthWindow,
  kindOf,
  type MissedRule,
  type PolicyDefinition,
  type PolicyGroups,
  type PolicyKind,
  type PolicySchedule,
} from './policy/definition.ts';
export { Schedule } from './policy/schedule.ts';
export {
  type SimulatedBackup,
  type SimulatedFiring,
  type SimulatedVolume,
  type Simulation,
  simulate,
} from './policy/simulate.ts';
export type { NewPolicy, Policy, PolicyRepository } from './policy-repository.ts';
export { isId } from './ref.ts';
export type {
  BlockedReplica,
  ReplicationPlan,
  ReplicationSetting,
  ReplicationSides,
} from './replication/replica-plan.ts';
export { lookAtRule, type RuleStatus } from './replication/rule-status.ts';
export { type DueOfRule, planVolumes, RULE_WATCH_LIMITS, RuleWatch } from './replication/rule-watch.ts';
export type {
  NewReplicationRule,
  ReplicationRule,
  ReplicationRuleChange,
  ReplicationRuleRepository,
  RuleRuns,
} from './replication-rule-repository.ts';
export type {
  NewRepository,
  Repository,
  RepositoryCompression,
  RepositoryRepository,
  RepositoryState,
} from './repository-repository.ts';
export { awaitedOf, RULE_AWAITED_MS } from './retention/awaited.ts';
export { type ChainLink, type ChainPlan, planChain, type Removal } from './retention/chain-plan.ts';
export { goneByAll } from './retention/gone.ts';
export { type KeepCandidate, keepsAnything, type RetentionRules } from './retention/keep.ts';
export { keepersOf } from './retention/keepers.ts';
export { keptOf } from './retention/kept.ts';
export { isTimeZone } from './retention/period.ts';
export type {
  MergedBackup,
  RetentionRepository,
  UnusedCheckpoint,
} from './retention-repository.ts';
export type { RetentionRow } from './retention-rows.ts';
export {
  hasEnded,
  type Json,
  type JsonObject,
  RUN_KINDS,
  type Run,
  type RunControls,
  type RunError,
  type RunKind,
  type RunProgress,
  type RunState,
  type RunStep,
  type RunStepState,
} from './run.ts';
export type { PrunedRuns, RunHistoryCursor, RunHistoryRepository } from './run-history-repository.ts';
export type { Lease, RunEnd, RunFacts, RunLeaseRepository } from './run-lease-repository.ts';
export type { DispatchableRun, NewRun, RunFilter, RunningRun, RunRepository } from './run-repository.ts';
export type { Snapshot, SnapshotRepository, SnapshotState } from './snapshot-repository.ts';
export type {
  StorageNode,
  StorageNodeReport,
  StorageNodeRepository,
  StorageNodeState,
} from './storage-node-repository.ts';
export type {
  VerificationRepository,
  VerifyCandidate,
  VerifyResult,
  VerifyState,
} from './verification-repository.ts';
export type {
  AuditResult,
  NewVolume,
  Volume,
  VolumeFormat,
  VolumeRepository,
  VolumeState,
} from './volume-repository.ts';
export {
  type Attempt,
  type DeliveryRules,
  deliveryBody,
  type ServedWebhook,
  type WebhookDeliveryRepository,
} from './webhook-delivery-repository.ts';
export type {
  DeliveryState,
  Webhook,
  WebhookChange,
  WebhookDelivery,
  WebhookRepository,
  WebhookState,
} from './webhook-repository.ts';
