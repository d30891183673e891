// Exports: a frozen moment of a volume, for others to pull over NBD.
import { z } from 'zod';
import { dropOldestField, droppedField } from './checkpoint.ts';
import { bytesField, descriptionField, nameField, ref } from './common.ts';
import { runSchema } from './run.ts';

const HOUR_MS = 3_600_000;
const EXPIRES_DEFAULT_MS = 24 * HOUR_MS;
/** Guests pay for an export as long as it is open. */
const EXPIRES_MAX_MS = 30 * 24 * HOUR_MS;

export const createExportSchema = z
  .strictObject({
    volume: ref('volume'),
    checkpoint: nameField
      .optional()
      .meta({ description: 'Name of a new checkpoint, taken in the same instant; none by default.' }),
    description: descriptionField.default(''),
    base: ref('checkpoint since which changes alone are kept and readable; by default all is').optional(),
    expiresInMs: z
      .int()
      .min(1)
      .max(EXPIRES_MAX_MS)
      .default(EXPIRES_DEFAULT_MS)
      .meta({ description: 'An export that nobody has finished by then fails, and its checkpoint goes.' }),
    scratchLimitBytes: bytesField
      .optional()
      .meta({ description: 'Most space for what guests overwrite meanwhile; as the storage node is set.' }),
    dropOldest: dropOldestField,
  })
  .meta({ id: 'CreateExport', examples: [{ volume: 'web-01', checkpoint: 'friday' }] });

export const exportRunSchema = z.object({ run: runSchema, dropped: droppedField }).meta({ id: 'ExportRun' });

export type CreateExport = z.output<typeof createExportSchema>;
