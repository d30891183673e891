// tidemark storage-node
import type { Command } from 'commander';
import type { Run, StorageNode } from '../answers.ts';
import type { Query } from '../client.ts';
import { type Column, moment, recordOrGone, size } from '../output.ts';
import { Context, type Surroundings, segment, withPage, withWait } from './context.ts';
import { joinTokenCommands } from './join-token.ts';
import { labelCommand, labelText, withLabels, withSelector } from './labels.ts';
import { storageNodeCareCommands } from './storage-node-care.ts';

const PATH = '/v1/storage-nodes';

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

interface Answer {
  run: Run;
  storageNode: StorageNode | null;
}

export function storageNodeCommands(program: Command, around: Surroundings): void {
  const group = program.command('storage-node').description('machines that own volumes and repositories');

  withLabels(withWait(group.command('add <name>').description('register a storage node')))
    .requiredOption('--control-address <host:port>', 'where its control service listens')
    .action(async (name, options, command) => {
      const context = new Context(command, around);
      const { client } = context;
      const { controlAddress, label: labels } = options;
      const started = await client.post<Answer>(PATH, { name, controlAddress, labels });
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({ storageNode: await client.get<StorageNode>(`${PATH}/${segment(name)}`) }),
        forPeople: ({ storageNode }) => recordOrGone(storageNode, columns),
      });
    });

  withSelector(withPage(group.command('list').description('list storage nodes'))).action(
    async (options: Query, command) => {
      const { client, output } = new Context(command, around);
      output.list(await client.list<StorageNode>(PATH, options), columns);
    },
  );

  group
    .command('show <storage-node>')
    .description('look at a storage node')
    .action(async (ref, _options, command) => {
      const { client, output } = new Context(command, around);
      const node = await client.get<StorageNode>(`${PATH}/${segment(ref)}`);
      output.show(node, [['ID', item => item.id], ...columns, ['LABELS', labelText]]);
    });

  joinTokenCommands(group, around);
  storageNodeCareCommands(group, around);

  labelCommand(group, { noun: 'storage-node', path: PATH, around });

  withWait(
    group.command('remove <storage-node>').description('remove a storage node that owns nothing'),
  ).action(async (ref, options, command) => {
    const context = new Context(command, around);
    const { client } = context;
    const started = await client.delete<Answer>(`${PATH}/${segment(ref)}`);
    await context.finish(started, {
      wait: options.wait,
      refresh: async () => ({ storageNode: null }),
      forPeople: () => `removed ${ref}`,
    });
  });
}
