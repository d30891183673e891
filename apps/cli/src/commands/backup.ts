// tidemark backup
import { type Command, Option } from 'commander';
import type { Backup, Run } from '../answers.ts';
import type { Query } from '../client.ts';
import { recordOrGone } from '../output.ts';
import { parseSize } from '../sizes.ts';
import { backupColumns, backupDetails } from './backup-columns.ts';
import { Context, type Surroundings, segment, withPage, withWait } from './context.ts';
import { droppedText } from './dropped.ts';
import { retentionCommands } from './prune.ts';
import { verifyCommand } from './verify.ts';

const PATH = '/v1/backups';

interface Answer {
  run: Run;
  backup: Backup | null;
}

export function backupCommands(program: Command, around: Surroundings): void {
  const group = program.command('backup').description('contents of volumes at checkpoints, in repositories');

  withWait(group.command('create').description('take a checkpoint and back it up, in the same instant'))
    .requiredOption('--volume <ref>', 'volume to back up')
    .requiredOption('--repository <ref>', 'repository that will hold it')
    .requiredOption('--checkpoint <name>', 'name of the new checkpoint')
    .addOption(
      new Option('--kind <kind>', 'all of the disk, or what changed')
        .choices(['full', 'incremental'])
        .makeOptionMandatory(),
    )
    .option('--base <checkpoint>', 'checkpoint to build on (default: the newest with a backup there)')
    .option('--drop-oldest', 'drop the oldest checkpoint when the volume has as many as it may have')
    .option('--speed <size>', 'most bytes per second, like 50MiB', parseSize)
    .action(async (options, command) => {
      const context = new Context(command, around);
      const { volume, repository, checkpoint, kind, base, speed: speedBytesPerSecond } = options;
      const { dropOldest } = options;
      const body = { volume, repository, checkpoint, kind, base, speedBytesPerSecond, dropOldest };
      const started = await context.client.post<Answer>(PATH, body);
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({ backup: await context.client.get<Backup>(`${PATH}/${started.backup?.id}`) }),
        forPeople: ({ backup, run }) => `${recordOrGone(backup, backupDetails)}${droppedText(run)}`,
      });
    });

  withPage(group.command('list').description('list backups, newest first'))
    .option('--volume <ref>', 'only backups of this volume')
    .option('--repository <ref>', 'only backups in this repository')
    .option('--hidden', 'also those that wait to be taken out of their chains')
    .action(async (options: Query, command) => {
      const { client, output } = new Context(command, around);
      output.list(await client.list<Backup>(PATH, options), backupColumns);
    });

  group
    .command('show <backup>')
    .description('look at a backup, by its id')
    .action(async (id, _options, command) => {
      const { client, output } = new Context(command, around);
      const backup = await client.get<Backup>(`${PATH}/${segment(id)}`);
      output.show(backup, backupDetails);
    });

  retentionCommands(group, around);
  verifyCommand(group, around);
}
