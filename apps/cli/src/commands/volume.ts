// tidemark volume
import { type Command, Option } from 'commander';
import type { Run, Volume } from '../answers.ts';
import type { Query } from '../client.ts';
import { type Column, moment, recordOrGone, size } from '../output.ts';
import { parseSize } from '../sizes.ts';
import { auditCommand } from './audit.ts';
import { Context, parseCount, type Surroundings, segment, withPage, withWait } from './context.ts';
import { labelCommand, labelText, withLabels, withSelector } from './labels.ts';
import { moveCommand } from './move.ts';

const PATH = '/v1/volumes';

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

interface Answer {
  run: Run;
  volume: Volume | null;
}

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
      const started = await context.client.post<Answer>(PATH, body);
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({ volume: await context.client.get<Volume>(`${PATH}/${segment(name)}`) }),
        forPeople: ({ volume }) => recordOrGone(volume, volumeColumns),
      });
    });

  withSelector(withPage(group.command('list').description('list volumes'))).action(
    async (options: Query, command) => {
      const { client, output } = new Context(command, around);
      output.list(await client.list<Volume>(PATH, options), volumeColumns);
    },
  );

  group
    .command('show <volume>')
    .description('look at a volume')
    .action(async (ref, _options, command) => {
      const { client, output } = new Context(command, around);
      const volume = await client.get<Volume>(`${PATH}/${segment(ref)}`);
      output.show(volume, details);
    });

  group
    .command('set <volume>')
    .description('change how many checkpoints a volume may have; those that it has stay')
    .requiredOption('--checkpoint-limit <count>', 'most checkpoints', parseCount)
    .action(async (ref, { checkpointLimit }, command) => {
      const { client, output } = new Context(command, around);
      output.show(await client.patch<Volume>(`${PATH}/${segment(ref)}`, { checkpointLimit }), details);
    });

  labelCommand(group, { noun: 'volume', path: PATH, around });

  moveCommand(group, { columns: volumeColumns, around });

  auditCommand(group, around);

  withWait(group.command('delete <volume>').description('delete a volume; its backups stay')).action(
    async (ref, options, command) => {
      const context = new Context(command, around);
      const started = await context.client.delete<Answer>(`${PATH}/${segment(ref)}`);
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({ volume: null }),
        forPeople: () => `deleted volume ${ref}`,
      });
    },
  );
}
