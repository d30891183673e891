// Checkpoints: named points in time of a volume, the bases of incremental backups.
import { z } from 'zod';
import { CHANGED_EXTENTS_DEFAULT, CHANGED_EXTENTS_MAX, CHECKPOINT_LIMIT_MAX } from '../limits.ts';
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
  ref,
} from './common.ts';
import { runSchema } from './run.ts';

export const checkpointSchema = z
  .object({
    id: idField,
    name: z.string(),
    description: z.string(),
    volumeId: idField,
    state: z.enum(['creating', 'ready', 'deleting']),
    pointInTime: momentField.nullable(),
    createdAt: momentField,
    pinnedUntil: momentField
      .nullable()
      .meta({ description: 'Until then it is neither dropped nor deleted.' }),
    originBackupId: idField.nullable().meta({
      description: 'The backup that the volume was restored from; it holds that since this checkpoint.',
    }),
    changedSinceBytes: bytesField.nullable().meta({
      description:
        'At this moment, in whole granules: what an increment since it has to look at, and never less than it ' +
        'sends. Null when the storage node does not answer, and for what it does not have.',
    }),
    grownBytes: bytesField.nullable().meta({
      description:
        'Of these, what is marked only because a crash left it open whether it was written. Null as above.',
    }),
    inconsistent: z.boolean().nullable().meta({
      description: 'The changes since it are not known: no increment can build on it. Null as above.',
    }),
    backups: z.array(idField).meta({ description: 'Backups that hold this point in time.' }),
  })
  .meta({
    id: 'Checkpoint',
    examples: [
      {
        id: EXAMPLE_IDS.checkpoint,
        name: 'monday',
        description: 'before the upgrade',
        volumeId: EXAMPLE_IDS.volume,
        state: 'ready',
        pointInTime: EXAMPLE_MOMENT,
        createdAt: EXAMPLE_MOMENT,
        pinnedUntil: null,
        originBackupId: null,
        changedSinceBytes: 4_194_304,
        grownBytes: 0,
        inconsistent: false,
        backups: [EXAMPLE_IDS.backup],
      },
    ],
  });

export const dropOldestField = z
  .boolean()
  .default(false)
  .meta({
    description:
      'When the volume has as many checkpoints as it may have: drop the oldest, once the new one is safe. Refused ' +
      'when that one is protected or in use.',
  });

export const droppedField = z.array(z.object({ id: idField, name: z.string() })).meta({
  description:
    'Checkpoints that go for the new one, once it is safe. `result.dropped` of the run names those that went.',
});

export const createCheckpointSchema = z
  .strictObject({
    name: nameField,
    description: descriptionField.default(''),
    dropOldest: dropOldestField,
  })
  .meta({
    id: 'CreateCheckpoint',
    examples: [{ name: 'monday' }, { name: 'tuesday', description: 'nightly', dropOldest: true }],
  });

export const updateCheckpointSchema = z
  .strictObject({
    name: nameField.optional(),
    description: descriptionField.optional(),
    pinnedUntil: momentField
      .nullable()
      .optional()
      .meta({ description: 'Protects it until then; null takes the protection away.' }),
  })
  .refine(body => Object.values(body).some(value => value !== undefined), {
    error: 'is empty; send at least one of name, description and pinnedUntil',
  })
  .meta({
    id: 'UpdateCheckpoint',
    examples: [{ name: 'before-upgrade' }, { pinnedUntil: '2027-01-31T00:00:00.000Z' }],
  });

export const redefineCheckpointsSchema = z
  .strictObject({
    checkpoints: z
      .array(
        z.strictObject({
          id: idField,
          name: nameField.optional(),
          description: descriptionField.optional(),
        }),
      )
      .min(1)
      .max(CHECKPOINT_LIMIT_MAX * 2)
      .optional()
      .meta({
        description:
          'Oldest first, up to the one that records. By default all that the storage node has. Names and ' +
          "descriptions are the storage node's unless given.",
      }),
    validateOnly: z.boolean().default(false).meta({ description: 'Say what would be done, and do nothing.' }),
    allowInconsistent: z.boolean().default(false).meta({
      description: 'Also those whose changes are not known. No increment can build on them.',
    }),
  })
  .meta({ id: 'RedefineCheckpoints', examples: [{}, { validateOnly: true }] });

export const checkpointPageSchema = pageOf(checkpointSchema, 'CheckpointPage');
export const checkpointRunSchema = z
  .object({ run: runSchema, checkpoint: checkpointSchema.nullable() })
  .meta({ id: 'CheckpointRun', description: 'The checkpoint is null once it is deleted.' });
export const newCheckpointRunSchema = z
  .object({ run: runSchema, checkpoint: checkpointSchema.nullable(), dropped: droppedField })
  .meta({ id: 'NewCheckpointRun' });
export const updatedCheckpointSchema = z
  .object({ run: runSchema.nullable(), checkpoint: checkpointSchema })
  .meta({
    id: 'UpdatedCheckpoint',
    description: 'The run brings name and description to the storage node; null when neither was changed.',
  });

const sinceField = ref('checkpoint whose changes since are meant');
const untilField = ref('later checkpoint where they end; by default they go on until now');

export const changedBytesQuery = z.strictObject({ since: sinceField, until: untilField.optional() });

export const changedBlocksQuery = changedBytesQuery.extend({
  offset: z.coerce
    .number()
    .int()
    .min(0)
    .default(0)
    .meta({ description: 'Byte to begin at: `nextOffset` of the page before.' }),
  limit: z.coerce
    .number()
    .int()
    .min(1)
    .max(CHANGED_EXTENTS_MAX)
    .default(CHANGED_EXTENTS_DEFAULT)
    .meta({ description: `Most extents of a page, 1 to ${CHANGED_EXTENTS_MAX}. A stream has them all.` }),
});

const granularityField = z
  .int()
  .min(512)
  .meta({ description: 'Changes are known in units of this many bytes.', examples: [65_536] });

export const changedBlocksSchema = z
  .object({
    granularityBytes: granularityField,
    extents: z.array(extentSchema).meta({ description: 'In order of offsets; none touches the next.' }),
    nextOffset: bytesField
      .nullable()
      .meta({ description: 'Give it back as `offset` for the next page; null on the last page.' }),
  })
  .meta({
    id: 'ChangedBlocks',
    examples: [{ granularityBytes: 65_536, extents: [{ offset: 0, length: 131_072 }], nextOffset: null }],
  });

export const changedBlocksLineSchema = z
  .union([
    extentSchema,
    z.object({ end: z.literal(true), granularityBytes: granularityField, extents: bytesField }),
  ])
  .meta({
    id: 'ChangedBlocksLine',
    description: 'One line for each extent; the last line says `end`. Without it the list is not complete.',
  });

export const changedBytesSchema = z
  .object({ changedBytes: bytesField, granularityBytes: granularityField })
  .meta({ id: 'ChangedBytes', examples: [{ changedBytes: 4_194_304, granularityBytes: 65_536 }] });

export type CheckpointJson = z.output<typeof checkpointSchema>;
export type CreateCheckpoint = z.output<typeof createCheckpointSchema>;
export type UpdateCheckpoint = z.output<typeof updateCheckpointSchema>;
export type RedefineCheckpoints = z.output<typeof redefineCheckpointsSchema>;
export type ChangedBlocksQuery = z.output<typeof changedBlocksQuery>;
export type ChangedBytesQuery = z.output<typeof changedBytesQuery>;
export type ChangedBlocksJson = z.output<typeof changedBlocksSchema>;
export type Extent = z.output<typeof extentSchema>;
