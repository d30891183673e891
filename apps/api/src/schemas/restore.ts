// Restores: a backup, or a checkpoint that has one, brought back to a new volume or to a plain file.
import { z } from 'zod';
import { idField, nameField, ref } from './common.ts';
import { runSchema } from './run.ts';
import { formatField, volumeSchema } from './volume.ts';

const volumeTarget = z.strictObject({
  name: nameField.meta({ description: 'Name of the new volume.' }),
  storageNode: ref('storage node that will hold it'),
  format: formatField.default('raw'),
});

const fileTarget = z.strictObject({
  storageNode: ref('storage node that will hold it'),
  name: nameField.meta({ description: "Name of the new file in the storage node's folder for restores." }),
});

const target = z
  .strictObject({ volume: volumeTarget.optional(), file: fileTarget.optional() })
  .refine(value => (value.volume === undefined) !== (value.file === undefined), {
    error: 'must hold either volume or file; send exactly one of them',
  })
  .meta({ oneOf: [{ required: ['volume'] }, { required: ['file'] }] });

export const createRestoreSchema = z
  .strictObject({
    backup: idField.optional().meta({ description: 'Id of the backup.' }),
    volume: ref('volume whose checkpoint to restore').optional(),
    checkpoint: ref('checkpoint; its newest backup is used').optional(),
    target,
  })
  .refine(
    body =>
      body.backup === undefined
        ? body.volume !== undefined && body.checkpoint !== undefined
        : body.volume === undefined && body.checkpoint === undefined,
    {
      path: ['backup'],
      error: 'must be sent alone, or volume and checkpoint instead of it; send one of the two',
    },
  )
  .meta({
    id: 'CreateRestore',
    oneOf: [{ required: ['backup'] }, { required: ['volume', 'checkpoint'] }],
    examples: [
      {
        volume: 'web-01',
        checkpoint: 'monday',
        target: { volume: { name: 'web-01-monday', storageNode: 'beta' } },
      },
      {
        backup: '8c5d2a52-8f0e-4c0e-9d49-6f7c2a1c6f10',
        target: { file: { storageNode: 'beta', name: 'web-01.raw' } },
      },
    ],
  });

export const restoreRunSchema = z.object({ run: runSchema, volume: volumeSchema.nullable() }).meta({
  id: 'RestoreRun',
  description: 'The volume is null when the target is a file; then see `run.result`.',
});

export type CreateRestore = z.output<typeof createRestoreSchema>;
