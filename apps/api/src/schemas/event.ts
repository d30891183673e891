// Events: what changed, in the order in which it changed.
import { z } from 'zod';
import { EXAMPLE_IDS, EXAMPLE_MOMENT, idField, limitField, momentField, pageOf } from './common.ts';

export const eventSchema = z
  .object({
    id: z.int().min(1).meta({ description: 'Grows in the order in which the changes were committed.' }),
    kind: z.string().meta({ examples: ['volume-ready'] }),
    subjectType: z
      .string()
      .meta({ description: 'storage-node, volume, checkpoint, snapshot, commit, repository, backup or run' }),
    subjectId: idField,
    runId: idField.nullable(),
    data: z.record(z.string(), z.unknown()),
    createdAt: momentField,
  })
  .meta({
    id: 'Event',
    examples: [
      {
        id: 42,
        kind: 'volume-ready',
        subjectType: 'volume',
        subjectId: EXAMPLE_IDS.volume,
        runId: EXAMPLE_IDS.run,
        data: { exportUri: 'nbd://127.0.0.1:10809/web-01' },
        createdAt: EXAMPLE_MOMENT,
      },
    ],
  });

const eventId = z.coerce.number().int().min(0);

export const eventQuery = z.strictObject({
  after: eventId
    .optional()
    .meta({ description: 'Only events after the one with this id; give the last seen id to follow along.' }),
  cursor: eventId.optional().meta({ description: 'The same as `after`, to page as through any list.' }),
  limit: limitField,
});

export const eventPageSchema = pageOf(eventSchema, 'EventPage');

export type EventJson = z.output<typeof eventSchema>;
