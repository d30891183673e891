// Snapshots: what a volume held at one instant, kept in an image of its own.
import { z } from 'zod';
import { EXAMPLE_IDS, EXAMPLE_MOMENT, idField, momentField, nameField, pageOf } from './common.ts';
import { runSchema } from './run.ts';

export const snapshotSchema = z
  .object({
    id: idField,
    name: z.string(),
    volumeId: idField,
    state: z.enum(['creating', 'ready']),
    pointInTime: momentField.nullable(),
    createdAt: momentField,
  })
  .meta({
    id: 'Snapshot',
    examples: [
      {
        id: EXAMPLE_IDS.snapshot,
        name: 'before-upgrade',
        volumeId: EXAMPLE_IDS.volume,
        state: 'ready',
        pointInTime: EXAMPLE_MOMENT,
        createdAt: EXAMPLE_MOMENT,
      },
    ],
  });

export const createSnapshotSchema = z
  .strictObject({ name: nameField })
  .meta({ id: 'CreateSnapshot', examples: [{ name: 'before-upgrade' }] });

export const snapshotPageSchema = pageOf(snapshotSchema, 'SnapshotPage');
export const snapshotRunSchema = z
  .object({ run: runSchema, snapshot: snapshotSchema.nullable() })
  .meta({ id: 'SnapshotRun' });

export type SnapshotJson = z.output<typeof snapshotSchema>;
export type CreateSnapshot = z.output<typeof createSnapshotSchema>;
