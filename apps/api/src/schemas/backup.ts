// Backups: the content of a volume at a checkpoint, kept in a repository.
import { z } from 'zod';
import { dropOldestField, droppedField } from './checkpoint.ts';
import {
  bytesField,
  descriptionField,
  EXAMPLE_IDS,
  EXAMPLE_MOMENT,
  extentSchema,
  idField,
  momentField,
  nameField,
  pageOf,
  pageQuery,
  ref,
  speedField,
} from './common.ts';
import { runSchema } from './run.ts';

/** Guests that wait longer give up by themselves. */
const CBW_TIMEOUT_MAX_MS = 600_000;

const kind = z.enum(['full', 'incremental', 'differential']);

export const backupSchema = z
  .object({
    id: idField,
    volumeId: idField,
    volumeName: z.string().meta({ description: 'As it was when the backup was made.' }),
    repositoryId: idField,
    checkpointId: idField,
    checkpoint: z.string().meta({ description: 'Name of the checkpoint.' }),
    parentId: idField
      .nullable()
      .meta({ description: 'The backup that this one builds on; null for a full one.' }),
    replicaOfId: idField.nullable().meta({
      description: 'The backup of another repository that it was copied from; it may be gone.',
    }),
    kind,
    reason: z.string().meta({ description: 'Why it is full or incremental.' }),
    state: z.enum(['creating', 'available', 'hidden', 'removing', 'missing']).meta({
      description:
        'hidden: waits to be taken out of its chain; nobody begins to use it any more. removing: is.',
    }),
    description: z.string(),
    pinnedUntil: momentField
      .nullable()
      .meta({ description: 'Until then neither a rule nor a request removes it.' }),
    sizeBytes: bytesField.meta({ description: 'Size of the volume.' }),
    compression: z.enum(['none', 'zstd']),
    verifiedAt: momentField.nullable().meta({ description: 'When it was last verified.' }),
    verifyResult: z.enum(['sound', 'damaged']).nullable(),
    damage: z.array(extentSchema).nullable().meta({
      description: 'What of its disk is known to be damaged; the next backup on it sends this again.',
    }),
    distrusted: z.boolean().meta({
      description:
        'An audit found the bitmaps wrong that it, or what it stands on, was made with: it may lack changes, and ' +
        'nothing is built on it.',
    }),
    storedBytes: bytesField.nullable().meta({ description: 'Bytes it takes in the repository.' }),
    dirtyBytes: bytesField.nullable().meta({ description: 'Bytes found changed when it began.' }),
    sentBytes: bytesField.nullable().meta({ description: 'Bytes that went to the repository.' }),
    pointInTime: momentField.nullable(),
    fileName: z.string().nullable(),
    createdAt: momentField,
    finishedAt: momentField.nullable(),
    durationMs: z.int().min(0).nullable(),
  })
  .meta({
    id: 'Backup',
    examples: [
      {
        id: EXAMPLE_IDS.backup,
        volumeId: EXAMPLE_IDS.volume,
        volumeName: 'web-01',
        repositoryId: EXAMPLE_IDS.repository,
        checkpointId: EXAMPLE_IDS.checkpoint,
        checkpoint: 'monday',
        parentId: null,
        replicaOfId: null,
        kind: 'full',
        reason: 'full: asked for',
        state: 'available',
        description: '',
        pinnedUntil: null,
        sizeBytes: 1_073_741_824,
        compression: 'none',
        verifiedAt: null,
        verifyResult: null,
        damage: null,
        distrusted: false,
        storedBytes: 268_500_992,
        dirtyBytes: 1_073_741_824,
        sentBytes: 268_435_456,
        pointInTime: EXAMPLE_MOMENT,
        fileName: 'web-01-monday.qcow2',
        createdAt: EXAMPLE_MOMENT,
        finishedAt: '2026-11-21T08:00:02.500Z',
        durationMs: 2500,
      },
    ],
  });

export const verifyBackupSchema = z
  .strictObject({
    chain: z.boolean().default(true).meta({ description: 'What it stands on is looked at, too.' }),
    speedBytesPerSecond: speedField,
  })
  .meta({ id: 'VerifyBackup', examples: [{ chain: true }] });

export type VerifyBackup = z.output<typeof verifyBackupSchema>;

export const createBackupSchema = z
  .strictObject({
    volume: ref('volume'),
    repository: ref('repository'),
    kind: z.enum(['full', 'incremental', 'differential']).meta({
      description:
        'differential: what changed since the newest full backup; incremental: since the newest of any kind.',
    }),
    checkpoint: nameField.meta({ description: 'Name of the new checkpoint, taken in the same instant.' }),
    base: ref(
      'checkpoint whose changes since are kept; by default the newest with a backup in the repository',
    ).optional(),
    speedBytesPerSecond: speedField,
    dropOldest: dropOldestField,
    description: descriptionField.default(''),
    compression: z
      .enum(['none', 'zstd'])
      .optional()
      .meta({ description: 'How it is stored; by default as the repository says.' }),
    direct: z
      .boolean()
      .default(false)
      .meta({
        description:
          'What guests overwrite goes to the repository itself, not to a local scratch: it takes no space on the ' +
          'storage node, and the first failure of the repository ends the backup.',
      }),
    onCbwError: z.enum(['break-snapshot', 'break-guest-write']).optional().meta({
      description: 'Who loses when old data cannot be kept; by default the backup, never the guest.',
    }),
    cbwTimeoutMs: z
      .int()
      .min(1)
      .max(CBW_TIMEOUT_MAX_MS)
      .optional()
      .meta({ description: "How long a guest's write waits for old data to be kept; 10,000 by default." }),
    scratchLimitBytes: bytesField
      .optional()
      .meta({ description: 'Most space of the local scratch; by default as the storage node is set.' }),
  })
  .refine(body => body.kind !== 'full' || body.base === undefined, {
    path: ['base'],
    error: 'belongs to an incremental or differential backup; leave it out or send another kind',
  })
  .meta({
    id: 'CreateBackup',
    examples: [
      { volume: 'web-01', repository: 'nightly', kind: 'full', checkpoint: 'monday' },
      { volume: 'web-01', repository: 'nightly', kind: 'incremental', checkpoint: 'tuesday', base: 'monday' },
    ],
  });

export const backupQuery = pageQuery.extend({
  volume: ref('volume whose backups to list').optional(),
  repository: ref('repository whose backups to list').optional(),
  hidden: z
    .enum(['true', 'false'])
    .default('false')
    .transform(value => value === 'true')
    .meta({ description: 'Also those that wait to be taken out of their chains.' }),
  state: backupSchema.shape.state.optional().meta({ description: 'Only backups in this state.' }),
  kind: kind.optional().meta({ description: 'Only backups of this kind.' }),
  since: momentField.optional().meta({ description: 'Only points in time from that moment on.' }),
  until: momentField.optional().meta({ description: 'Only points in time before that moment.' }),
});

export const backupPageSchema = pageOf(backupSchema, 'BackupPage');
export const backupRunSchema = z
  .object({ run: runSchema, backup: backupSchema.nullable(), dropped: droppedField })
  .meta({ id: 'BackupRun' });

export type BackupJson = z.output<typeof backupSchema>;
export type CreateBackup = z.output<typeof createBackupSchema>;
export const verifyRunSchema = z
  .object({ run: runSchema, backup: backupSchema.nullable() })
  .meta({ id: 'VerifyRun' });
