// tidemark backup
import type { Query, Schema } from '@tidemark/client';
import { type Command, Option } from 'commander';
import { parseSize } from '../sizes.ts';
import { backupText, listedBackups, showBackup } from './backup-columns.ts';
import { at, Context, parseCount, type Surroundings, withPage, withWait } from './context.ts';
import { droppedText } from './dropped.ts';
import { repositoryNames } from './names.ts';
import { retentionCommands } from './prune.ts';
import { replicateCommand } from './replication.ts';
import { verifyCommand } from './verify.ts';

export function backupCommands(program: Command, around: Surroundings): void {
  const group = program.command('backup').description('contents of volumes at checkpoints, in repositories');

  withWait(group.command('create').description('take a checkpoint and back it up, in the same instant'))
    .requiredOption('--volume <ref>', 'volume to back up')
    .requiredOption('--repository <ref>', 'repository that will hold it')
    .requiredOption('--checkpoint <name>', 'name of the new checkpoint')
    .addOption(
      new Option(
        '--kind <kind>',
        'all of the disk, or what changed (differential: since the newest full one)',
      )
        .choices(['full', 'incremental', 'differential'])
        .makeOptionMandatory(),
    )
    .option('--base <checkpoint>', 'checkpoint to build on (default: the newest with a backup there)')
    .option('--drop-oldest', 'drop the oldest checkpoint when the volume has as many as it may have')
    .option('--speed <size>', 'most bytes per second, like 50MiB', parseSize)
    .option('--description <text>', 'of the backup and its checkpoint')
    .addOption(new Option('--compression <how>', 'how it is stored').choices(['none', 'zstd']))
    .option('--direct', 'no local scratch: what guests overwrite goes to the repository itself')
    .addOption(
      new Option('--on-cbw-error <policy>', 'who loses when old data cannot be kept').choices([
        'break-snapshot',
        'break-guest-write',
      ]),
    )
    .option('--cbw-timeout <ms>', "how long a guest's write waits for old data to be kept", parseCount)
    .option('--scratch-limit <size>', 'most space of the local scratch', parseSize)
    .action(async (options, command) => {
      const context = new Context(command, around);
      const { volume, repository, checkpoint, kind, base, speed: speedBytesPerSecond } = options;
      const { dropOldest, description, compression, direct, onCbwError } = options;
      const { cbwTimeout: cbwTimeoutMs, scratchLimit: scratchLimitBytes } = options;
      const body: Schema<'CreateBackup'> = {
        ...{ volume, repository, checkpoint, kind, base, speedBytesPerSecond, dropOldest },
        ...{ description, compression, direct, onCbwError, cbwTimeoutMs, scratchLimitBytes },
      };
      const started = await context.client.post('/v1/backups', { body });
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({
          backup: await context.client.get('/v1/backups/{backup}', at({ backup: started.backup!.id })),
        }),
        forPeople: async ({ backup, run }) => `${await backupText(context, backup)}${droppedText(run)}`,
      });
    });

  listCommand(group, around);

  group
    .command('show <backup>')
    .description('look at a backup, by its id')
    .action(async (id, _options, command) => {
      const context = new Context(command, around);
      await showBackup(context, await context.client.get('/v1/backups/{backup}', at({ backup: id })));
    });

  retentionCommands(group, around);
  verifyCommand(group, around);
  replicateCommand(group, around);
}

function listCommand(group: Command, around: Surroundings): void {
  withPage(group.command('list').description('list backups, newest first'))
    .option('--volume <ref>', 'only backups of this volume')
    .option('--repository <ref>', 'only backups in this repository')
    .option('--hidden', 'also those that wait to be taken out of their chains')
    .action(async (options: Query<'/v1/backups'>, command) => {
      const { client, output } = new Context(command, around);
      const page = await client.list('/v1/backups', { params: { query: options } });
      output.list(page, listedBackups(await repositoryNames({ client, output }, page.items)));
    });
}
