// tidemark restore
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Run, Volume } from '../answers.ts';
import { record } from '../output.ts';
import { Context, type Surroundings, withWait } from './context.ts';
import { formatOption, volumeColumns } from './volume.ts';

interface Answer {
  run: Run;
  volume: Volume | null;
}

interface Options {
  backup?: string;
  volume?: string;
  checkpoint?: string;
  storageNode: string;
  toVolume?: string;
  toFile?: string;
  format: string;
  wait: boolean;
}

/** Source and target each in one of two forms: what the options cannot say alone is checked here. */
function bodyOf({ backup, volume, checkpoint, storageNode, toVolume, toFile, format }: Options): object {
  if (backup === undefined && (volume === undefined || checkpoint === undefined)) {
    throw new InvalidArgumentError(
      'Say what to restore: --backup ID, or --volume REF with --checkpoint REF.',
    );
  }
  if (toVolume === undefined && toFile === undefined) {
    throw new InvalidArgumentError('Say where to: --to-volume NAME or --to-file NAME.');
  }
  const target =
    toVolume === undefined
      ? { file: { storageNode, name: toFile } }
      : { volume: { name: toVolume, storageNode, format } };
  return { backup, volume, checkpoint, target };
}

export function restoreCommands(program: Command, around: Surroundings): void {
  withWait(program.command('restore').description('bring a backup back to a new volume or a plain file'))
    .addOption(new Option('--backup <id>', 'backup to restore').conflicts(['volume', 'checkpoint']))
    .option('--volume <ref>', 'volume whose checkpoint to restore')
    .option('--checkpoint <ref>', 'checkpoint to restore; its newest backup is used')
    .requiredOption('--storage-node <ref>', 'storage node that will hold the result')
    .addOption(new Option('--to-volume <name>', 'name of the new volume').conflicts('toFile'))
    .addOption(new Option('--to-file <name>', 'name of the new file in its folder for restores'))
    .addOption(formatOption())
    .action(async (options: Options, command) => {
      const context = new Context(command, around);
      const started = await context.client.post<Answer>('/v1/restores', bodyOf(options));
      const { volume } = started;
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({
          volume: volume && (await context.client.get<Volume>(`/v1/volumes/${volume.id}`)),
        }),
        forPeople: answer =>
          answer.volume ? record(answer.volume, volumeColumns) : `restored to ${answer.run.result?.filePath}`,
      });
    });
}
