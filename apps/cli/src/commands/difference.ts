// tidemark reconcile, tidemark difference
import { type Query, resultOf, type Schema } from '@tidemark/client';
import { type Command, Option } from 'commander';
import { type Column, moment } from '../output.ts';
import { watchRun } from '../run-watch.ts';
import { at, Context, type Surroundings, withPage, withWait } from './context.ts';

type Difference = Schema<'Difference'>;
type Run = Schema<'Run'>;

const columns: readonly Column<Difference>[] = [
  ['ID', difference => difference.id],
  ['NAME', difference => difference.kind],
  ['STATE', difference => difference.state],
  ['ABOUT', difference => `${difference.subjectType} ${difference.subjectId}`],
  ['REPAIRS', difference => difference.actions.join(', ')],
  ['SINCE', difference => moment(difference.firstSeenAt)],
  ['MESSAGE', difference => difference.message],
];

const details: readonly Column<Difference>[] = [
  ...columns,
  ['LAST SEEN', difference => moment(difference.lastSeenAt)],
  ['ENDED', difference => moment(difference.endedAt)],
  ['FAILURE', difference => difference.failure],
];

export function differenceCommands(program: Command, around: Surroundings): void {
  withWait(program.command('reconcile').description('compare storage nodes with the catalog'))
    .option('--storage-node <ref>', 'only this one')
    .action(async ({ storageNode, wait }, command) => {
      const { client, output } = new Context(command, around);
      const started = await client.post('/v1/reconcile', { body: { storageNode } });
      const runs: Run[] = [];
      for (const run of started.runs) runs.push(wait ? await watchRun(client, output, run) : run);
      output.print({ ...started, runs }, () => describe({ ...started, runs }, wait));
    });

  const group = program.command('difference').description('where storage nodes and catalog do not agree');

  withPage(group.command('list').description('list differences, seen first comes first'))
    .addOption(
      new Option('--state <state>', 'only those in this state')
        .choices(['open', 'repaired', 'gone'])
        .default('open'),
    )
    .option('--storage-node <ref>', 'only those of this one')
    .action(async (query: Query<'/v1/differences'>, command) => {
      const { client, output } = new Context(command, around);
      output.list(await client.list('/v1/differences', { params: { query } }), columns);
    });

  group
    .command('show <difference>')
    .description('look at a difference')
    .action(async (id, _options, command) => {
      const { client, output } = new Context(command, around);
      output.show(await client.get('/v1/differences/{difference}', at({ difference: id })), details);
    });

  withWait(group.command('repair <difference> <action>').description('repair it, as its list says')).action(
    async (id, action, options, command) => {
      const context = new Context(command, around);
      const one = at({ difference: id });
      const body = { action };
      const started = await context.client.post('/v1/differences/{difference}/repair', { ...one, body });
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({ difference: await context.client.get('/v1/differences/{difference}', one) }),
        forPeople: ({ difference }) => `${difference.kind} ${difference.state}: ${action}`,
      });
    },
  );
}

function describe({ runs, skipped }: Schema<'ReconcileRuns'>, wait: boolean): string {
  const sum = (name: 'repaired' | 'open') =>
    runs.reduce((total, run) => total + (resultOf(run, 'reconcile')?.[name] ?? 0), 0);
  const away = skipped.length > 0 ? `; not asked, as they do not answer: ${skipped.join(', ')}` : '';
  if (!wait) return `comparing ${runs.length} storage nodes${away}`;
  const open = sum('open');
  const next = open > 0 ? '; see them with: tidemark difference list' : '';
  return `compared ${runs.length} storage nodes: ${sum('repaired')} repaired, ${open} open${away}${next}`;
}
