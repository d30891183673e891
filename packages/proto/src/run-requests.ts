// What a run was asked to do, as its row keeps it: written by the api when it accepts the intent, read by
// the worker. References are resolved to ids by then, and everything that could be refused at once was.
import { z } from 'zod';

const id = z.uuid();
const name = z.string().min(1);
const bytes = z.int().min(0);
const format = z.enum(['raw', 'qcow2']);

export const runRequestSchemas = {
  'register-storage-node': z.object({ storageNodeId: id, name, controlAddress: z.string() }),
  'remove-storage-node': z.object({ storageNodeId: id, name }),
  'create-volume': z.object({ volumeId: id, name, storageNodeId: id, sizeBytes: bytes, format }),
  'delete-volume': z.object({ volumeId: id, name, storageNodeId: id }),
  'create-checkpoint': z.object({ volumeId: id, checkpointId: id, name }),
  'delete-checkpoint': z.object({ volumeId: id, checkpointId: id, name }),
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
  }),
  backup: z.object({
    volumeId: id,
    repositoryId: id,
    backupId: id,
    checkpointId: id,
    /** Name of the new checkpoint. */
    checkpoint: name,
    kind: z.enum(['full', 'incremental']),
    /** The base and its backup in this repository; both null for a full backup. */
    baseCheckpointId: id.nullable(),
    parentBackupId: id.nullable(),
    /** Null: as fast as it goes. */
    speedBytesPerSecond: bytes.nullable(),
  }),
  restore: z.object({
    backupId: id,
    repositoryId: id,
    sizeBytes: bytes,
    target: z.union([
      z.strictObject({ volume: z.object({ volumeId: id, name, storageNodeId: id, format }) }),
      z.strictObject({ file: z.object({ name, storageNodeId: id }) }),
    ]),
  }),
} as const;

export type RunRequestKind = keyof typeof runRequestSchemas;
export type RunRequest<K extends RunRequestKind> = z.output<(typeof runRequestSchemas)[K]>;

/** Reads a row's request. Throws when the row was not written by this contract. */
export function parseRunRequest<K extends RunRequestKind>(kind: K, request: unknown): RunRequest<K> {
  return runRequestSchemas[kind].parse(request) as RunRequest<K>;
}
