// The only door of the engine. What is not named here is nobody else's business.
export { Bitmap, type DirtyArea } from './bitmap/bitmap.ts';
export { DirtyBitmap, type DirtyBitmapInfo, type DirtyBitmapOptions } from './bitmap/dirty-bitmap.ts';
export { type Clock, systemClock } from './clock.ts';
export { BlockCopy, copyClusterBytes } from './copy/block-copy.ts';
export { validateMinClusterBytes } from './copy/min-cluster-size.ts';
export { isUnreadable } from './copy/unreadable.ts';
export { ENGINE_ERROR_KINDS, EngineError, type EngineErrorKind, fromSystemError } from './errors.ts';
export { appendExtent, type Extent } from './extent.ts';
export { lockSync } from './file/syscalls.ts';
export { Anchor, anchorPermissions, type WriteGate } from './filter/anchor.ts';
export {
  BLKDEBUG_IO_TYPES,
  Blkdebug,
  type BlkdebugIoType,
  type BlkdebugOptions,
  type InjectErrorRule,
  type SetStateRule,
} from './filter/blkdebug.ts';
export { Compress } from './filter/compress.ts';
export { CopyBeforeWrite, ON_CBW_ERROR, type OnCbwError } from './filter/copy-before-write.ts';
export { COPY_MODES, type CopyMode } from './filter/mirror-top.ts';
export { SnapshotAccess, snapshotAccessPermissions } from './filter/snapshot-access.ts';
export { Throttle } from './filter/throttle.ts';
export {
  type BucketLimit,
  THROTTLE_KINDS,
  ThrottleGroup,
  type ThrottleKind,
  type ThrottleLimits,
} from './filter/throttle-group.ts';
export { WaitHistogram } from './filter/wait-histogram.ts';
export type { Attachment } from './graph/attachment.ts';
export { BlockGraph } from './graph/block-graph.ts';
export {
  chainFrom,
  childOf,
  FILTER_ROLES,
  isImplicit,
} from './graph/chain.ts';
export type { Edge } from './graph/edge.ts';
export type { GraphNode, NodeOwner } from './graph/graph-node.ts';
export type { AddOptions, AttachOptions, ChangeSteps, OpeningNode } from './graph/graph-options.ts';
export { assertNodeName } from './graph/node-names.ts';
export {
  type ChildPermissions,
  copyBeforeWritePermissions,
  filterPermissions,
  formatPermissions,
  PERMISSION,
  PERMISSIONS_ALL,
} from './graph/permissions.ts';
export { type FenceReport, WriteFence } from './graph/write-fence.ts';
export { FileNode } from './image/file-node.ts';
export { NullNode, type NullNodeOptions } from './image/null-node.ts';
export { type ImageFormat, type OpenImageOptions, openImage } from './image/open-image.ts';
export { rewriteBackingPointer } from './image/qcow2/backing-pointer.ts';
export { checkQcow2, type Qcow2CheckResult } from './image/qcow2/check/check.ts';
export { type CreateQcow2Options, createQcow2, formatQcow2 } from './image/qcow2/create.ts';
export { hasQcow2Magic, type Qcow2Header, readQcow2Header } from './image/qcow2/header.ts';
export { Qcow2Image } from './image/qcow2/qcow2-image.ts';
export type { SnapshotEntry } from './image/qcow2/snapshot-table.ts';
export type { CreateSnapshotOptions } from './image/qcow2/snapshots.ts';
export type { StoredBitmapInfo } from './image/qcow2/stored-bitmaps.ts';
export { createRawFile, RawImage, type RawImageOptions } from './image/raw-image.ts';
export {
  BACKUP_SYNC_MODES,
  type BackupJob,
  type BackupSync,
  BITMAP_MODES,
  type BitmapMode,
} from './job/backup-job.ts';
export type { BackingPointer, ChainAccess } from './job/chain-access.ts';
export type { ChainPlace } from './job/chain-place.ts';
export { findByNodeName } from './job/chain-place.ts';
export type { CommitJob } from './job/commit-job.ts';
export { CreateJob, type CreateJobOptions } from './job/create-job.ts';
export { type IoStatus, ON_ERROR, type OnError } from './job/error-policy.ts';
export type { Job, JobInfo, JobProgress } from './job/job.ts';
export type { JobEvent, NumberedJobEvent } from './job/job-event.ts';
export { JobGroup } from './job/job-group.ts';
export type { JobOptions } from './job/job-options.ts';
export { JobRegistry } from './job/job-registry.ts';
export type { JobState } from './job/job-state.ts';
export { MirrorJob } from './job/mirror-job.ts';
export { MomentJob, type MomentJobOptions } from './job/moment-job.ts';
export { RestoreJob, type RestoreJobOptions } from './job/restore-job.ts';
export { type StartCommitOptions, startCommit } from './job/start-commit.ts';
export {
  assertRoot,
  type MirrorSync,
  type StartMirrorOptions,
  startMirror,
} from './job/start-mirror.ts';
export { type StartStreamOptions, startStream } from './job/start-stream.ts';
export type { StreamJob } from './job/stream-job.ts';
export { type TaskControl, TaskJob, type TaskJobOptions } from './job/task-job.ts';
export * from './limits.ts';
export type { BlockNode, SnapshotSource, WriteZeroesOptions } from './node/block-node.ts';
export type { Pending } from './pending.ts';
export { type BackupAction, type BackupActionOptions, startBackup } from './transaction/backup-action.ts';
export {
  type AddBitmapOptions,
  abortTransaction,
  addBitmap,
  applyAction,
  type BitmapReference,
  clearBitmap,
  disableBitmap,
  enableBitmap,
  findBitmap,
  mergeBitmaps,
  removeBitmap,
} from './transaction/bitmap-actions.ts';
export { Fleece, type FleeceAction, type FleeceOptions, startFleece } from './transaction/fleece-action.ts';
export { type Overlay, type SnapshotActionOptions, takeSnapshot } from './transaction/snapshot-action.ts';
export {
  COMPLETION_MODES,
  type CompletionMode,
  type InstantAction,
  runTransaction,
  type TransactionAction,
} from './transaction/transaction.ts';
export * from './units.ts';
