// tidemark storage-node
import type { Query, Schema } from '@tidemark/client';
import type { Command } from 'commander';
import { type Column, moment, recordOrGone, size } from '../output.ts';
import { at, Context, type Surroundings, withPage, withWait } from './context.ts';
import { joinTokenCommands } from './join-token.ts';
import { labelCommand, labelText, withLabels, withSelector } from './labels.ts';
import { storageNodeCareCommands } from './storage-node-care.ts';

type StorageNode = Schema<'StorageNode'>;

const PATH = '/v1/storage-nodes';
const ONE = `${PATH}/{storageNode}` as const;

const columns: readonly Column<StorageNode>[] = [
  ['NAME', node => node.name],
  ['STATE', node => (node.cordonedAt && node.state !== 'lost' ? `${node.state}, cordoned` : node.state)],
  ['CONTROL', node => node.controlAddress],
  ['NBD', node => node.nbdAddress],
  ['AVAILABLE', node => size(node.availableBytes)],
  ['CAPACITY', node => size(node.capacityBytes)],
  ['VERSION', node => node.version],
  ['LAST SEEN', node => moment(node.lastSeenAt)],
];

export function storageNodeCommands(program: Command, around: Surroundings): void {
  const group = program.command('storage-node').description('machines that own volumes and repositories');

  withLabels(withWait(group.command('add <name>').description('register a storage node')))
    .requiredOption('--control-address <host:port>', 'where its control service listens')
    .action(async (name, options, command) => {
      const context = new Context(command, around);
      const { client } = context;
      const { controlAddress, label: labels } = options;
      const started = await client.post(PATH, { body: { name, controlAddress, labels } });
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({ storageNode: await client.get(ONE, at({ storageNode: name })) }),
        forPeople: ({ storageNode }) => recordOrGone(storageNode, columns),
      });
    });

  withSelector(withPage(group.command('list').description('list storage nodes'))).action(
    async (query: Query<typeof PATH>, command) => {
      const { client, output } = new Context(command, around);
      output.list(await client.list(PATH, { params: { query } }), columns);
    },
  );

  group
    .command('show <storage-node>')
    .description('look at a storage node')
    .action(async (ref, _options, command) => {
      const { client, output } = new Context(command, around);
      const node = await client.get(ONE, at({ storageNode: ref }));
      output.show(node, [['ID', item => item.id], ...columns, ['LABELS', labelText]]);
    });

  joinTokenCommands(group, around);
  storageNodeCareCommands(group, around);

  labelCommand(group, {
    noun: 'storage-node',
    look: ({ client }, ref) => client.get(ONE, at({ storageNode: ref })),
    change: ({ client }, ref, labels) => client.patch(ONE, { ...at({ storageNode: ref }), body: { labels } }),
    around,
  });

  withWait(
    group.command('remove <storage-node>').description('remove a storage node that owns nothing'),
  ).action(async (ref, options, command) => {
    const context = new Context(command, around);
    const { client } = context;
    const started = await client.delete(ONE, at({ storageNode: ref }));
    await context.finish(started, {
      wait: options.wait,
      refresh: async () => ({ storageNode: null }),
      forPeople: () => `removed ${ref}`,
    });
  });
}
