// tidemark repository
import type { Command } from 'commander';
import type { Repository, Run } from '../answers.ts';
import type { Query } from '../client.ts';
import { type Column, recordOrGone, size } from '../output.ts';
import { parseSize } from '../sizes.ts';
import { Context, type Surroundings, segment, withPage, withWait } from './context.ts';

const PATH = '/v1/repositories';

const columns: readonly Column<Repository>[] = [
  ['NAME', repository => repository.name],
  ['STATE', repository => repository.state],
  ['STORAGE NODE', repository => repository.storageNode],
  ['LIMIT', repository => size(repository.limitBytes)],
];

interface Answer {
  run: Run;
  repository: Repository | null;
}

export function repositoryCommands(program: Command, around: Surroundings): void {
  const group = program.command('repository').description('places on storage nodes that hold backups');

  withWait(group.command('create <name>').description('create a repository'))
    .requiredOption('--storage-node <ref>', 'storage node that will hold it')
    .option('--limit <size>', 'most bytes that its backups may take, like 500GiB', parseSize)
    .action(async (name, options, command) => {
      const context = new Context(command, around);
      const body = { name, storageNode: options.storageNode, limitBytes: options.limit };
      const started = await context.client.post<Answer>(PATH, body);
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({
          repository: await context.client.get<Repository>(`${PATH}/${segment(name)}`),
        }),
        forPeople: ({ repository }) => recordOrGone(repository, columns),
      });
    });

  withPage(group.command('list').description('list repositories')).action(async (options: Query, command) => {
    const { client, output } = new Context(command, around);
    output.list(await client.list<Repository>(PATH, options), columns);
  });

  group
    .command('show <repository>')
    .description('look at a repository')
    .action(async (ref, _options, command) => {
      const { client, output } = new Context(command, around);
      const repository = await client.get<Repository>(`${PATH}/${segment(ref)}`);
      output.show(repository, [['ID', item => item.id], ...columns]);
    });
}
