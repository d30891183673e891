// Policies: what is backed up when, for how long it is kept, and what became of it.
import { isTimeOfDay, isTimeZone, MEMBER_DELAY_MS_MAX } from '@tidemark/catalog';
import { z } from 'zod';
import {
  FENCE_LIMIT_DEFAULT_MS,
  POLICY_CONCURRENCY_MAX,
  POLICY_MISSED_MAX,
  POLICY_PRIORITY_MAX,
  POLICY_REPLICAS_MAX,
  POLICY_RETRIES_MAX,
  POLICY_WINDOWS_MAX,
} from '../limits.ts';
import {
  descriptionField,
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
  refField,
  selectorField,
} from './common.ts';
import { completionField, fenceLimitField, hooksField } from './group-fields.ts';
import { keepChangeSchema, keepSchema } from './retention.ts';

const DAY_MS = 86_400_000;

const cron = z
  .string()
  .max(200)
  .meta({
    description:
      'Five fields of cron, or @hourly, @daily, @weekly, @monthly, @yearly. Where clocks are set, a rule that names ' +
      'hours is due once: at the next moment that exists where its time is left out, at the first where it comes ' +
      'twice. A rule for every hour is due in each hour that passes.',
    examples: ['30 2 * * *'],
  });
const timeZone = z
  .string()
  .refine(isTimeZone, { error: 'is no name of the time zone database, such as Europe/Berlin' })
  .meta({ description: 'Where its times, the days of its rules and its windows are counted.' });
const missed = z.enum(['skip', 'once', 'all']).meta({
  description:
    'What becomes of due moments at which no worker was there: nothing, one firing for all of them, or one for each ' +
    'of the newest `missedMax`.',
});
const missedMax = z.int().min(1).max(POLICY_MISSED_MAX);
const jitterMs = z.int().min(0).max(DAY_MS).meta({
  description: 'A firing starts up to this much later than it is due, but before the next; each by its own.',
});
const schedule = z.strictObject({
  cron,
  timeZone: timeZone.default('UTC'),
  missed: missed.default('once'),
  missedMax: missedMax.default(1),
  jitterMs: jitterMs.default(0),
});

const time = z.string().refine(isTimeOfDay, { error: 'is no time of day; send HH:MM, such as 08:00' });
const windowSchema = z
  .strictObject({
    from: time,
    to: time.meta({ description: 'Before `from`: on the next day. Equal to it: a whole day.' }),
    days: z
      .array(z.int().min(1).max(7))
      .max(7)
      .default([])
      .meta({ description: 'Days that it begins on, from 1, Monday, to 7; empty: all.' }),
    bytesPerSecond: z.int().min(0).meta({
      description: 'Of all backups of the policy together, shared evenly; 0: no limit.',
    }),
  })
  .meta({ id: 'BandwidthWindow' });
const bandwidth = z
  .array(windowSchema)
  .max(POLICY_WINDOWS_MAX)
  .meta({ description: 'The first window that holds a moment counts; outside of all there is no limit.' });

const retryTimes = z.int().min(0).max(POLICY_RETRIES_MAX);
const retryDelayMs = z.int().min(0).max(MEMBER_DELAY_MS_MAX);
const ofTimes = { description: 'Further runs of a backup that failed, and of each replica of it.' };
const ofDelay = { description: 'Before each of them; for replicas it doubles, up to an hour.' };
const retry = z.strictObject({
  times: retryTimes.default(2).meta(ofTimes),
  delayMs: retryDelayMs.default(300_000).meta(ofDelay),
});
const retryChange = z.strictObject({
  times: retryTimes.optional().meta(ofTimes),
  delayMs: retryDelayMs.optional().meta(ofDelay),
});
/** As of groups that are asked for, but for the completion: members that fail are begun again by themselves. */
const policyGroupsSchema = z
  .strictObject({
    fenceLimitMs: fenceLimitField.default(FENCE_LIMIT_DEFAULT_MS),
    completion: completionField.default('individual'),
    hooks: hooksField.default([]),
  })
  .meta({
    id: 'PolicyGroups',
    description:
      'Of the groups that its firings make. Storage nodes of hooks are told by their ids, and can be given by their ' +
      'names. Completed as a whole, all of a group are begun again where one failed; else that one alone.',
  });
const groupsChange = z.strictObject({
  fenceLimitMs: fenceLimitField.optional(),
  completion: completionField.optional(),
  hooks: hooksField.optional(),
});

/** What is said of groups has one place; left out, it would seem to hold for volumes backed up each by itself. */
function misplaced(issue: z.core.$ZodRawIssue): string | undefined {
  const keys = issue.code === 'unrecognized_keys' ? issue.keys : [];
  const ofGroups = keys.filter(key => key in groupsChange.shape).map(key => `'${key}'`);
  if (ofGroups.length === 0) return undefined;
  return (
    `holds ${ofGroups.join(', ')}, which is said of groups alone; send it within 'grouped', by which all volumes of ` +
    'the policy are taken at one instant, or leave it out'
  );
}

const fields = {
  description: descriptionField,
  selector: selectorField.unwrap(),
  kind: z.enum(['full', 'incremental', 'differential', 'checkpoint']).meta({
    description: 'checkpoint: no backup at all. A volume with nothing to build on gets a full backup.',
  }),
  fullEvery: z.int().min(0).meta({
    description: 'The first of each so many firings is full; 0: only where there is nothing to build on.',
  }),
  verifyPercent: z
    .number()
    .min(0)
    .max(100)
    .meta({ description: 'Share of the backups of each firing to verify.' }),
  concurrency: z.int().min(1).max(POLICY_CONCURRENCY_MAX).meta({ description: 'Backups at the same time.' }),
  bandwidth,
  priority: z.int().min(1).max(POLICY_PRIORITY_MAX).meta({ description: 'Lower ones go first.' }),
  dropOldest: z.boolean().meta({
    description: 'The oldest checkpoint of a volume that has as many as it may have goes for the new one.',
  }),
};
const repository = ref('repository');
const replicas = z
  .array(refField)
  .max(POLICY_REPLICAS_MAX)
  .meta({ description: 'Repositories that each backup is copied to, ids or names.' });
const keep = keepSchema.meta({
  description:
    'Rules by which the backups of its volumes in the repository are pruned after each firing. What the rules of ' +
    'another policy, or of replication into that repository, keep of them stays.',
});

export const createPolicySchema = z
  .strictObject(
    {
      name: nameField.max(40),
      description: fields.description.default(''),
      enabled: z.boolean().default(false).meta({ description: 'Due from now on. Simulate it first.' }),
      selector: fields.selector.default(''),
      schedule,
      kind: fields.kind.default('incremental'),
      fullEvery: fields.fullEvery.default(0),
      repository: repository.optional(),
      replicas: replicas.default([]),
      keep: keep.optional(),
      verifyPercent: fields.verifyPercent.default(0),
      concurrency: fields.concurrency.default(4),
      bandwidth: fields.bandwidth.default([]),
      priority: fields.priority.default(100),
      retry: retry.prefault({}),
      dropOldest: fields.dropOldest.default(true),
      grouped: policyGroupsSchema.optional().meta({
        description: 'All its volumes at one instant, as a group; by default each by itself.',
      }),
    },
    { error: misplaced },
  )
  .meta({
    id: 'CreatePolicy',
    examples: [
      {
        name: 'nightly',
        selector: 'app=web',
        schedule: { cron: '30 2 * * *', timeZone: 'Europe/Berlin', missed: 'once' },
        repository: 'vault',
        fullEvery: 30,
        keep: { daily: 7, weekly: 4, monthly: 12 },
      },
      {
        name: 'shop',
        selector: 'app=shop',
        schedule: { cron: '@hourly' },
        repository: 'vault',
        grouped: {
          completion: 'grouped',
          hooks: [{ webhook: 'https://db-01.example/freeze', timeoutMs: 5_000 }],
        },
      },
    ],
  });

export const updatePolicySchema = z
  .strictObject(
    {
      name: nameField.max(40).optional(),
      description: fields.description.optional(),
      selector: fields.selector.optional(),
      schedule: z
        .strictObject({
          cron: cron.optional(),
          timeZone: timeZone.optional(),
          missed: missed.optional(),
          missedMax: missedMax.optional(),
          jitterMs: jitterMs.optional(),
        })
        .optional(),
      kind: fields.kind.optional(),
      fullEvery: fields.fullEvery.optional(),
      repository: repository.nullable().optional(),
      replicas: replicas.optional(),
      keep: keepChangeSchema.nullable().optional().meta({
        description: 'Rules that are not named stay as they are. Null: no prunes any more.',
      }),
      verifyPercent: fields.verifyPercent.optional(),
      concurrency: fields.concurrency.optional(),
      bandwidth: fields.bandwidth.optional(),
      priority: fields.priority.optional(),
      retry: retryChange.optional(),
      dropOldest: fields.dropOldest.optional(),
      grouped: groupsChange
        .nullable()
        .optional()
        .meta({
          description:
            'What is not named stays as it is, or has its default where volumes were backed up each by itself. ' +
            'Null: each by itself again.',
        }),
    },
    { error: misplaced },
  )
  .refine(hasChange, { error: NO_CHANGE })
  .meta({ id: 'UpdatePolicy', minProperties: 1, examples: [{ schedule: { cron: '0 3 * * *' } }] });

export const policySchema = z
  .object({
    id: idField,
    name: z.string(),
    enabled: z.boolean(),
    nextDueAt: momentField.nullable().meta({ description: 'Null while it is disabled.' }),
    revision: z.int().min(1),
    description: z.string(),
    selector: z.string(),
    schedule: z.object({ cron: z.string(), timeZone: z.string(), missed, missedMax, jitterMs }),
    kind: fields.kind,
    fullEvery: fields.fullEvery,
    repositoryId: idField.nullable(),
    replicaIds: z.array(idField),
    keep: keepSchema.nullable(),
    verifyPercent: fields.verifyPercent,
    concurrency: fields.concurrency,
    bandwidth: z.array(windowSchema),
    priority: fields.priority,
    retry,
    dropOldest: z.boolean(),
    grouped: policyGroupsSchema.nullable().meta({ description: 'Null: each volume by itself.' }),
    createdAt: momentField,
    updatedAt: momentField,
  })
  .meta({
    id: 'Policy',
    examples: [
      {
        id: EXAMPLE_IDS.policy,
        name: 'nightly',
        enabled: true,
        nextDueAt: '2026-11-22T01:30:00.000Z',
        revision: 1,
        description: '',
        selector: 'app=web',
        schedule: {
          cron: '30 2 * * *',
          timeZone: 'Europe/Berlin',
          missed: 'once',
          missedMax: 1,
          jitterMs: 0,
        },
        kind: 'incremental',
        fullEvery: 30,
        repositoryId: EXAMPLE_IDS.repository,
        replicaIds: [],
        keep: { last: 0, hourly: 0, daily: 7, weekly: 4, monthly: 12, yearly: 0 },
        verifyPercent: 5,
        concurrency: 4,
        bandwidth: [{ from: '08:00', to: '18:00', days: [1, 2, 3, 4, 5], bytesPerSecond: 52_428_800 }],
        priority: 100,
        retry: { times: 2, delayMs: 300_000 },
        dropOldest: true,
        grouped: null,
        createdAt: EXAMPLE_MOMENT,
        updatedAt: EXAMPLE_MOMENT,
      },
    ],
  });

export const policyQuery = namedPageQuery.extend({
  enabled: enabledFilter,
  volume: ref('volume').optional().meta({ description: 'Only policies whose selector chooses it.' }),
  repository: ref('repository')
    .optional()
    .meta({ description: 'Only policies that back up to it, or have replicas made in it.' }),
});

export const policyPageSchema = pageOf(policySchema, 'PolicyPage');

export type CreatePolicy = z.output<typeof createPolicySchema>;
export type UpdatePolicy = z.output<typeof updatePolicySchema>;
export type PolicyJson = z.output<typeof policySchema>;
