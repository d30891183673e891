// What a repository writes beside each backup and about itself. A backup exists when its manifest does;
// a catalogue can be rebuilt from these files alone.
import { z } from 'zod';

export const manifestSchema = z.strictObject({
  version: z.literal(1),
  backupId: z.string(),
  volumeId: z.string(),
  volumeName: z.string(),
  checkpointId: z.string(),
  checkpointName: z.string(),
  /** Empty: a full backup, which has no backing file. */
  parentBackupId: z.string(),
  pointInTimeMs: z.int().nonnegative(),
  kind: z.enum(['full', 'incremental']),
  /** Why it is of this kind. */
  reason: z.string(),
  /** The disk as the guest sees it. */
  sizeBytes: z.int().positive(),
  /** On the repository's file system, without the parents. */
  storedBytes: z.int().nonnegative(),
  createdAtMs: z.int().nonnegative(),
});

export type Manifest = z.infer<typeof manifestSchema>;

export const repositorySchema = z.strictObject({
  version: z.literal(1),
  repositoryId: z.string(),
  name: z.string(),
  /** 0: as much as the file system has. */
  limitBytes: z.int().nonnegative(),
  createdAtMs: z.int().nonnegative(),
});

export type RepositoryRecord = z.infer<typeof repositorySchema>;
