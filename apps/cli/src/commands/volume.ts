// tidemark volume
import type { Query, Schema } from '@tidemark/client';
import { type Command, Option } from 'commander';
import { type Column, moment, recordOrGone, size } from '../output.ts';
import { parseSize } from '../sizes.ts';
import { auditCommand } from './audit.ts';
import { at, Context, parseCount, type Surroundings, withPage, withWait } from './context.ts';
import { labelCommand, labelText, withLabels, withSelector } from './labels.ts';
import { moveCommand } from './move.ts';

type Volume = Schema<'Volume'>;

const PATH = '/v1/volumes';
const ONE = `${PATH}/{volume}` as const;

export const volumeColumns: readonly Column<Volume>[] = [
  ['NAME', volume => volume.name],
  ['STATE', volume => (volume.mixedWithBackupId ? `${volume.state}, mixed contents` : volume.state)],
  ['SIZE', volume => size(volume.sizeBytes)],
  ['FORMAT', volume => volume.format],
  ['STORAGE NODE', volume => volume.storageNode],
  ['EXPORT', volume => volume.exportUri],
];

const details: readonly Column<Volume>[] = [
  ['ID', volume => volume.id],
  ...volumeColumns,
  ['BYTES', volume => volume.sizeBytes],
  ['CHECKPOINTS AT MOST', volume => volume.checkpointLimit],
  ['BITMAPS AUDITED', volume => volume.auditedAt && `${moment(volume.auditedAt)}: ${volume.auditResult}`],
  ['READS FROM BACKUP', volume => volume.sourceBackupId],
  ['MIXED WITH BACKUP', volume => volume.mixedWithBackupId],
  ['LABELS', labelText],
  ['CREATED', volume => moment(volume.createdAt)],
];

export const formatOption = (): Option =>
  new Option('--format <format>', 'image format on the storage node')
    .choices(['raw', 'qcow2'])
    .default('raw');

export function volumeCommands(program: Command, around: Surroundings): void {
  const group = program.command('volume').description('block devices of guests');

  withLabels(withWait(group.command('create <name>').description('create a volume and export it over NBD')))
    .requiredOption('--storage-node <ref>', 'storage node that will hold it')
    .requiredOption('--size <size>', 'a multiple of 512, like 1GiB or 1073741824', parseSize)
    .addOption(formatOption())
    .action(async (name, options, command) => {
      const context = new Context(command, around);
      const { storageNode, size: sizeBytes, format, label: labels } = options;
      const body = { name, storageNode, sizeBytes, format, labels };
      const started = await context.client.post(PATH, { body });
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({ volume: await context.client.get(ONE, at({ volume: name })) }),
        forPeople: ({ volume }) => recordOrGone(volume, volumeColumns),
      });
    });

  withSelector(withPage(group.command('list').description('list volumes'))).action(
    async (query: Query<typeof PATH>, command) => {
      const { client, output } = new Context(command, around);
      output.list(await client.list(PATH, { params: { query } }), volumeColumns);
    },
  );

  group
    .command('show <volume>')
    .description('look at a volume')
    .action(async (ref, _options, command) => {
      const { client, output } = new Context(command, around);
      const volume = await client.get(ONE, at({ volume: ref }));
      output.show(volume, details);
    });

  group
    .command('set <volume>')
    .description('change how many checkpoints a volume may have; those that it has stay')
    .requiredOption('--checkpoint-limit <count>', 'most checkpoints', parseCount)
    .action(async (ref, { checkpointLimit }, command) => {
      const { client, output } = new Context(command, around);
      const volume = await client.patch(ONE, { ...at({ volume: ref }), body: { checkpointLimit } });
      output.show(volume, details);
    });

  labelCommand(group, {
    noun: 'volume',
    look: ({ client }, ref) => client.get(ONE, at({ volume: ref })),
    change: ({ client }, ref, labels) => client.patch(ONE, { ...at({ volume: ref }), body: { labels } }),
    around,
  });

  moveCommand(group, { columns: volumeColumns, around });

  auditCommand(group, around);

  withWait(group.command('delete <volume>').description('delete a volume; its backups stay')).action(
    async (ref, options, command) => {
      const context = new Context(command, around);
      const started = await context.client.delete(ONE, at({ volume: ref }));
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({ volume: null }),
        forPeople: () => `deleted volume ${ref}`,
      });
    },
  );
}
