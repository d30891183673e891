// Volumes: block devices of guests, each one image on one storage node.
import { z } from 'zod';
import { CHECKPOINT_LIMIT_MAX } from '../limits.ts';
import {
  bytesField,
  chosenPageQuery,
  EXAMPLE_IDS,
  EXAMPLE_MOMENT,
  hasChange,
  idField,
  labelsField,
  momentField,
  NO_CHANGE,
  nameField,
  pageOf,
  ref,
  speedField,
} from './common.ts';
import { runSchema } from './run.ts';

const SECTOR_BYTES = 512;
/** 1 PiB: no storage node takes more. */
const SIZE_BYTES_MAX = 2 ** 50;

function sizeFault(size: number): string {
  if (size > SIZE_BYTES_MAX)
    return `is ${size}, more than a volume can have; the largest good size is ` + `${SIZE_BYTES_MAX}`;
  const next = Math.max(Math.ceil(size / SECTOR_BYTES), 1) * SECTOR_BYTES;
  return `is ${size}, not a positive multiple of ${SECTOR_BYTES}; the next good size is ${next}`;
}

const sizeField = z
  .number()
  .refine(size => size > 0 && size <= SIZE_BYTES_MAX && size % SECTOR_BYTES === 0, {
    error: issue => sizeFault(Number(issue.input)),
    params: { problem: 'invalid-volume-size' },
  })
  .meta({
    type: 'integer',
    minimum: SECTOR_BYTES,
    maximum: SIZE_BYTES_MAX,
    multipleOf: SECTOR_BYTES,
    description: 'Bytes, a multiple of 512, at most 1 PiB.',
    examples: [1_073_741_824],
  });

export const formatField = z.enum(['raw', 'qcow2']);

export const volumeSchema = z
  .object({
    id: idField,
    name: z.string(),
    storageNodeId: idField,
    storageNode: z.string().meta({ description: 'Name of its storage node.' }),
    sizeBytes: bytesField,
    format: formatField,
    state: z.enum(['creating', 'ready', 'deleting', 'moving', 'lost']).meta({
      description: 'moving: to another storage node, its guest goes on. lost: with its storage node.',
    }),
    exportUri: z
      .string()
      .nullable()
      .meta({
        description: 'Where the guest connects; null until the volume is ready.',
        examples: ['nbd://127.0.0.1:10809/web-01'],
      }),
    checkpointLimit: z.int().min(1).meta({ description: 'Most checkpoints that it may have.' }),
    auditedAt: momentField
      .nullable()
      .meta({ description: 'When its bitmaps were last compared with a backup.' }),
    auditResult: z.enum(['equal', 'different']).nullable(),
    sourceBackupId: idField.nullable().meta({
      description: 'Of an instant restore: the backup that it still reads, until all of it is pulled.',
    }),
    mixedWithBackupId: idField.nullable().meta({
      description:
        'A restore of this backup over it did not come to its end: it may hold a mixture of its old contents and ' +
        'the backup, until a restore over it succeeds.',
    }),
    labels: labelsField,
    createdAt: momentField,
  })
  .meta({
    id: 'Volume',
    examples: [
      {
        id: EXAMPLE_IDS.volume,
        name: 'web-01',
        storageNodeId: EXAMPLE_IDS.storageNode,
        storageNode: 'alpha',
        sizeBytes: 1_073_741_824,
        format: 'raw',
        state: 'ready',
        exportUri: 'nbd://127.0.0.1:10809/web-01',
        checkpointLimit: 64,
        auditedAt: EXAMPLE_MOMENT,
        auditResult: 'equal',
        sourceBackupId: null,
        mixedWithBackupId: null,
        labels: { app: 'web', tier: 'gold' },
        createdAt: EXAMPLE_MOMENT,
      },
    ],
  });

export const createVolumeSchema = z
  .strictObject({
    name: nameField,
    storageNode: ref('storage node that will hold it'),
    sizeBytes: sizeField,
    format: formatField.default('raw').meta({ description: 'The image format on the storage node.' }),
    labels: labelsField.optional(),
  })
  .meta({
    id: 'CreateVolume',
    examples: [{ name: 'web-01', storageNode: 'alpha', sizeBytes: 1_073_741_824, labels: { app: 'web' } }],
  });

export const updateVolumeSchema = z
  .strictObject({
    checkpointLimit: z
      .int()
      .min(1)
      .max(CHECKPOINT_LIMIT_MAX)
      .optional()
      .meta({ description: `Most checkpoints that it may have, 1 to ${CHECKPOINT_LIMIT_MAX}.` }),
    labels: labelsField.optional(),
  })
  .refine(hasChange, { error: NO_CHANGE })
  .meta({
    id: 'UpdateVolume',
    minProperties: 1,
    examples: [{ checkpointLimit: 128 }, { labels: { app: 'web' } }],
  });

export const moveVolumeSchema = z
  .strictObject({ storageNode: ref('storage node that it moves to'), speedBytesPerSecond: speedField })
  .meta({ id: 'MoveVolume', examples: [{ storageNode: 'beta' }] });

export const volumeQuery = chosenPageQuery.extend({
  state: volumeSchema.shape.state.optional().meta({ description: 'Only those in this state.' }),
  storageNode: ref('storage node').optional().meta({ description: 'Only those on this storage node.' }),
});

export const volumePageSchema = pageOf(volumeSchema, 'VolumePage');
export const volumeRunSchema = z
  .object({ run: runSchema, volume: volumeSchema.nullable() })
  .meta({ id: 'VolumeRun', description: 'The volume is null once it is deleted.' });

export type VolumeJson = z.output<typeof volumeSchema>;
export type UpdateVolume = z.output<typeof updateVolumeSchema>;
export type MoveVolume = z.output<typeof moveVolumeSchema>;
export type CreateVolume = z.output<typeof createVolumeSchema>;
