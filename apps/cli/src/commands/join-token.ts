// tidemark storage-node join-token
import type { Query, Schema } from '@tidemark/client';
import type { Command } from 'commander';
import { type Column, moment, record } from '../output.ts';
import { at, Context, parseCount, type Surroundings, withPage } from './context.ts';

const PATH = '/v1/join-tokens';
const MINUTE_MS = 60_000;

const columns: readonly Column<Schema<'JoinToken'>>[] = [
  ['ID', token => token.id],
  ['FOR', token => token.name],
  ['EXPIRES', token => moment(token.expiresAt)],
  ['USED', token => moment(token.usedAt)],
];

export function joinTokenCommands(parent: Command, around: Surroundings): void {
  const group = parent
    .command('join-token')
    .description('let storage nodes join by themselves, each with a token of its own');

  group
    .command('create')
    .description('make a token for one storage node; it is printed this once')
    .option('--name <name>', 'only a storage node of this name may use it')
    .option('--expires-in <minutes>', 'worth nothing after that (default: 60)', parseCount)
    .action(async ({ name, expiresIn }, command) => {
      const { client, output } = new Context(command, around);
      const expiresInMs = expiresIn === undefined ? undefined : expiresIn * MINUTE_MS;
      const made = await client.post(PATH, { body: { name, expiresInMs } });
      const cells: readonly Column<Schema<'CreatedJoinToken'>>[] = [
        ...columns.map(
          ([heading, value]): Column<Schema<'CreatedJoinToken'>> => [
            heading,
            ({ joinToken }) => value(joinToken),
          ],
        ),
        ['TOKEN', ({ secret }) => secret],
      ];
      output.print(made, () => record(made, cells));
      output.note('Start the storage node with TIDEMARK_JOIN_TOKEN and TIDEMARK_JOIN_URL.');
    });

  withPage(group.command('list').description('list join tokens')).action(
    async (query: Query<typeof PATH>, command) => {
      const { client, output } = new Context(command, around);
      output.list(await client.list(PATH, { params: { query } }), columns);
    },
  );

  group
    .command('delete <id>')
    .description('let nobody join with it any more')
    .action(async (id, _options, command) => {
      const { client, output } = new Context(command, around);
      await client.delete(`${PATH}/{joinToken}`, at({ joinToken: id }));
      output.print({ id }, () => `deleted join token ${id}`);
    });
}
