// tidemark webhook
import type { Query, Schema } from '@tidemark/client';
import { type Command, Option } from 'commander';
import { type Column, moment, record } from '../output.ts';
import { at, Context, type Surroundings, withPage } from './context.ts';

const PATH = '/v1/webhooks';
const ONE = `${PATH}/{webhook}` as const;

type WithSecret = Schema<'WebhookWithSecret'>;

const columns: readonly Column<Schema<'Webhook'>>[] = [
  ['NAME', webhook => webhook.name],
  ['STATE', ({ state, suspendedFor }) => (suspendedFor === null ? state : `${state} (${suspendedFor})`)],
  ['ON BEHALF OF', webhook => webhook.onBehalfOf],
  ['URL', webhook => webhook.url],
  ['KINDS', webhook => webhook.kinds.join(',') || 'all'],
  ['SELECTOR', webhook => webhook.selector || 'all'],
];

const deliveryColumns: readonly Column<Schema<'WebhookDelivery'>>[] = [
  ['ID', delivery => delivery.id],
  ['EVENT', delivery => delivery.eventId],
  ['KIND', delivery => delivery.kind],
  ['STATE', delivery => delivery.state],
  ['ATTEMPTS', delivery => delivery.attempts],
  ['STATUS', delivery => delivery.status],
  ['ATTEMPTED', delivery => moment(delivery.attemptedAt)],
  ['DETAIL', delivery => delivery.detail],
];

const parseKinds = (text: string): string[] => text.split(',').filter(kind => kind !== '');

const withSecret = ({ webhook, secret }: WithSecret): string =>
  `${record(webhook, columns)}\n\nsecret: ${secret}\nIt is shown this once: keep it where deliveries are checked.`;

function withChoice(command: Command): Command {
  return command
    .option('--kinds <kinds>', 'kinds of events, with commas between them; all unless told', parseKinds)
    .option('--selector <selector>', 'only events about what has labels like these');
}

export function webhookCommands(program: Command, around: Surroundings): void {
  const group = program.command('webhook').description('addresses that events are sent to');

  withChoice(group.command('create <name>').description('send events to an address, from now on'))
    .requiredOption('--to <url>', 'where they are sent to: http: or https:')
    .action(async (name, { to: url, kinds, selector }, command) => {
      const { client, output } = new Context(command, around);
      const made = await client.post(PATH, { body: { name, url, kinds, selector } });
      output.print(made, () => withSecret(made));
    });

  withPage(group.command('list').description('list webhooks'))
    .addOption(
      new Option('--state <state>', 'only those in this state').choices(['enabled', 'disabled', 'suspended']),
    )
    .option('--name <text>', 'only webhooks whose name holds this')
    .option('--on-behalf-of <name>', 'only what this token changed last')
    .action(async (query: Query<typeof PATH>, command) => {
      const { client, output } = new Context(command, around);
      output.list(await client.list(PATH, { params: { query } }), columns);
    });

  group
    .command('show <webhook>')
    .description('look at a webhook')
    .action(async (ref, _options, command) => {
      const { client, output } = new Context(command, around);
      output.show(await client.get(ONE, at({ webhook: ref })), [['ID', one => one.id], ...columns]);
    });

  changeCommands(group, around);
  deliveryCommands(group, around);
}

function changeCommands(group: Command, around: Surroundings): void {
  withChoice(group.command('set <webhook>').description('change a webhook, and try it at once'))
    .option('--to <url>', 'where events are sent to')
    .addOption(
      new Option('--enable', 'send again, also after too many failures or the end of a token').conflicts(
        'disable',
      ),
    )
    .option('--disable', 'send nothing until it is enabled; events wait')
    .action(async (ref, { to: url, kinds, selector, enable, disable }, command) => {
      const { client, output } = new Context(command, around);
      const enabled = enable || disable ? { enabled: enable === true } : {};
      const body = { url, kinds, selector, ...enabled };
      output.show(await client.patch(ONE, { ...at({ webhook: ref }), body }), columns);
    });

  group
    .command('renew-secret <webhook>')
    .description('sign with a new secret from now on')
    .action(async (ref, _options, command) => {
      const { client, output } = new Context(command, around);
      const answer = await client.post(`${ONE}/secret`, at({ webhook: ref }));
      output.print(answer, () => withSecret(answer));
    });

  group
    .command('delete <webhook>')
    .description('send nothing to it any more')
    .action(async (ref, _options, command) => {
      const { client, output } = new Context(command, around);
      const gone = await client.delete(ONE, at({ webhook: ref }));
      output.print(gone, () => `deleted webhook ${gone.name}`);
    });
}

function deliveryCommands(group: Command, around: Surroundings): void {
  group
    .command('ping <webhook>')
    .description('send a ping')
    .action(async (ref, _options, command) => {
      const { client, output } = new Context(command, around);
      const delivery = await client.post(`${ONE}/ping`, at({ webhook: ref }));
      output.show(delivery, deliveryColumns, `\nfollow it with: tidemark webhook deliveries ${ref}`);
    });

  withPage(group.command('deliveries <webhook>').description('list what was sent, and what waits'))
    .addOption(
      new Option('--state <state>', 'only those in this state').choices(['pending', 'delivered', 'dead']),
    )
    .action(async (ref, query: Query<`${typeof ONE}/deliveries`>, command) => {
      const { client, output } = new Context(command, around);
      const params = { path: { webhook: ref }, query };
      output.list(await client.list(`${ONE}/deliveries`, { params }), deliveryColumns);
    });

  group
    .command('redeliver <webhook> <delivery>')
    .description('send a delivery again')
    .action(async (ref, id, _options, command) => {
      const { client, output } = new Context(command, around);
      const path = at({ webhook: ref, delivery: id });
      output.show(await client.post(`${ONE}/deliveries/{delivery}/redeliver`, path), deliveryColumns);
    });
}
