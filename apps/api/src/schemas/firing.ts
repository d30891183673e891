// Firings of policies: what was due, what became of each volume, and what would be due.
import { MEMBER_STATES } from '@tidemark/catalog';
import { z } from 'zod';
import { SIMULATED_DAYS_DEFAULT, SIMULATED_DAYS_MAX } from '../limits.ts';
import {
  bytesField,
  EXAMPLE_IDS,
  EXAMPLE_MOMENT,
  idField,
  momentField,
  pageOf,
  pageQuery,
  ref,
} from './common.ts';

const kind = z.enum(['full', 'incremental', 'differential', 'checkpoint']);
const count = z.int().min(0);

export const firingSchema = z
  .object({
    id: idField,
    policyId: idField,
    number: count.nullable().meta({ description: 'From 0; null: it was skipped, and counts for nothing.' }),
    cause: z.enum(['schedule', 'missed', 'asked']),
    dueAt: momentField,
    startAt: momentField.meta({ description: 'Due, and the jitter of the policy.' }),
    standsFor: z.int().min(1).meta({ description: 'Due moments that it stands for, with those missed.' }),
    state: z
      .enum(['planned', 'running', 'succeeded', 'failed', 'skipped'])
      .meta({ description: 'failed: some of its members did, or some of their replicas.' }),
    reason: z.string().nullable(),
    members: z.object({ waiting: count, admitted: count, succeeded: count, failed: count, skipped: count }),
    followUps: z
      .array(
        z.object({
          kind: z.enum(['prune', 'verify', 'replicate']),
          runId: idField.nullable(),
          reason: z.string().nullable().meta({ description: 'Why it was not started, or a replica failed.' }),
          againAt: momentField.nullable().meta({
            description: 'When a replica that could not be started, or failed, is tried again; null: not.',
          }),
        }),
      )
      .meta({ description: 'What was started after its backups.' }),
    createdAt: momentField,
    startedAt: momentField.nullable(),
    finishedAt: momentField.nullable(),
  })
  .meta({
    id: 'Firing',
    examples: [
      {
        id: EXAMPLE_IDS.firing,
        policyId: EXAMPLE_IDS.policy,
        number: 12,
        cause: 'schedule',
        dueAt: EXAMPLE_MOMENT,
        startAt: EXAMPLE_MOMENT,
        standsFor: 1,
        state: 'running',
        reason: null,
        members: { waiting: 3, admitted: 4, succeeded: 13, failed: 0, skipped: 0 },
        followUps: [],
        createdAt: EXAMPLE_MOMENT,
        startedAt: EXAMPLE_MOMENT,
        finishedAt: null,
      },
    ],
  });

const firingMemberSchema = z
  .object({
    volumeId: idField,
    volume: z.string(),
    storageNodeId: idField,
    kind,
    state: z.enum(MEMBER_STATES).meta({ description: 'admitted: its run was started.' }),
    reason: z.string().nullable().meta({ description: 'Why it waits, failed or was left out.' }),
    repositoryId: idField.nullable(),
    runId: idField.nullable(),
    backupId: idField.nullable(),
    estimateBytes: bytesField.nullable().meta({ description: 'What it was expected to take, at most.' }),
    attempts: count.meta({ description: 'Runs that were started for it.' }),
    notBefore: momentField.nullable(),
    admittedAt: momentField.nullable(),
    finishedAt: momentField.nullable(),
  })
  .meta({
    id: 'FiringMember',
    examples: [
      {
        volumeId: EXAMPLE_IDS.volume,
        volume: 'web-01',
        storageNodeId: EXAMPLE_IDS.storageNode,
        kind: 'incremental',
        state: 'waiting',
        reason: "storage node 'alpha' makes 4 backups already, as many as it may",
        repositoryId: EXAMPLE_IDS.repository,
        runId: null,
        backupId: null,
        estimateBytes: 4_194_304,
        attempts: 0,
        notBefore: null,
        admittedAt: null,
        finishedAt: null,
      },
    ],
  });

export const firingPageSchema = pageOf(firingSchema, 'FiringPage');
export const firingMemberPageSchema = pageOf(firingMemberSchema, 'FiringMemberPage');
export const memberQuery = pageQuery.extend({
  state: z.enum(MEMBER_STATES).optional().meta({ description: 'Only those in this state.' }),
});

export const simulateQuery = pageQuery.extend({
  days: z.coerce
    .number()
    .int()
    .min(1)
    .max(SIMULATED_DAYS_MAX)
    .default(SIMULATED_DAYS_DEFAULT)
    .meta({ description: 'From now on.' }),
  volume: ref('volume: only this one, and with all that is kept of it').optional(),
});

const simulatedFiringSchema = z
  .object({
    number: count,
    dueAt: momentField,
    startAt: momentField,
    volumes: z.array(
      z.object({
        volumeId: idField,
        volume: z.string(),
        kind,
        kept: count.meta({ description: 'Backups after the prune.' }),
        keeps: z
          .array(z.object({ pointInTime: momentField, reasons: z.array(z.string()) }))
          .nullable()
          .meta({ description: 'Each of them, with what keeps it; null unless one volume was asked for.' }),
        pruned: z.array(
          z.object({
            pointInTime: momentField,
            backup: idField.nullable().meta({ description: 'Null: it would be made by the policy itself.' }),
            awaitedBy: z.array(z.string()).meta({
              description:
                'Who has yet to copy it to another repository as things are now: it goes with the first prune after ' +
                'that was done or given up.',
            }),
          }),
        ),
      }),
    ),
  })
  .meta({
    id: 'SimulatedFiring',
    examples: [
      {
        number: 12,
        dueAt: EXAMPLE_MOMENT,
        startAt: EXAMPLE_MOMENT,
        volumes: [
          {
            volumeId: EXAMPLE_IDS.volume,
            volume: 'web-01',
            kind: 'incremental',
            kept: 7,
            keeps: null,
            pruned: [{ pointInTime: '2026-11-14T08:00:00.000Z', backup: EXAMPLE_IDS.backup, awaitedBy: [] }],
          },
        ],
      },
    ],
  });

export const simulationSchema = pageOf(simulatedFiringSchema, 'Simulation');

export type FiringJson = z.output<typeof firingSchema>;
export type FiringMemberJson = z.output<typeof firingMemberSchema>;
export type SimulateQuery = z.output<typeof simulateQuery>;
export type SimulatedFiringJson = z.output<typeof simulatedFiringSchema>;
