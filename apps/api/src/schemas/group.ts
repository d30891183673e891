// Groups: checkpoints of several volumes at one instant, on whatever storage nodes, and backups of them.
import { GROUP_MEMBERS_MAX } from '@tidemark/catalog';
import { z } from 'zod';
import { FENCE_LIMIT_DEFAULT_MS } from '../limits.ts';
import { dropOldestField } from './checkpoint.ts';
import {
  bytesField,
  descriptionField,
  EXAMPLE_IDS,
  EXAMPLE_MOMENT,
  idField,
  momentField,
  namedPageQuery,
  nameField,
  pageOf,
  ref,
  refField,
  selectorField,
  speedField,
} from './common.ts';
import { completionField, fenceLimitField, hooksField } from './group-fields.ts';
import { runSchema } from './run.ts';

const GROUP_STATES = ['creating', 'ready', 'incomplete', 'failed', 'cancelled', 'deleting'] as const;
const MEMBER_STATES = ['creating', 'copying', 'checked', 'ready', 'failed', 'cancelled'] as const;

const errorField = z.object({ code: z.string(), message: z.string() }).nullable();
const memberSchema = z
  .object({
    volumeId: idField,
    volume: z.string().meta({ description: 'Name of the volume when the group was made.' }),
    storageNodeId: idField,
    checkpointId: idField,
    backupId: idField.nullable(),
    runId: idField.nullable().meta({ description: 'Of the run that makes the backup.' }),
    state: z.enum(MEMBER_STATES).meta({
      description:
        'checked: its backup is copied and was found to be as it was sent, and waits for the others.',
    }),
    error: errorField,
  })
  .meta({ id: 'GroupMember' });

const ms = z.number().min(0);
const nodeProof = z
  .object({
    storageNodeId: idField,
    storageNode: z.string(),
    volumes: z.array(z.string()),
    fenceId: z.string().meta({ description: 'Of fence, commit and release alike.' }),
    fencedMs: ms.meta({ description: "When its answers were there, by the worker's clock below." }),
    committedMs: ms,
    releasedMs: ms,
    fencedAtMs: ms.meta({ description: 'By the wall clock of the storage node.' }),
    drainedInMs: ms,
    committedInMs: ms,
    held: z.boolean().meta({
      description:
        'The fence was there, unbroken, from before the commit until the release, by a monotonic clock.',
    }),
    heldMs: ms,
    waits: z.int().min(0).meta({ description: "Guests' requests that waited for the fence." }),
    waitP99Ms: ms,
    waitMaxMs: ms,
  })
  .meta({ id: 'GroupProofNode' });

const proofSchema = z
  .object({
    runId: idField,
    fenceLimitMs: ms,
    coordinator: z
      .object({
        fenceSentMs: ms,
        allFencedMs: ms,
        commitSentMs: ms,
        allCommittedMs: ms,
        releaseSentMs: ms,
        allReleasedMs: ms,
      })
      .meta({
        description:
          'Since the first fence was asked for, by the monotonic clock of the worker: all fences were there before ' +
          'the first commit was sent, and all commits before the first release.',
      }),
    nodes: z.array(nodeProof),
    longestWaitMs: ms.meta({ description: "Of any guest's request." }),
    hooks: z.array(
      z.object({ hook: z.string(), phase: z.string(), tookMs: ms, error: z.string().nullable() }),
    ),
  })
  .meta({ id: 'GroupProof' });

const EXAMPLE_MEMBER = {
  volumeId: EXAMPLE_IDS.volume,
  volume: 'web-01',
  storageNodeId: EXAMPLE_IDS.storageNode,
  checkpointId: EXAMPLE_IDS.checkpoint,
  backupId: EXAMPLE_IDS.backup,
  runId: EXAMPLE_IDS.run,
  state: 'ready' as const,
  error: null,
};

const EXAMPLE_PROOF = {
  runId: EXAMPLE_IDS.run,
  fenceLimitMs: 500,
  coordinator: {
    fenceSentMs: 0,
    allFencedMs: 2.1,
    commitSentMs: 2.2,
    allCommittedMs: 6.4,
    releaseSentMs: 6.4,
    allReleasedMs: 15.9,
  },
  nodes: [
    {
      storageNodeId: EXAMPLE_IDS.storageNode,
      storageNode: 'alpha',
      volumes: ['web-01'],
      fenceId: 'c1f7d1d4-0d43-4ad2-8a6c-5a8e0e6b2f10',
      fencedMs: 1.9,
      committedMs: 6.1,
      releasedMs: 15.7,
      fencedAtMs: 1_795_248_000_000,
      drainedInMs: 0.4,
      committedInMs: 3.2,
      held: true,
      heldMs: 7.3,
      waits: 3,
      waitP99Ms: 7.1,
      waitMaxMs: 7.1,
    },
  ],
  longestWaitMs: 7.1,
  hooks: [],
};

export const groupSchema = z
  .object({
    id: idField,
    name: z.string(),
    kind: z.enum(['checkpoint', 'backup']),
    completion: completionField,
    selector: z.string().nullable().meta({ description: 'Null: the volumes were named.' }),
    repositoryId: idField.nullable(),
    state: z.enum(GROUP_STATES).meta({
      description:
        'incomplete: it is one instant, and not every backup of it came about. failed, cancelled: nothing is left ' +
        'of it but this record.',
    }),
    fenceLimitMs: z.int().min(1),
    pointInTime: momentField.nullable().meta({ description: 'Null until it is decided.' }),
    runId: idField.meta({ description: 'The run that makes it; cancel that one.' }),
    members: z.array(memberSchema),
    proof: proofSchema.nullable().meta({ description: 'How is known that it is one instant.' }),
    error: errorField.meta({ description: 'Which member failed, and what to do next.' }),
    createdAt: momentField,
    finishedAt: momentField.nullable(),
  })
  .meta({
    id: 'Group',
    examples: [
      {
        id: EXAMPLE_IDS.group,
        name: 'shop-monday',
        kind: 'backup',
        completion: 'grouped',
        selector: 'app=shop',
        repositoryId: EXAMPLE_IDS.repository,
        state: 'ready',
        fenceLimitMs: 500,
        pointInTime: EXAMPLE_MOMENT,
        runId: EXAMPLE_IDS.run,
        members: [EXAMPLE_MEMBER],
        proof: EXAMPLE_PROOF,
        error: null,
        createdAt: EXAMPLE_MOMENT,
        finishedAt: '2026-11-21T08:00:04.100Z',
      },
    ],
  });

const backupSchema = z
  .strictObject({
    repository: ref('repository'),
    kind: z
      .enum(['full', 'incremental', 'differential'])
      .default('incremental')
      .meta({
        description:
          'The base of each member is chosen as that of a single backup; one that has none, or whose base cannot be ' +
          'trusted, is full, and its reason says why.',
      }),
    compression: z.enum(['none', 'zstd']).optional(),
    speedBytesPerSecond: speedField,
    onCbwError: z.enum(['break-snapshot', 'break-guest-write']).optional(),
    cbwTimeoutMs: z.int().min(1).max(600_000).optional(),
    scratchLimitBytes: bytesField.optional(),
  })
  .meta({ id: 'GroupBackup' });

export const createGroupSchema = z
  .strictObject({
    name: nameField.meta({ description: "Of the group, and of each member's checkpoint." }),
    description: descriptionField.default(''),
    volumes: z
      .array(refField)
      .min(1)
      .max(GROUP_MEMBERS_MAX)
      .optional()
      .meta({ description: `Ids or names of up to ${GROUP_MEMBERS_MAX} volumes; or a selector.` }),
    selector: selectorField,
    backup: backupSchema.optional().meta({ description: 'Each member is backed up, too.' }),
    completion: completionField.default('grouped'),
    dropOldest: dropOldestField,
    fenceLimitMs: fenceLimitField.default(FENCE_LIMIT_DEFAULT_MS),
    hooks: hooksField.default([]),
  })
  .refine(body => (body.volumes === undefined) !== (body.selector === undefined), {
    path: ['volumes'],
    error: 'or selector has to say which volumes it is about; send one of the two',
  })
  .meta({
    id: 'CreateGroup',
    examples: [
      { name: 'shop-monday', selector: 'app=shop', backup: { repository: 'nightly' } },
      {
        name: 'before-upgrade',
        volumes: ['web-01', 'db-01'],
        fenceLimitMs: 250,
        hooks: [{ webhook: 'https://db-01.example/freeze', timeoutMs: 5_000 }],
      },
    ],
  });

export const groupQuery = namedPageQuery.extend({
  state: z.enum(GROUP_STATES).optional().meta({ description: 'Only groups in this state.' }),
  kind: groupSchema.shape.kind.optional().meta({ description: 'Only groups of this kind.' }),
  volume: ref('volume').optional().meta({ description: 'Only groups that this volume is in.' }),
  storageNode: ref('storage node').optional().meta({ description: 'Only groups with volumes on it.' }),
  repository: ref('repository').optional().meta({ description: 'Only groups with backups in it.' }),
  policy: ref('policy')
    .optional()
    .meta({ description: 'Only groups that firings of it have made. Not for tokens with a scope.' }),
  since: momentField.optional().meta({ description: 'Only groups asked for at that moment or later.' }),
  until: momentField.optional().meta({ description: 'Only groups asked for before that moment.' }),
});

export const groupPageSchema = pageOf(groupSchema, 'GroupPage');
export const groupRunSchema = z
  .object({ run: runSchema, group: groupSchema.nullable() })
  .meta({ id: 'GroupRun', description: 'The group is null once it is deleted.' });

export const newGroupRunSchema = z
  .object({
    run: runSchema,
    group: groupSchema.nullable(),
    dropped: z
      .array(z.object({ volumeId: idField, volume: z.string(), id: idField, name: z.string() }))
      .meta({
        description:
          'Checkpoints of its volumes that go for the new ones, once these are safe. `result.dropped` of the run ' +
          'names those that went, `result.notDropped` those that could not, and why.',
      }),
  })
  .meta({ id: 'NewGroupRun' });

export type GroupJson = z.output<typeof groupSchema>;
export type CreateGroup = z.output<typeof createGroupSchema>;
