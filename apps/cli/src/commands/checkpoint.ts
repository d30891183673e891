// tidemark checkpoint
import type { Command } from 'commander';
import type { Checkpoint, Run } from '../answers.ts';
import type { Query } from '../client.ts';
import { type Column, moment, recordOrGone } from '../output.ts';
import { Context, type Surroundings, segment, withPage, withWait } from './context.ts';

const columns: readonly Column<Checkpoint>[] = [
  ['NAME', checkpoint => checkpoint.name],
  ['STATE', checkpoint => checkpoint.state],
  ['POINT IN TIME', checkpoint => moment(checkpoint.pointInTime)],
  ['BACKUPS', checkpoint => checkpoint.backups.length],
  ['ID', checkpoint => checkpoint.id],
];

interface Answer {
  run: Run;
  checkpoint: Checkpoint | null;
}

const pathOf = (volume: string): string => `/v1/volumes/${segment(volume)}/checkpoints`;

export function checkpointCommands(program: Command, around: Surroundings): void {
  const group = program.command('checkpoint').description('named points in time of a volume');

  withWait(group.command('create <volume> <name>').description('take a checkpoint without a backup')).action(
    async (volume, name, options, command) => {
      const context = new Context(command, around);
      const started = await context.client.post<Answer>(pathOf(volume), { name });
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({
          checkpoint: await context.client.get<Checkpoint>(`${pathOf(volume)}/${started.checkpoint?.id}`),
        }),
        forPeople: ({ checkpoint }) => recordOrGone(checkpoint, columns),
      });
    },
  );

  withPage(group.command('list <volume>').description("list a volume's checkpoints")).action(
    async (volume, options: Query, command) => {
      const { client, output } = new Context(command, around);
      output.list(await client.list<Checkpoint>(pathOf(volume), options), columns);
    },
  );

  group
    .command('show <volume> <checkpoint>')
    .description('look at a checkpoint')
    .action(async (volume, ref, _options, command) => {
      const { client, output } = new Context(command, around);
      const checkpoint = await client.get<Checkpoint>(`${pathOf(volume)}/${segment(ref)}`);
      output.show(checkpoint, columns);
    });

  withWait(
    group.command('delete <volume> <checkpoint>').description('delete a checkpoint; its backups stay'),
  ).action(async (volume, ref, options, command) => {
    const context = new Context(command, around);
    const started = await context.client.delete<Answer>(`${pathOf(volume)}/${segment(ref)}`);
    await context.finish(started, {
      wait: options.wait,
      refresh: async () => ({ checkpoint: null }),
      forPeople: () => `deleted checkpoint ${ref} of volume ${volume}`,
    });
  });
}
