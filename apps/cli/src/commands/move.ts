// tidemark volume move
import type { Schema } from '@tidemark/client';
import type { Command } from 'commander';
import { type Column, recordOrGone } from '../output.ts';
import { parseSize } from '../sizes.ts';
import { at, Context, type Surroundings, withWait } from './context.ts';

export function moveCommand(
  group: Command,
  { columns, around }: { columns: readonly Column<Schema<'Volume'>>[]; around: Surroundings },
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
      const volume = at({ volume: ref });
      const body = { storageNode: options.to, speedBytesPerSecond: options.speed };
      const started = await context.client.post('/v1/volumes/{volume}/move', { ...volume, body });
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({ volume: await context.client.get('/v1/volumes/{volume}', volume) }),
        forPeople: ({ volume }) => recordOrGone(volume, columns),
      });
    });
}
