// tidemark event
import type { Command } from 'commander';
import type { TidemarkEvent } from '../answers.ts';
import type { Query } from '../client.ts';
import { type Column, moment } from '../output.ts';
import { Context, parseCount, type Surroundings, withPage } from './context.ts';

const LIST_DEFAULT = 100;

const columns: readonly Column<TidemarkEvent>[] = [
  ['ID', event => event.id],
  ['TIME', event => moment(event.createdAt)],
  ['KIND', event => event.kind],
  ['SUBJECT', event => `${event.subjectType} ${event.subjectId}`],
  ['RUN', event => event.runId],
  ['DATA', event => (Object.keys(event.data).length > 0 ? JSON.stringify(event.data) : null)],
];

export function eventCommands(program: Command, around: Surroundings): void {
  const group = program.command('event').description('what changed, in its order');

  withPage(group.command('list').description('list events, oldest first'), LIST_DEFAULT)
    .option('--after <id>', 'only events after this one', parseCount)
    .action(async (options: Query, command) => {
      const { client, output } = new Context(command, around);
      output.list(
        await client.list<TidemarkEvent>('/v1/events', { limit: LIST_DEFAULT, ...options }),
        columns,
      );
    });
}
