// What a repository writes beside each backup and about itself. A backup exists when its manifest does;
// a catalogue can be rebuilt from these files alone.
import { z } from 'zod';
import { CLUSTER_BYTES, SUMS_ALGORITHM } from '../sums/sums-format.ts';

export const COMPRESSIONS = ['none', 'zstd'] as const;
/** How data is stored in a backup's image. */
export type Compression = (typeof COMPRESSIONS)[number];

export const BACKUP_KINDS = ['full', 'incremental', 'differential'] as const;
export type BackupKind = (typeof BACKUP_KINDS)[number];

const common = {
  backupId: z.string(),
  volumeId: z.string(),
  volumeName: z.string(),
  checkpointId: z.string(),
  checkpointName: z.string(),
  /** Empty: a full backup, which has no backing file. */
  parentBackupId: z.string(),
  pointInTimeMs: z.int().nonnegative(),
  kind: z.enum(BACKUP_KINDS),
  /** Why it is of this kind. */
  reason: z.string(),
  /** The disk as the guest sees it. */
  sizeBytes: z.int().positive(),
  /** On the repository's file system, without the parents. */
  storedBytes: z.int().nonnegative(),
  createdAtMs: z.int().nonnegative(),
};

const sumsSchema = z.strictObject({
  /** In the folder of the manifest. */
  file: z.string(),
  algorithm: z.literal(SUMS_ALGORITHM),
  clusterBytes: z.literal(CLUSTER_BYTES),
  /** As sums-digest.ts makes it. */
  digest: z.string().regex(/^[0-9a-f]{64}$/),
});

export type ManifestSums = z.infer<typeof sumsSchema>;

const current = z.strictObject({
  version: z.literal(2),
  ...common,
  compression: z.enum(COMPRESSIONS),
  /** Waits to be taken out of its chain: nobody reads it or builds on it any more. */
  hidden: z.boolean(),
  /** Null: its copier made no checksums. */
  sums: sumsSchema.nullable(),
  /** The backup of another repository that it was copied from. */
  replicaOfBackupId: z.string().optional(),
});

export type Manifest = z.infer<typeof current>;

/** Backups of before there were checksums. */
const first = z.strictObject({ version: z.literal(1), ...common }).transform(
  (manifest): Manifest => ({
    ...manifest,
    version: 2,
    compression: 'none',
    hidden: false,
    sums: null,
  }),
);

/** Older versions are read as the newest one. */
export const manifestSchema: z.ZodType<Manifest> = z.union([current, first]);

export const repositorySchema = z.strictObject({
  version: z.literal(1),
  repositoryId: z.string(),
  name: z.string(),
  /** 0: as much as the file system has. */
  limitBytes: z.int().nonnegative(),
  /** Of backups that do not say. */
  compression: z.enum(COMPRESSIONS).default('none'),
  createdAtMs: z.int().nonnegative(),
});

export type RepositoryRecord = z.infer<typeof repositorySchema>;

/** For people. */
export function titleOf(record: RepositoryRecord): string {
  return `repository '${record.name}'`;
}
