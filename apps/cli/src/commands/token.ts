// tidemark token
import type { Query, Schema } from '@tidemark/client';
import type { Command } from 'commander';
import { Option } from 'commander';
import { type Column, moment, record } from '../output.ts';
import { Context, parseMoment, type Surroundings, withPage } from './context.ts';

const PATH = '/v1/tokens';

const columns: readonly Column<Schema<'Token'>>[] = [
  ['NAME', token => token.name],
  ['ROLE', token => token.role],
  ['SCOPE', token => token.scope || null],
  ['STATE', token => token.state],
  ['CREATED BY', token => token.createdBy],
  ['EXPIRES', token => moment(token.expiresAt)],
  ['LAST USED', token => moment(token.lastUsedAt)],
];

export function tokenCommands(program: Command, around: Surroundings): void {
  const group = program
    .command('token')
    .description('who may call the API, as what, and about which volumes');

  group
    .command('create <name>')
    .description('make a token; it is printed this once, and kept nowhere')
    .addOption(
      new Option('--role <role>', 'what it may do')
        .choices(['viewer', 'operator', 'admin'])
        .makeOptionMandatory(),
    )
    .option('--scope <selector>', 'only volumes with such labels, and what belongs to them')
    .option('--expires <moment>', 'lets nobody in from then on', parseMoment)
    .action(async (name, { role, scope, expires: expiresAt }, command) => {
      const { client, output } = new Context(command, around);
      const made = await client.post(PATH, { body: { name, role, scope, expiresAt } });
      const cells: readonly Column<Schema<'CreatedToken'>>[] = [
        ...columns.map(
          ([heading, value]): Column<Schema<'CreatedToken'>> => [heading, ({ token }) => value(token)],
        ),
        ['TOKEN', ({ secret }) => secret],
      ];
      output.print(made, () => record(made, cells));
      output.note(
        'Keep it now: it cannot be shown again. Commands take it from TIDEMARK_TOKEN or --token-file.',
      );
    });

  withPage(group.command('list').description('list tokens, also those that let nobody in any more')).action(
    async (query: Query<typeof PATH>, command) => {
      const { client, output } = new Context(command, around);
      output.list(await client.list(PATH, { params: { query } }), columns);
    },
  );

  group
    .command('revoke <token>')
    .description('let nobody in with it any more, at once and for good')
    .option('--allow-last-admin', 'also where no other token lets an admin in')
    .action(async (ref, { allowLastAdmin }, command) => {
      const { client, output } = new Context(command, around);
      const query = allowLastAdmin === true ? { allowLastAdmin: 'true' as const } : {};
      const token = await client.delete(`${PATH}/{token}`, { params: { path: { token: ref }, query } });
      output.print(token, () => `revoked ${token.name}`);
    });
}
