// Checkpoints: named points in time of a volume, the bases of incremental backups.
import { z } from 'zod';
import { EXAMPLE_IDS, EXAMPLE_MOMENT, idField, momentField, nameField, pageOf } from './common.ts';
import { runSchema } from './run.ts';

export const checkpointSchema = z
  .object({
    id: idField,
    name: z.string(),
    volumeId: idField,
    state: z.enum(['creating', 'ready', 'deleting']),
    pointInTime: momentField.nullable(),
    createdAt: momentField,
    backups: z.array(idField).meta({ description: 'Backups that hold this point in time.' }),
  })
  .meta({
    id: 'Checkpoint',
    examples: [
      {
        id: EXAMPLE_IDS.checkpoint,
        name: 'monday',
        volumeId: EXAMPLE_IDS.volume,
        state: 'ready',
        pointInTime: EXAMPLE_MOMENT,
        createdAt: EXAMPLE_MOMENT,
        backups: [EXAMPLE_IDS.backup],
      },
    ],
  });

export const createCheckpointSchema = z
  .strictObject({ name: nameField })
  .meta({ id: 'CreateCheckpoint', examples: [{ name: 'monday' }] });

export const checkpointPageSchema = pageOf(checkpointSchema, 'CheckpointPage');
export const checkpointRunSchema = z
  .object({ run: runSchema, checkpoint: checkpointSchema.nullable() })
  .meta({ id: 'CheckpointRun', description: 'The checkpoint is null once it is deleted.' });

export type CheckpointJson = z.output<typeof checkpointSchema>;
export type CreateCheckpoint = z.output<typeof createCheckpointSchema>;
