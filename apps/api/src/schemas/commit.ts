// Commits: images of a volume merged into one below, with the snapshots that this overwrites.
import { z } from 'zod';
import { EXAMPLE_IDS, EXAMPLE_MOMENT, idField, momentField, pageOf, ref, speedField } from './common.ts';
import { runSchema } from './run.ts';

const COMMIT_STATES = [
  'starting',
  'copying',
  'ready',
  'pivoting',
  'keeping',
  'done',
  'failed',
  'cancelled',
] as const;

const namedSnapshot = z.object({ id: idField, name: z.string() });

export const commitSchema = z
  .object({
    id: idField,
    volumeId: idField,
    runId: idField.meta({ description: 'The run that started it; cancel that one while it copies.' }),
    state: z
      .enum(COMMIT_STATES)
      .meta({ description: 'An active one that is ready waits for pivot or keep, however long.' }),
    top: namedSnapshot.nullable().meta({ description: 'Null: what the guest writes to.' }),
    base: namedSnapshot
      .nullable()
      .meta({ description: 'Null: the oldest image, or with `shallow` the one right below the top.' }),
    shallow: z.boolean(),
    active: z.boolean(),
    delete: z.boolean(),
    decision: z.enum(['pivot', 'keep']).nullable(),
    lostSnapshots: z
      .array(namedSnapshot)
      .meta({ description: 'Snapshots that it overwrote; known from `copying` on.' }),
    error: z.object({ code: z.string(), message: z.string() }).nullable(),
    createdAt: momentField,
    finishedAt: momentField.nullable(),
  })
  .meta({
    id: 'Commit',
    examples: [
      {
        id: EXAMPLE_IDS.commit,
        volumeId: EXAMPLE_IDS.volume,
        runId: EXAMPLE_IDS.run,
        state: 'ready',
        top: null,
        base: null,
        shallow: false,
        active: true,
        delete: true,
        decision: null,
        lostSnapshots: [{ id: EXAMPLE_IDS.snapshot, name: 'before-upgrade' }],
        error: null,
        createdAt: EXAMPLE_MOMENT,
        finishedAt: null,
      },
    ],
  });

export const createCommitSchema = z
  .strictObject({
    top: ref('snapshot whose image is merged; by default what the guest writes to').optional(),
    base: ref('snapshot whose image is merged into, older than the top; by default the oldest').optional(),
    shallow: z
      .boolean()
      .default(false)
      .meta({ description: 'Merge into the image right below the top; instead of `base`.' }),
    active: z.boolean().default(false).meta({
      description:
        'Needed, as true, where no `top` is named: such a commit takes two phases, and waits for pivot or keep.',
    }),
    delete: z
      .boolean()
      .default(true)
      .meta({
        description:
          'Delete the files of merged images once all they hold is in the base; otherwise they stay on the ' +
          'storage node, where nothing refers to them any more.',
      }),
    speedBytesPerSecond: speedField,
  })
  .refine(body => !body.shallow || body.base === undefined, {
    path: ['base'],
    error: 'does not go with shallow, which names the base already; send one of the two',
  })
  .meta({
    id: 'CreateCommit',
    examples: [{ top: 'before-upgrade', shallow: true }, { active: true }],
  });

export const commitPageSchema = pageOf(commitSchema, 'CommitPage');
export const commitRunSchema = z
  .object({ run: runSchema, commit: commitSchema.nullable() })
  .meta({ id: 'CommitRun' });

export type CommitJson = z.output<typeof commitSchema>;
export type CreateCommit = z.output<typeof createCommitSchema>;
