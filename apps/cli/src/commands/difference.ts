// tidemark reconcile, tidemark difference
import { type Command, Option } from 'commander';
import type { Difference, Run } from '../answers.ts';
import type { Query } from '../client.ts';
import { type Column, moment } from '../output.ts';
import { watchRun } from '../run-watch.ts';
import { Context, type Surroundings, segment, withPage, withWait } from './context.ts';

const PATH = '/v1/differences';

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

interface Compared {
  runs: Run[];
  skipped: string[];
}

interface Repaired {
  run: Run;
  difference: Difference;
}

export function differenceCommands(program: Command, around: Surroundings): void {
  withWait(program.command('reconcile').description('compare storage nodes with the catalog'))
    .option('--storage-node <ref>', 'only this one')
    .action(async ({ storageNode, wait }, command) => {
      const { client, output } = new Context(command, around);
      const started = await client.post<Compared>('/v1/reconcile', { storageNode });
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
    .action(async (options: Query, command) => {
      const { client, output } = new Context(command, around);
      output.list(await client.list<Difference>(PATH, options), columns);
    });

  group
    .command('show <difference>')
    .description('look at a difference')
    .action(async (id, _options, command) => {
      const { client, output } = new Context(command, around);
      output.show(await client.get<Difference>(`${PATH}/${segment(id)}`), details);
    });

  withWait(group.command('repair <difference> <action>').description('repair it, as its list says')).action(
    async (id, action, options, command) => {
      const context = new Context(command, around);
      const path = `${PATH}/${segment(id)}`;
      const started = await context.client.post<Repaired>(`${path}/repair`, { action });
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({ difference: await context.client.get<Difference>(path) }),
        forPeople: ({ difference }) => `${difference.kind} ${difference.state}: ${action}`,
      });
    },
  );
}

function describe({ runs, skipped }: Compared, wait: boolean): string {
  const sum = (name: string) => runs.reduce((total, run) => total + Number(run.result?.[name] ?? 0), 0);
  const away = skipped.length > 0 ? `; not asked, as they do not answer: ${skipped.join(', ')}` : '';
  if (!wait) return `comparing ${runs.length} storage nodes${away}`;
  const open = sum('open');
  const next = open > 0 ? '; see them with: tidemark difference list' : '';
  return `compared ${runs.length} storage nodes: ${sum('repaired')} repaired, ${open} open${away}${next}`;
}
