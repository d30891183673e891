// Retention: which backups stay by which rule, which go, and what comes back.
import { isTimeZone, keepsAnything } from '@tidemark/catalog';
import { z } from 'zod';
import { KEEP_COUNT_MAX } from '../limits.ts';
import { backupSchema } from './backup.ts';
import {
  bytesField,
  descriptionField,
  EXAMPLE_IDS,
  EXAMPLE_MOMENT,
  hasChange,
  idField,
  momentField,
  NO_CHANGE,
  ref,
  speedField,
} from './common.ts';
import { runSchema } from './run.ts';

const count = z.int().min(0).max(KEEP_COUNT_MAX);
const newestOf = (period: string) => `the newest backup of each ${period}, for so many of them that have one`;
const KEPT = {
  last: 'so many of the newest backups',
  hourly: newestOf('hour'),
  daily: newestOf('day'),
  weekly: newestOf('week (ISO 8601: from Monday on)'),
  monthly: newestOf('month'),
  yearly: newestOf('year'),
} as const;
const ruleOf = (rule: keyof typeof KEPT) => count.default(0).meta({ description: `Keep ${KEPT[rule]}.` });
const changeOf = (rule: keyof typeof KEPT) =>
  count.optional().meta({ description: `Keep ${KEPT[rule]}; 0: no longer.` });

export const timeZoneField = z
  .string()
  .refine(isTimeZone, { error: 'is no name of the time zone database, such as Europe/Berlin' })
  .meta({ description: 'Where hours, days, weeks, months and years are counted.' });

export const keepSchema = z
  .strictObject({
    last: ruleOf('last'),
    hourly: ruleOf('hourly'),
    daily: ruleOf('daily'),
    weekly: ruleOf('weekly'),
    monthly: ruleOf('monthly'),
    yearly: ruleOf('yearly'),
  })
  .refine(keepsAnything, {
    error: 'keeps nothing, so that every backup would go; send at least one count above 0',
  });

/** Rules that are not named stay as they are. */
export const keepChangeSchema = z
  .strictObject({
    last: changeOf('last'),
    hourly: changeOf('hourly'),
    daily: changeOf('daily'),
    weekly: changeOf('weekly'),
    monthly: changeOf('monthly'),
    yearly: changeOf('yearly'),
  })
  .refine(hasChange, { error: NO_CHANGE });

export const pruneSchema = z
  .strictObject({
    repository: ref('repository'),
    volume: ref('volume whose backups are looked at; by default those of all volumes').optional(),
    keep: keepSchema.meta({
      description: 'Rules, each for itself and for each volume: a backup stays when any of them keeps it.',
    }),
    timeZone: timeZoneField.default('UTC'),
    dryRun: z.boolean().default(false).meta({ description: 'Say what would be done, and do nothing.' }),
    speedBytesPerSecond: speedField,
  })
  .meta({
    id: 'Prune',
    examples: [
      {
        repository: 'nightly',
        keep: { last: 3, daily: 7, weekly: 4 },
        timeZone: 'Europe/Berlin',
        dryRun: true,
      },
    ],
  });

const keptField = z.array(z.string()).meta({
  description:
    'What keeps the checkpoint: backups that hold it, a pin, being the newest. Empty: it goes, or is gone already.',
});

const pruneCheckpointSchema = z
  .object({
    id: idField,
    name: z.string(),
    volumeId: idField,
    pointInTime: momentField.nullable(),
    goes: z.boolean(),
    keep: keptField,
  })
  .meta({
    id: 'PruneCheckpoint',
    examples: [
      {
        id: EXAMPLE_IDS.checkpoint,
        name: 'monday',
        volumeId: EXAMPLE_IDS.volume,
        pointInTime: EXAMPLE_MOMENT,
        goes: false,
        keep: ['the newest of its volume'],
      },
    ],
  });

const pruneItemSchema = z
  .object({
    backup: idField,
    volumeId: idField,
    volume: z.string().nullable().meta({ description: 'Name of the volume; null once it is gone.' }),
    pointInTime: momentField.nullable(),
    checkpoint: z.object({
      id: idField,
      name: z.string(),
      goes: z
        .boolean()
        .meta({ description: 'No other backup holds it: it is merged into the one before it.' }),
      keep: keptField,
    }),
    goes: z.boolean(),
    keep: z
      .array(z.string())
      .meta({ description: 'What keeps it: rules, a pin, who uses it. Empty: it goes.' }),
    blockedBy: z
      .string()
      .nullable()
      .meta({ description: 'Why it cannot leave its chain yet: it stays, hidden, until a later prune can.' }),
    awaitedBy: z.array(z.string()).meta({
      description:
        'Who has yet to copy it to another repository: policies and replication rules. It goes nonetheless; prunes ' +
        'of policies and rules would leave it until then. Pin it to keep it.',
    }),
    freedBytes: bytesField.meta({
      description:
        'Space that comes back, at most: of a backup that is merged into the next one only what that one has anew, ' +
        'which the map of its image tells, not the catalog. `result.freedBytes` of the run is what came back.',
    }),
  })
  .meta({
    id: 'PruneItem',
    examples: [
      {
        backup: EXAMPLE_IDS.backup,
        volumeId: EXAMPLE_IDS.volume,
        volume: 'web-01',
        pointInTime: EXAMPLE_MOMENT,
        checkpoint: {
          id: EXAMPLE_IDS.checkpoint,
          name: 'monday',
          goes: false,
          keep: [`backup ${EXAMPLE_IDS.backup}`],
        },
        goes: false,
        keep: ['last 1', 'daily 2026-11-21'],
        blockedBy: null,
        awaitedBy: [],
        freedBytes: 0,
      },
    ],
  });

export const pruneAnswerSchema = z
  .object({
    run: runSchema.nullable().meta({ description: 'Null for a dry run.' }),
    items: z.array(pruneItemSchema).meta({ description: 'Newest first.' }),
    checkpoints: z.array(pruneCheckpointSchema).meta({
      description:
        'All of the volumes whose backups were looked at, those taken without a backup, too: of each volume the ' +
        'newest first.',
    }),
    freedBytes: bytesField.meta({ description: 'Of all that goes, at most.' }),
  })
  .meta({ id: 'PruneAnswer' });

export const updateBackupSchema = z
  .strictObject({
    description: descriptionField.optional(),
    pinnedUntil: momentField
      .nullable()
      .optional()
      .meta({ description: 'Protects it until then; null takes the protection away.' }),
  })
  .refine(body => Object.values(body).some(value => value !== undefined), {
    error: 'is empty; send description, pinnedUntil or both',
  })
  .meta({ id: 'UpdateBackup', examples: [{ pinnedUntil: '2027-01-31T00:00:00.000Z' }] });

export const deletedBackupSchema = z
  .object({ run: runSchema, backup: backupSchema.nullable() })
  .meta({ id: 'DeletedBackup', description: 'The backup is null once it is gone.' });

export type KeepChange = z.output<typeof keepChangeSchema>;
export type Prune = z.output<typeof pruneSchema>;
export type PruneItem = z.output<typeof pruneItemSchema>;
export type PruneCheckpoint = z.output<typeof pruneCheckpointSchema>;
export type UpdateBackup = z.output<typeof updateBackupSchema>;
