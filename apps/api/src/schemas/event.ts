// Events: what changed, in the order in which it changed.
import type { RunningRun } from '@tidemark/catalog';
import { eventKindsFault } from '@tidemark/proto';
import { z } from 'zod';
import { EVENT_KINDS_MAX } from '../limits.ts';
import {
  bytesField,
  EXAMPLE_IDS,
  EXAMPLE_MOMENT,
  idField,
  limitField,
  momentField,
  pageOf,
  refField,
} from './common.ts';

const eventSchema = z
  .object({
    id: z.int().min(1).meta({ description: 'Grows in the order in which the changes were committed.' }),
    kind: z.string().meta({ description: 'One of those in docs/EVENTS.md.', examples: ['volume-ready'] }),
    subjectType: z.string().meta({
      description:
        'storage-node, volume, checkpoint, snapshot, commit, group, repository, backup, policy or run',
    }),
    subjectId: idField,
    runId: idField.nullable(),
    volumeId: idField
      .nullable()
      .meta({ description: 'The volume that it is about, itself or by its subject or its run.' }),
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
        volumeId: EXAMPLE_IDS.volume,
        data: { exportUri: 'nbd://127.0.0.1:10809/web-01' },
        createdAt: EXAMPLE_MOMENT,
      },
    ],
  });

/** The kind of the events that streams alone have: how far a run is. */
export const PROGRESS_KIND = 'run.progress';

const runProgressSchema = z
  .object({
    runId: idField,
    runKind: z.string(),
    volumeId: idField.nullable(),
    step: z.string().nullable(),
    currentBytes: bytesField,
    totalBytes: bytesField,
    sentBytes: bytesField,
    dirtyBytes: bytesField,
  })
  .meta({
    id: 'RunProgressEvent',
    examples: [
      {
        runId: EXAMPLE_IDS.run,
        runKind: 'backup',
        volumeId: EXAMPLE_IDS.volume,
        step: 'copy',
        currentBytes: 4_194_304,
        totalBytes: 1_073_741_824,
        sentBytes: 4_194_304,
        dirtyBytes: 1_073_741_824,
      },
    ],
  });

export function toProgressJson({ id, kind, ...rest }: RunningRun): z.output<typeof runProgressSchema> {
  return { runId: id, runKind: kind, ...rest };
}

export const eventStreamSchema = z
  .union([eventSchema, runProgressSchema])
  .meta({ id: 'EventStreamData', description: 'In `data:` of each event of the stream.' });

const eventId = z.coerce.number().int().min(0);

/** Names with commas between them, or the parameter several times. */
const kindsField = z
  .union([z.string(), z.array(z.string())])
  .transform(given => [given].flat().flatMap(text => text.split(',').filter(kind => kind !== '')))
  .refine(kinds => kinds.length <= EVENT_KINDS_MAX, `names more than ${EVENT_KINDS_MAX} kinds; send fewer`)
  .refine(kinds => eventKindsFault(kinds.filter(kind => kind !== PROGRESS_KIND)) === null, {
    error: issue => eventKindsFault((issue.input as string[]).filter(kind => kind !== PROGRESS_KIND)) ?? '',
  });

export const eventQuery = z.strictObject({
  after: eventId
    .optional()
    .meta({ description: 'Only events after the one with this id; give the last seen id to follow along.' }),
  cursor: eventId.optional().meta({
    description:
      '`nextCursor` of the page before, whose `order` is to be the same. Of the oldest first the same as `after`.',
  }),
  limit: limitField,
  order: z
    .enum(['oldest-first', 'newest-first'])
    .default('oldest-first')
    .meta({ description: 'Which come first. Streams tell the oldest first.' }),
  kind: kindsField.optional().meta({
    type: 'string',
    description: 'Only events of these kinds (docs/EVENTS.md); several with commas between them.',
  }),
  subject: idField.optional().meta({ description: 'Only events about the one with this id.' }),
  run: idField.optional().meta({ description: 'Only events of this run.' }),
  volume: refField.optional().meta({
    description: 'Only events about this volume, its checkpoints, snapshots, backups and runs. Id or name.',
  }),
  since: momentField.optional().meta({ description: 'Only events since then.' }),
  follow: z
    .enum(['true', 'false'])
    .optional()
    .meta({ description: '`true`: as a stream, like the header `accept: text/event-stream`.' }),
});

export type EventQuery = z.output<typeof eventQuery>;

export const eventPageSchema = pageOf(eventSchema, 'EventPage');

export type EventJson = z.output<typeof eventSchema>;
