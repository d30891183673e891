// Replication: backups copied to another repository, once or by rules.
import { parseSelector, SELECTOR_CHARACTERS_MAX, TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { REPLICATION_CONCURRENCY_MAX } from '../limits.ts';
import { backupSchema } from './backup.ts';
import {
  bytesField,
  EXAMPLE_IDS,
  EXAMPLE_MOMENT,
  enabledFilter,
  hasChange,
  idField,
  momentField,
  NO_CHANGE,
  namedPageQuery,
  nameField,
  pageOf,
  ref,
  speedField,
} from './common.ts';
import { keepChangeSchema, keepSchema, timeZoneField } from './retention.ts';
import { runSchema } from './run.ts';

/** Null: it can be read. */
function selectorFault(text: string): string | null {
  try {
    parseSelector(text);
    return null;
  } catch (error) {
    return error instanceof TidemarkError ? error.message : String(error);
  }
}

const flattenField = z.boolean().meta({
  description: 'One full backup, with all that it stands on; otherwise what is missing below it comes first.',
});

export const replicateBackupSchema = z
  .strictObject({
    repository: ref('repository that will hold the replica'),
    flatten: flattenField.default(false),
    speedBytesPerSecond: speedField,
  })
  .meta({ id: 'ReplicateBackup', examples: [{ repository: 'offsite' }] });

export const replicaRunSchema = z
  .object({ run: runSchema, backup: backupSchema.nullable() })
  .meta({ id: 'ReplicaRun' });

const selectorField = z
  .string()
  .max(SELECTOR_CHARACTERS_MAX)
  .refine(text => selectorFault(text) === null, { error: issue => selectorFault(String(issue.input))! })
  .meta({
    description:
      'Backups of volumes with labels like these, such as `app=web`. Empty: all, also of volumes that are gone.',
  });
const keepField = keepSchema.nullable().meta({
  description:
    'What is kept in the target of what was replicated there, by rules for each volume; what they would not keep is ' +
    'not copied. Null: everything. What another rule into the target, or a policy that backs up there, keeps stays.',
});
const fields = {
  name: nameField,
  selector: selectorField,
  enabled: z.boolean(),
  keep: keepField,
  timeZone: timeZoneField,
  flatten: flattenField,
  newestFirst: z.boolean().meta({
    description:
      'What is newest comes first, with all that it stands on; otherwise the oldest that is missing.',
  }),
  concurrency: z.int().min(1).max(REPLICATION_CONCURRENCY_MAX).meta({ description: 'Volumes at a time.' }),
};

const statusSchema = z.object({
  missing: z
    .object({ backups: z.int().min(0), bytes: bytesField })
    .meta({ description: 'Wanted in the target and not there yet.' }),
  lagMs: z
    .number()
    .min(0)
    .meta({ description: 'Age of the oldest point in time that is missing; 0: none is.' }),
  newestPointInTime: momentField.nullable().meta({ description: 'Of what is in both repositories.' }),
  running: z.int().min(0).meta({ description: 'Runs of the rule under way.' }),
  blocked: z
    .array(z.object({ backup: idField, why: z.string() }))
    .meta({ description: 'What is not copied until somebody does something about it.' }),
  failures: z.int().min(0).meta({ description: 'Runs that failed since the last one that succeeded.' }),
  failedAt: momentField.nullable(),
  error: z.object({ code: z.string(), message: z.string() }).nullable().meta({ description: 'Of the last.' }),
});

export const replicationRuleSchema = z
  .object({
    id: idField,
    ...fields,
    sourceRepositoryId: idField,
    source: z.string().meta({ description: 'Name of the repository that is read.' }),
    targetRepositoryId: idField,
    target: z.string().meta({ description: 'Name of the repository that is written.' }),
    speedBytesPerSecond: z.int().min(1).nullable(),
    createdAt: momentField,
    status: statusSchema.nullable().meta({ description: 'Null in lists.' }),
  })
  .meta({
    id: 'ReplicationRule',
    examples: [
      {
        id: EXAMPLE_IDS.run,
        name: 'offsite',
        sourceRepositoryId: EXAMPLE_IDS.repository,
        source: 'nightly',
        targetRepositoryId: EXAMPLE_IDS.snapshot,
        target: 'offsite',
        selector: 'tier=gold',
        enabled: true,
        keep: { last: 3, hourly: 0, daily: 0, weekly: 8, monthly: 12, yearly: 0 },
        timeZone: 'Europe/Berlin',
        flatten: false,
        newestFirst: false,
        concurrency: 2,
        speedBytesPerSecond: null,
        createdAt: EXAMPLE_MOMENT,
        status: {
          missing: { backups: 1, bytes: 268_500_992 },
          lagMs: 90_000,
          newestPointInTime: EXAMPLE_MOMENT,
          running: 1,
          blocked: [],
          failures: 0,
          failedAt: null,
          error: null,
        },
      },
    ],
  });

export const createReplicationRuleSchema = z
  .strictObject({
    name: fields.name,
    source: ref('repository whose backups are replicated'),
    target: ref('repository that they are copied to'),
    selector: fields.selector.default(''),
    enabled: fields.enabled.default(true),
    keep: fields.keep.default(null),
    timeZone: fields.timeZone.default('UTC'),
    flatten: fields.flatten.default(false),
    newestFirst: fields.newestFirst.default(false),
    concurrency: fields.concurrency.default(2),
    speedBytesPerSecond: speedField,
  })
  .meta({
    id: 'CreateReplicationRule',
    examples: [{ name: 'offsite', source: 'nightly', target: 'offsite', keep: { weekly: 8 } }],
  });

export const changeReplicationRuleSchema = z
  .strictObject({
    name: fields.name.optional(),
    selector: fields.selector.optional(),
    enabled: fields.enabled.optional(),
    keep: keepChangeSchema.nullable().optional().meta({
      description: 'Rules that are not named stay as they are. Null: everything is kept.',
    }),
    timeZone: fields.timeZone.optional(),
    flatten: fields.flatten.optional(),
    newestFirst: fields.newestFirst.optional(),
    concurrency: fields.concurrency.optional(),
    speedBytesPerSecond: z
      .int()
      .min(1)
      .nullable()
      .optional()
      .meta({ description: 'Most bytes per second of each run; null: no limit.' }),
  })
  .refine(hasChange, { error: NO_CHANGE })
  .meta({ id: 'ChangeReplicationRule', minProperties: 1, examples: [{ enabled: false }] });

export const replicationRuleQuery = namedPageQuery.extend({
  enabled: enabledFilter,
  source: ref('repository').optional().meta({ description: 'Only rules that replicate from it.' }),
  target: ref('repository').optional().meta({ description: 'Only rules that replicate to it.' }),
});

export const replicationRulePageSchema = pageOf(replicationRuleSchema, 'ReplicationRulePage');

export type ReplicateBackup = z.output<typeof replicateBackupSchema>;
export type ReplicationRuleJson = z.output<typeof replicationRuleSchema>;
export type CreateReplicationRule = z.output<typeof createReplicationRuleSchema>;
export type ChangeReplicationRule = z.output<typeof changeReplicationRuleSchema>;
