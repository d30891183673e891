// tidemark snapshot
import type { Command } from 'commander';
import type { Run, Snapshot } from '../answers.ts';
import type { Query } from '../client.ts';
import { type Column, moment, recordOrGone } from '../output.ts';
import { Context, type Surroundings, segment, withPage, withWait } from './context.ts';

const columns: readonly Column<Snapshot>[] = [
  ['NAME', snapshot => snapshot.name],
  ['STATE', snapshot => snapshot.state],
  ['POINT IN TIME', snapshot => moment(snapshot.pointInTime)],
  ['ID', snapshot => snapshot.id],
];

interface Answer {
  run: Run;
  snapshot: Snapshot | null;
}

const pathOf = (volume: string): string => `/v1/volumes/${segment(volume)}/snapshots`;

export function snapshotCommands(program: Command, around: Surroundings): void {
  const group = program
    .command('snapshot')
    .description('what a volume held at one instant; snapshots go by commits');

  withWait(group.command('create <volume> <name>').description('take a snapshot')).action(
    async (volume, name, options, command) => {
      const context = new Context(command, around);
      const started = await context.client.post<Answer>(pathOf(volume), { name });
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({
          snapshot: await context.client.get<Snapshot>(`${pathOf(volume)}/${started.snapshot?.id}`),
        }),
        forPeople: ({ snapshot }) => recordOrGone(snapshot, columns),
      });
    },
  );

  withPage(group.command('list <volume>').description("list a volume's snapshots")).action(
    async (volume, options: Query, command) => {
      const { client, output } = new Context(command, around);
      output.list(await client.list<Snapshot>(pathOf(volume), options), columns);
    },
  );

  group
    .command('show <volume> <snapshot>')
    .description('look at a snapshot')
    .action(async (volume, ref, _options, command) => {
      const { client, output } = new Context(command, around);
      output.show(await client.get<Snapshot>(`${pathOf(volume)}/${segment(ref)}`), columns);
    });
}
