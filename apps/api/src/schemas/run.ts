// Runs: one execution of an operator's request, with its steps and its progress.
import { RUN_KINDS } from '@tidemark/catalog';
import { z } from 'zod';
import { WAIT_TIMEOUT_DEFAULT_MS, WAIT_TIMEOUT_MAX_MS } from '../limits.ts';
import {
  bytesField,
  EXAMPLE_IDS,
  EXAMPLE_MOMENT,
  idField,
  momentField,
  pageOf,
  pageQuery,
  refField,
} from './common.ts';
import { RUN_RESULTS } from './run-result.ts';

const RUN_STATES = ['queued', 'running', 'succeeded', 'failed', 'cancelled'] as const;

const runKind = z.enum(RUN_KINDS);
const runState = z.enum(RUN_STATES);

const errorSchema = z.object({ code: z.string(), message: z.string() }).nullable();

const runStepSchema = z
  .object({
    name: z.string().meta({ examples: ['prepare-target'] }),
    state: z.string().meta({ description: 'running, succeeded, failed or undone' }),
    startedAt: momentField.nullable(),
    finishedAt: momentField.nullable(),
    error: errorSchema,
  })
  .meta({ id: 'RunStep' });

export const runSchema = z
  .object({
    id: idField,
    kind: runKind,
    state: runState,
    attempt: z.int().min(1).meta({ description: 'How often it was handed to a worker.' }),
    restarts: z
      .int()
      .min(0)
      .meta({ description: 'How often it began anew, such as a backup from a new point in time.' }),
    paused: z.boolean().meta({ description: 'Its job is to stand still.' }),
    cancelRequested: z.boolean().meta({ description: 'It was asked to stop, and does so soon.' }),
    finishRequested: z.boolean().meta({ description: 'An export that was asked to end well.' }),
    undoing: z.boolean().meta({ description: 'It goes backwards: what its steps made is being undone.' }),
    cleanupPending: z.boolean().meta({
      description:
        'It has ended, but a storage node did not answer while its steps were undone: that is tried again.',
    }),
    speedBytesPerSecond: bytesField
      .nullable()
      .meta({ description: 'As last asked for while it runs; 0: no limit; null: as the request has it.' }),
    volumeId: idField.nullable(),
    backupId: idField.nullable(),
    checkpointId: idField.nullable(),
    progress: z.object({
      currentBytes: bytesField,
      totalBytes: bytesField,
      sentBytes: bytesField,
      dirtyBytes: bytesField,
    }),
    reason: z.string().nullable().meta({ description: 'Why a backup is full or incremental.' }),
    requestedBy: z
      .string()
      .meta({ description: 'Name of the API token that it was asked for with; `local` without one.' }),
    request: z
      .record(z.string(), z.unknown())
      .meta({ description: 'What was asked for, references resolved to ids.' }),
    result: z
      .record(z.string(), z.unknown())
      .meta({ anyOf: RUN_RESULTS })
      .nullable()
      .meta({ description: 'What it has to say, by its kind; null until it has.' }),
    error: errorSchema,
    ending: z
      .string()
      .nullable()
      .meta({ description: 'Of a cancelled run: what is undone, and what stays. Null for any other.' }),
    checkpointAt: momentField
      .nullable()
      .meta({ description: 'The point in time that a backup, checkpoint or snapshot holds.' }),
    createdAt: momentField,
    startedAt: momentField.nullable(),
    finishedAt: momentField.nullable(),
    steps: z.array(runStepSchema),
  })
  .meta({
    id: 'Run',
    examples: [
      {
        id: EXAMPLE_IDS.run,
        kind: 'create-volume',
        state: 'succeeded',
        attempt: 1,
        restarts: 0,
        paused: false,
        cancelRequested: false,
        finishRequested: false,
        undoing: false,
        cleanupPending: false,
        speedBytesPerSecond: null,
        volumeId: EXAMPLE_IDS.volume,
        backupId: null,
        checkpointId: null,
        progress: { currentBytes: 0, totalBytes: 0, sentBytes: 0, dirtyBytes: 0 },
        reason: null,
        requestedBy: 'ops',
        request: { volumeId: EXAMPLE_IDS.volume, name: 'web-01', sizeBytes: 1_073_741_824, format: 'raw' },
        result: {},
        error: null,
        ending: null,
        checkpointAt: null,
        createdAt: EXAMPLE_MOMENT,
        startedAt: EXAMPLE_MOMENT,
        finishedAt: EXAMPLE_MOMENT,
        steps: [
          {
            name: 'create',
            state: 'succeeded',
            startedAt: EXAMPLE_MOMENT,
            finishedAt: EXAMPLE_MOMENT,
            error: null,
          },
        ],
      },
    ],
  });

export const runPageSchema = pageOf(runSchema, 'RunPage');
export const runAnswerSchema = z.object({ run: runSchema }).meta({ id: 'RunAnswer' });

export const runSpeedSchema = z
  .strictObject({ bytesPerSecond: bytesField.meta({ description: '0: no limit.' }) })
  .meta({ id: 'RunSpeed', examples: [{ bytesPerSecond: 52_428_800 }] });

export const runQuery = pageQuery.extend({
  state: runState.optional().meta({ description: 'Only runs in this state.' }),
  kind: runKind.optional().meta({ description: 'Only runs of this kind.' }),
  volume: refField.optional().meta({ description: 'Only runs about this volume, by its id or name.' }),
  storageNode: refField.optional().meta({ description: 'Only runs on this storage node.' }),
  repository: refField.optional().meta({ description: 'Only runs about this repository.' }),
  requestedBy: z.string().min(1).max(128).optional().meta({ description: 'Only what they asked for.' }),
  since: momentField.optional().meta({ description: 'Only runs asked for at that moment or later.' }),
  until: momentField.optional().meta({ description: 'Only runs asked for before that moment.' }),
});

/** How long a call that starts a run stays open. */
export const waitQuery = z.strictObject({
  wait: z
    .enum(['accepted', 'checkpoint', 'done'])
    .default('accepted')
    .meta({
      description:
        'accepted: answer 202 at once. checkpoint: answer 202 when the point in time is taken ' +
        '(runs without one: as done). done: answer when the run has ended.',
    }),
  waitTimeoutMs: z.coerce
    .number()
    .int()
    .min(1)
    .max(WAIT_TIMEOUT_MAX_MS)
    .default(WAIT_TIMEOUT_DEFAULT_MS)
    .meta({ description: 'After this the answer is the problem `wait-timed-out`; the run goes on.' }),
});

export type RunJson = z.output<typeof runSchema>;
export type WaitQuery = z.output<typeof waitQuery>;
