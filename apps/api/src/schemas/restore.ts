// Restores: a backup, or a checkpoint that has one, brought back to a new volume, over a volume, or to a plain file.
import { z } from 'zod';
import { idField, labelsField, nameField, ref, speedField } from './common.ts';
import { runSchema } from './run.ts';
import { formatField, volumeSchema } from './volume.ts';

const volumeTarget = z.strictObject({
  name: nameField.meta({ description: 'Name of the new volume.' }),
  storageNode: ref('storage node that will hold it'),
  format: formatField.default('raw'),
  labels: labelsField.optional(),
});

const fileTarget = z.strictObject({
  storageNode: ref('storage node that will hold it'),
  name: nameField.meta({ description: "Name of the new file in the storage node's folder for restores." }),
});

const instantTarget = z.strictObject({
  name: nameField.meta({ description: 'Name of the new volume.' }),
  storageNode: ref('storage node that will hold it'),
  format: z
    .literal('qcow2')
    .default('qcow2')
    .meta({ description: 'Only a qcow2 image can lack what is not pulled yet.' }),
  labels: labelsField.optional(),
});

const inPlaceTarget = z.strictObject({
  volume: ref('volume whose contents are overwritten where they differ'),
  evenIfConnected: z
    .boolean()
    .default(false)
    .meta({ description: 'Also while its guest is connected, whose file system then is as after a crash.' }),
});

const target = z
  .strictObject({
    volume: volumeTarget.optional(),
    file: fileTarget.optional(),
    inPlace: inPlaceTarget.optional(),
    instant: instantTarget.optional(),
  })
  .refine(value => Object.values(value).filter(one => one !== undefined).length === 1, {
    error: 'must hold volume, file, inPlace or instant; send exactly one of them',
  })
  .meta({
    oneOf: [
      { required: ['volume'] },
      { required: ['file'] },
      { required: ['inPlace'] },
      { required: ['instant'] },
    ],
  });

export const createRestoreSchema = z
  .strictObject({
    backup: idField.optional().meta({ description: 'Id of the backup.' }),
    volume: ref('volume whose checkpoint to restore').optional(),
    checkpoint: ref('checkpoint; its newest backup is used').optional(),
    target,
    speedBytesPerSecond: speedField,
    onDamage: z
      .enum(['skip', 'fail'])
      .default('skip')
      .meta({
        description:
          'skip: what cannot be read of the backup is left as holes (in place: as it was), and the run succeeds with ' +
          'result.state "complete-with-holes" and result.damage. fail: it ends the run.',
      }),
  })
  .refine(body => body.target.instant === undefined || body.onDamage === 'skip', {
    path: ['onDamage'],
    error: 'cannot be fail for an instant volume, which is in use before its damage is known; leave it out',
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
      { volume: 'web-01', checkpoint: 'monday', target: { inPlace: { volume: 'web-01' } } },
      {
        backup: '8c5d2a52-8f0e-4c0e-9d49-6f7c2a1c6f10',
        target: { instant: { name: 'web-01-now', storageNode: 'alpha' } },
      },
    ],
  });

export const restoreRunSchema = z.object({ run: runSchema, volume: volumeSchema.nullable() }).meta({
  id: 'RestoreRun',
  description:
    'The volume that is made or overwritten; null when the target is a file: then see `run.result`.',
});

export type CreateRestore = z.output<typeof createRestoreSchema>;
