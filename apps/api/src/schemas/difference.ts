// Differences between storage nodes, repositories and catalog.
import { z } from 'zod';
import { EXAMPLE_IDS, EXAMPLE_MOMENT, idField, momentField, pageOf, pageQuery, ref } from './common.ts';
import { runSchema } from './run.ts';

const differenceState = z.enum(['open', 'repaired', 'gone']);

export const differenceSchema = z
  .object({
    id: idField,
    kind: z.string().meta({ description: 'Its name.', examples: ['volume-unknown'] }),
    subjectType: z.string().meta({
      description: 'storage-node, volume, checkpoint, snapshot, commit, group, repository, backup or run',
    }),
    subjectId: idField,
    storageNodeId: idField.nullable(),
    state: differenceState.meta({ description: 'repaired: by us; gone: seen no more.' }),
    message: z.string().meta({ description: 'What it is, and what can be done about it.' }),
    actions: z.array(z.string()).meta({ description: 'Repairs that can be asked for.' }),
    failure: z.string().nullable().meta({ description: 'Why its own repair did not come about.' }),
    data: z.record(z.string(), z.unknown()),
    firstSeenAt: momentField,
    lastSeenAt: momentField,
    endedAt: momentField.nullable(),
  })
  .meta({
    id: 'Difference',
    examples: [
      {
        id: 'd0e1f2a3-5b6c-4d7e-8f9a-0b1c2d3e4f09',
        kind: 'volume-missing',
        subjectType: 'volume',
        subjectId: EXAMPLE_IDS.volume,
        storageNodeId: EXAMPLE_IDS.storageNode,
        state: 'open',
        message: "Its storage node does not have volume 'web-01'.",
        actions: ['forget'],
        failure: null,
        data: {},
        firstSeenAt: EXAMPLE_MOMENT,
        lastSeenAt: EXAMPLE_MOMENT,
        endedAt: null,
      },
    ],
  });

export const differenceQuery = pageQuery.extend({
  state: differenceState.optional().meta({ description: 'Only those in this state.' }),
  storageNode: ref('storage node')
    .optional()
    .meta({ description: 'Only those of this storage node, by id or name.' }),
});

export const reconcileSchema = z
  .strictObject({
    storageNode: ref('storage node').optional().meta({ description: 'All that answer, unless given.' }),
  })
  .meta({ id: 'Reconcile', examples: [{ storageNode: 'alpha' }] });

export const repairSchema = z
  .strictObject({ action: z.string().min(1).max(32).meta({ description: 'One of its `actions`.' }) })
  .meta({ id: 'RepairDifference', examples: [{ action: 'forget' }] });

export const differencePageSchema = pageOf(differenceSchema, 'DifferencePage');
export const reconcileRunsSchema = z
  .object({
    runs: z.array(runSchema),
    skipped: z.array(z.string()).meta({ description: 'Names of storage nodes that do not answer.' }),
  })
  .meta({ id: 'ReconcileRuns' });
export const differenceRunSchema = z
  .object({ run: runSchema, difference: differenceSchema })
  .meta({ id: 'DifferenceRun' });

export type DifferenceJson = z.output<typeof differenceSchema>;
