// What a run was asked to do, as its row keeps it: written by the api when it accepts the intent, read by
// the worker. References are resolved to ids by then, and everything that could be refused at once was.
import { z } from 'zod';

const id = z.uuid();
const name = z.string().min(1);
const bytes = z.int().min(0);
const format = z.enum(['raw', 'qcow2']);
/** Checkpoints that go once the new one is safe: marked as being deleted, unmarked should the run fail before. */
const dropCheckpointIds = z.array(id).default([]);

/** How a backup keeps its point in time; null: as the storage node has it. */
const freezing = {
  /** What guests overwrite goes to the repository itself, not to a local scratch. */
  direct: z.boolean().default(false),
  onCbwError: z.enum(['break-snapshot', 'break-guest-write']).nullable().default(null),
  cbwTimeoutMs: bytes.nullable().default(null),
  scratchLimitBytes: bytes.nullable().default(null),
};

const range = z.object({ offset: bytes, length: bytes });

const groupMember = z.object({
  volumeId: id,
  volume: name,
  checkpointId: id,
  dropCheckpointIds,
  /** Of the backup, and of the run that makes it; null: none. */
  backup: z
    .object({
      backupId: id,
      runId: id,
      kind: z.enum(['full', 'incremental', 'differential']),
      baseCheckpointId: id.nullable(),
      parentBackupId: id.nullable(),
    })
    .nullable(),
});

/** What the run that made a group knows of one member's moment. */
const groupMoment = z.object({
  /** Of the run that made the group, and waits for its members. */
  runId: id,
  completion: z.enum(['individual', 'grouped']),
  pointInTimeMs: bytes,
  dirtyBytes: bytes,
  grownBytes: bytes,
  /** What it has besides: damaged below, and to be sent again. */
  also: z.array(range),
});

/** Called before the fence (freeze) and after it (thaw). */
const groupHook = z.union([
  z.strictObject({ webhook: z.url(), timeoutMs: z.int().min(1) }),
  /** A name of the storage node's allow list. */
  z.strictObject({ command: name, storageNodeId: id, storageNode: name, timeoutMs: z.int().min(1) }),
]);

const runRequestSchemas = {
  'register-storage-node': z.object({ storageNodeId: id, name, controlAddress: z.string() }),
  'remove-storage-node': z.object({ storageNodeId: id, name }),
  'create-volume': z.object({ volumeId: id, name, storageNodeId: id, sizeBytes: bytes, format }),
  'delete-volume': z.object({ volumeId: id, name, storageNodeId: id }),
  /** With its checkpoints, while its guest writes. */
  'move-volume': z.object({
    ...{ volumeId: id, name, sizeBytes: bytes, format },
    ...{ sourceNodeId: id, sourceNode: name, targetNodeId: id, targetNode: name },
    /** Null: as fast as it goes. */
    speedBytesPerSecond: bytes.nullable(),
  }),
  /** All volumes that can move go elsewhere. */
  'drain-storage-node': z.object({
    storageNodeId: id,
    name,
    /** Of the storage nodes that they go to; empty: any. */
    selector: z.string(),
    /** Of each move. Null: as fast as it goes. */
    speedBytesPerSecond: bytes.nullable(),
  }),
  /** It is lost for good: its volumes are restored elsewhere. */
  'recover-storage-node': z.object({
    storageNodeId: id,
    name,
    selector: z.string(),
    /** They read from their backups at once, and pull them behind. */
    instant: z.boolean(),
  }),
  'create-checkpoint': z.object({
    volumeId: id,
    checkpointId: id,
    name,
    description: z.string().default(''),
    dropCheckpointIds,
  }),
  'delete-checkpoint': z.object({ volumeId: id, checkpointId: id, name }),
  /** The catalog has the new texts; the storage node's copy follows. What was before, should that fail. */
  'update-checkpoint': z.object({
    volumeId: id,
    checkpointId: id,
    name,
    description: z.string(),
    previous: z.object({ name, description: z.string() }),
  }),
  'redefine-checkpoints': z.object({
    volumeId: id,
    /** Null: all that the storage node has and the catalog does not. Oldest first. */
    definitions: z
      .array(
        z.object({
          checkpointId: id,
          /** Null: as the storage node has it. */
          name: name.nullable(),
          description: z.string().nullable(),
        }),
      )
      .nullable(),
    validateOnly: z.boolean(),
    allowInconsistent: z.boolean(),
  }),
  'create-snapshot': z.object({ volumeId: id, snapshotId: id, name }),
  /** Ends when the job has ended, or waits for a decision. */
  commit: z.object({
    volumeId: id,
    commitId: id,
    /** Null: what the guest writes to. */
    topSnapshotId: id.nullable(),
    /** Null: the oldest image, or with `shallow` the one right below top. */
    baseSnapshotId: id.nullable(),
    shallow: z.boolean(),
    active: z.boolean(),
    deleteFiles: z.boolean(),
    /** Null: as fast as it goes. */
    speedBytesPerSecond: bytes.nullable(),
  }),
  'finish-commit': z.object({ volumeId: id, commitId: id, decision: z.enum(['pivot', 'keep']) }),
  'create-repository': z.object({
    repositoryId: id,
    name,
    storageNodeId: id,
    /** Null: as much as the file system has. */
    limitBytes: bytes.nullable(),
    compression: z.enum(['none', 'zstd']).default('none'),
  }),
  'scan-repository': z.object({ repositoryId: id, name }),
  'delete-repository': z.object({ repositoryId: id, name, storageNodeId: id }),
  verify: z.object({
    repositoryId: id,
    backupId: id,
    /** What the backup stands on is looked at, too. */
    chain: z.boolean(),
    /** Null: as fast as it goes. */
    speedBytesPerSecond: bytes.nullable(),
  }),
  backup: z.object({
    volumeId: id,
    repositoryId: id,
    backupId: id,
    checkpointId: id,
    /** Name of the new checkpoint. */
    checkpoint: name,
    dropCheckpointIds,
    kind: z.enum(['full', 'incremental', 'differential']),
    /** The base and its backup in this repository; both null for a full backup. */
    baseCheckpointId: id.nullable(),
    parentBackupId: id.nullable(),
    /** Null: as fast as it goes. */
    speedBytesPerSecond: bytes.nullable(),
    /** Of the new checkpoint. */
    description: z.string().default(''),
    /** Null: as the repository has it. */
    compression: z.enum(['none', 'zstd']).nullable().default(null),
    ...freezing,
    /** The group that made its point in time, which is copied instead of a new one; null: none. */
    groupId: id.nullable().default(null),
    /** Null exactly without a group. */
    group: groupMoment.nullable().default(null),
  }),
  /** Checkpoints of several volumes at one instant, all or nothing; with `backup`, a backup of each. */
  'create-group': z.object({
    groupId: id,
    name,
    completion: z.enum(['individual', 'grouped']),
    fenceLimitMs: z.int().min(1),
    description: z.string(),
    members: z.array(groupMember).min(1),
    hooks: z.array(groupHook),
    /** Null: of checkpoints alone. */
    backup: z
      .object({
        repositoryId: id,
        /** Null: as fast as it goes. */
        speedBytesPerSecond: bytes.nullable(),
        compression: z.enum(['none', 'zstd']).nullable(),
        onCbwError: freezing.onCbwError,
        cbwTimeoutMs: freezing.cbwTimeoutMs,
        scratchLimitBytes: freezing.scratchLimitBytes,
      })
      .nullable(),
  }),
  /** Its checkpoints and backups have been marked by the intent. */
  'delete-group': z.object({
    groupId: id,
    name,
    checkpoints: z.array(z.object({ volumeId: id, checkpointId: id })),
    /** What it is again, should this fail. */
    previousState: z.enum(['ready', 'incomplete', 'failed', 'cancelled']),
    /** Of the run that takes its backups out of their chains; null: it has none. */
    pruneRunId: id.nullable(),
  }),
  /** Goes on until it is told to finish, or its time is over. */
  export: z.object({
    volumeId: id,
    exportId: id,
    /** A checkpoint of the same instant, with its name; both null: none. */
    checkpointId: id.nullable(),
    checkpoint: name.nullable(),
    description: z.string(),
    dropCheckpointIds,
    /** Only what changed since is kept and can be read; null: all of the disk. */
    baseCheckpointId: id.nullable(),
    expiresInMs: bytes,
    scratchLimitBytes: bytes.nullable(),
  }),
  /** Takes backups out of their chains that the intent has hidden, and those that earlier ones left. */
  prune: z.object({
    repositoryId: id,
    backupIds: z.array(id),
    /** Whose unused checkpoints go. */
    volumeIds: z.array(id),
    /** Null: as fast as it goes. */
    speedBytesPerSecond: bytes.nullable(),
  }),
  restore: z.object({
    backupId: id,
    repositoryId: id,
    sizeBytes: bytes,
    /** Null: as fast as it goes. */
    speedBytesPerSecond: bytes.nullable().default(null),
    /** What to do about what cannot be read of the backup: leave it out and tell, or give up. */
    onDamage: z.enum(['skip', 'fail']).default('skip'),
    /** The volume was lost with this storage node, and is again where the restore fails; null: it is a new one. */
    recovers: id.nullable().default(null),
    /** The first checkpoint of a new volume; null: none. */
    checkpoint: z.object({ checkpointId: id, name }).nullable().default(null),
    target: z.union([
      z.strictObject({ volume: z.object({ volumeId: id, name, storageNodeId: id, format }) }),
      z.strictObject({ instant: z.object({ volumeId: id, name, storageNodeId: id, format }) }),
      z.strictObject({ file: z.object({ name, storageNodeId: id }) }),
      z.strictObject({
        inPlace: z.object({
          volumeId: id,
          name,
          storageNodeId: id,
          evenIfConnected: z.boolean(),
          /** The checkpoint that the backup is of, where the volume still has it. */
          checkpointId: id.nullable(),
        }),
      }),
    ]),
  }),
  /** Compares a storage node with the catalog, and repairs what is safe to repair. */
  reconcile: z.object({
    storageNodeId: id,
    /** Why: an operator asked, the storage node is back, or it is time again. */
    cause: z.enum(['asked', 'returned', 'interval']),
    /** Which life of the storage node was seen when it was asked for; null: not known. */
    startedAtMs: bytes.nullable(),
  }),
  'repair-difference': z.object({ differenceId: id, storageNodeId: id, action: z.string() }),
  /** Copies backups of one repository to another, oldest first; each is published by itself. */
  replicate: z.object({
    sourceRepositoryId: id,
    repositoryId: id,
    /** The one member becomes a full backup, with all that it stands on. */
    flatten: z.boolean(),
    /** What the oldest stands on in the target; null: nothing. */
    parentBackupId: id.nullable(),
    /** Oldest first: what is copied, and as what. */
    members: z.array(z.object({ sourceBackupId: id, backupId: id })).min(1),
    /** Null: as fast as it goes. */
    speedBytesPerSecond: bytes.nullable(),
    /** The rule that asked for it; null: somebody did. */
    ruleId: id.nullable(),
  }),
  audit: z.object({
    volumeId: id,
    /** Null: the newest backup of any repository that can be compared with. */
    repositoryId: id.nullable(),
    /** How much to read; 0: all that the bitmaps call unchanged. */
    sampleBytes: bytes,
  }),
} as const;

export type RunRequestKind = keyof typeof runRequestSchemas;
export type RunRequest<K extends RunRequestKind> = z.output<(typeof runRequestSchemas)[K]>;

/** Reads a row's request. Throws when the row was not written by this contract. */
export function parseRunRequest<K extends RunRequestKind>(kind: K, request: unknown): RunRequest<K> {
  return runRequestSchemas[kind].parse(request) as RunRequest<K>;
}
