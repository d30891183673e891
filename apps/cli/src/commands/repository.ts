// tidemark repository
import { type Query, resultOf, type Schema } from '@tidemark/client';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type Column, recordOrGone, size } from '../output.ts';
import { parseSize } from '../sizes.ts';
import { at, Context, type Surroundings, withPage, withWait } from './context.ts';
import { labelCommand, labelText, withLabels, withSelector } from './labels.ts';

type Repository = Schema<'Repository'>;

const PATH = '/v1/repositories';
const ONE = `${PATH}/{repository}` as const;

const columns: readonly Column<Repository>[] = [
  ['NAME', repository => repository.name],
  ['STATE', repository => repository.state],
  ['STORAGE NODE', repository => repository.storageNode],
  ['LIMIT', repository => size(repository.limitBytes)],
  ['USED', repository => size(repository.usedBytes)],
  ['AVAILABLE', repository => size(repository.availableBytes)],
  ['COMPRESSION', repository => repository.compression],
  ['VERIFIED A DAY', repository => `${repository.verifyPercentPerDay} %`],
];

const percent = (text: string): number => {
  const value = Number(text);
  if (text.trim() !== '' && value >= 0 && value <= 100) return value;
  throw new InvalidArgumentError('Give a number from 0 to 100.');
};

function scanReport(result: Schema<'ScanResult'>): string {
  const { found, added, updated, missing, problems } = result;
  return [
    `${found} backups found: ${added.count} new to the catalog, ${updated.count} changed, ` +
      `${missing.count} in the catalog and not in the folder`,
    ...missing.ids.map(id => `missing: ${id}`),
    ...problems.map(({ what, message }) => `${what}: ${message}`),
  ].join('\n');
}

export function repositoryCommands(program: Command, around: Surroundings): void {
  const group = program.command('repository').description('places on storage nodes that hold backups');

  withLabels(withWait(group.command('create <name>').description('create a repository')))
    .requiredOption('--storage-node <ref>', 'storage node that will hold it')
    .option('--limit <size>', 'most bytes that its backups may take, like 500GiB', parseSize)
    .addOption(
      new Option('--compression <type>', 'how backups are stored that do not say')
        .choices(['none', 'zstd'])
        .default('none'),
    )
    .option('--verify-percent <percent>', 'share of its backups to verify each day', percent)
    .action(async (name, options, command) => {
      const context = new Context(command, around);
      const { storageNode, limit: limitBytes, compression, verifyPercent: verifyPercentPerDay } = options;
      const { label: labels } = options;
      const body = { name, storageNode, limitBytes, compression, verifyPercentPerDay, labels };
      const started = await context.client.post(PATH, { body });
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({ repository: await context.client.get(ONE, at({ repository: name })) }),
        forPeople: ({ repository }) => recordOrGone(repository, columns),
      });
    });

  withSelector(withPage(group.command('list').description('list repositories'))).action(
    async (query: Query<typeof PATH>, command) => {
      const { client, output } = new Context(command, around);
      output.list(await client.list(PATH, { params: { query } }), columns);
    },
  );

  group
    .command('show <repository>')
    .description('look at a repository')
    .action(async (ref, _options, command) => {
      const { client, output } = new Context(command, around);
      const repository = await client.get(ONE, at({ repository: ref }));
      output.show(repository, [['ID', item => item.id], ...columns, ['LABELS', labelText]]);
    });

  labelCommand(group, {
    noun: 'repository',
    look: ({ client }, ref) => client.get(ONE, at({ repository: ref })),
    change: ({ client }, ref, labels) => client.patch(ONE, { ...at({ repository: ref }), body: { labels } }),
    around,
  });
  changeCommands(group, around);
}

function changeCommands(group: Command, around: Surroundings): void {
  group
    .command('set <repository>')
    .description('change what is done with a repository')
    .requiredOption('--verify-percent <percent>', 'share of its backups to verify each day', percent)
    .action(async (ref, options, command) => {
      const { client, output } = new Context(command, around);
      const body = { verifyPercentPerDay: options.verifyPercent };
      output.show(await client.patch(ONE, { ...at({ repository: ref }), body }), columns);
    });

  withWait(
    group.command('scan <repository>').description('make the catalog say what lies in its folder'),
  ).action(async (ref, options, command) => {
    const context = new Context(command, around);
    const started = await context.client.post(`${ONE}/scan`, at({ repository: ref }));
    await context.finish(started, {
      wait: options.wait,
      refresh: async () => ({
        repository: await context.client.get(ONE, at({ repository: ref })),
      }),
      forPeople: ({ run }) => scanReport(resultOf(run, 'scan-repository')!),
    });
  });

  withWait(group.command('delete <repository>').description('delete a repository without backups')).action(
    async (ref, options, command) => {
      const context = new Context(command, around);
      const started = await context.client.delete(ONE, at({ repository: ref }));
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({ repository: null }),
        forPeople: () => `deleted repository ${ref}`,
      });
    },
  );
}
