// tidemark volume move
import type { Command } from 'commander';
import type { Run, Volume } from '../answers.ts';
import { type Column, recordOrGone } from '../output.ts';
import { parseSize } from '../sizes.ts';
import { Context, type Surroundings, segment, withWait } from './context.ts';

const PATH = '/v1/volumes';

interface Answer {
  run: Run;
  volume: Volume | null;
}

export function moveCommand(
  group: Command,
  { columns, around }: { columns: readonly Column<Volume>[]; around: Surroundings },
): void {
  withWait(
    group
      .command('move <volume>')
      .description('move a volume with its checkpoints; its guest goes on, and connects anew at the end'),
  )
    .requiredOption('--to <storage-node>', 'where it goes')
    .option('--speed <size>', 'most bytes a second, like 100MiB', parseSize)
    .action(async (ref, options, command) => {
      const context = new Context(command, around);
      const path = `${PATH}/${segment(ref)}`;
      const body = { storageNode: options.to, speedBytesPerSecond: options.speed };
      const started = await context.client.post<Answer>(`${path}/move`, body);
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({ volume: await context.client.get<Volume>(path) }),
        forPeople: ({ volume }) => recordOrGone(volume, columns),
      });
    });
}
