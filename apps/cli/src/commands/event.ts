// tidemark event
import { type EventQuery, followEvents, type Query, type Schema, type Told } from '@tidemark/client';
import type { Command } from 'commander';
import { type Column, moment, size } from '../output.ts';
import { Context, parseCount, parseMoment, type Surroundings, withPage } from './context.ts';

const LIST_DEFAULT = 100;

const columns: readonly Column<Schema<'Event'>>[] = [
  ['ID', event => event.id],
  ['TIME', event => moment(event.createdAt)],
  ['KIND', event => event.kind],
  ['SUBJECT', event => `${event.subjectType} ${event.subjectId}`],
  ['RUN', event => event.runId],
  ['DATA', event => (Object.keys(event.data).length > 0 ? JSON.stringify(event.data) : null)],
];

/** Options of the group, which its commands have, too. */
function withFilter(group: Command): Command {
  return group
    .option('--kind <kinds>', 'only these kinds, with commas between them')
    .option('--subject <id>', 'only about the one with this id')
    .option('--run <id>', 'only of this run')
    .option('--volume <volume>', 'only about this volume, its checkpoints, backups and runs')
    .option('--since <moment>', 'only since then', parseMoment)
    .option('--after <id>', 'only events after this one', parseCount);
}

function filterOf(command: Command): EventQuery {
  const { kind, subject, run, volume, since, after } = command.optsWithGlobals<EventQuery>();
  return { kind, subject, run, volume, since, after };
}

function lineOf(told: Told): string {
  if ('event' in told) return columns.map(([, value]) => value(told.event) ?? '-').join('  ');
  const { runId, runKind, step, currentBytes, totalBytes } = told.progress;
  return `-  run.progress  ${runKind} ${runId}  ${step ?? '-'}  ${size(currentBytes)} of ${size(totalBytes)}`;
}

export function eventCommands(program: Command, around: Surroundings): void {
  const group = program.command('event').description('what changed, in its order');

  withFilter(group)
    .option('--follow', 'print events as they come; with --json as one line each')
    .option('--count <count>', 'end after so many events', parseCount)
    .action(async ({ follow, count }, command) => {
      if (follow !== true) return command.help({ error: true });
      const { client, output } = new Context(command, around);
      let left = count ?? Number.POSITIVE_INFINITY;
      for await (const told of followEvents(client, filterOf(command), { note: text => output.note(text) })) {
        await output.line(output.isJson ? JSON.stringify(Object.values(told)[0]) : lineOf(told));
        if ('event' in told && --left <= 0) return;
      }
    });

  const words =
    'list events in the order of time: the newest, or with --since or --after the first from there on';
  withPage(group.command('list').description(words), LIST_DEFAULT).action(
    async (options: Query<'/v1/events'>, command) => {
      const { client, output } = new Context(command, around);
      const filter = filterOf(command);
      const isBack = filter.since === undefined && filter.after === undefined;
      const order = isBack ? ('newest-first' as const) : ('oldest-first' as const);
      const query = { limit: LIST_DEFAULT, ...options, ...filter, order };
      const page = await client.list('/v1/events', { params: { query } });
      output.list({ ...page, items: isBack ? page.items.toReversed() : page.items }, columns);
    },
  );
}
