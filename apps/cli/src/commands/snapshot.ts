// tidemark snapshot
import type { Query, Schema } from '@tidemark/client';
import type { Command } from 'commander';
import { type Column, moment, recordOrGone } from '../output.ts';
import { at, Context, type Surroundings, withPage, withWait } from './context.ts';

type Snapshot = Schema<'Snapshot'>;

const columns: readonly Column<Snapshot>[] = [
  ['NAME', snapshot => snapshot.name],
  ['STATE', snapshot => snapshot.state],
  ['POINT IN TIME', snapshot => moment(snapshot.pointInTime)],
  ['ID', snapshot => snapshot.id],
];

const PATH = '/v1/volumes/{volume}/snapshots';
const ONE = `${PATH}/{snapshot}` as const;

export function snapshotCommands(program: Command, around: Surroundings): void {
  const group = program
    .command('snapshot')
    .description('what a volume held at one instant; snapshots go by commits');

  withWait(group.command('create <volume> <name>').description('take a snapshot')).action(
    async (volume, name, options, command) => {
      const context = new Context(command, around);
      const started = await context.client.post(PATH, { ...at({ volume }), body: { name } });
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({
          snapshot: await context.client.get(ONE, at({ volume, snapshot: started.snapshot!.id })),
        }),
        forPeople: ({ snapshot }) => recordOrGone(snapshot, columns),
      });
    },
  );

  withPage(group.command('list <volume>').description("list a volume's snapshots")).action(
    async (volume, query: Query<typeof PATH>, command) => {
      const { client, output } = new Context(command, around);
      output.list(await client.list(PATH, { params: { path: { volume }, query } }), columns);
    },
  );

  group
    .command('show <volume> <snapshot>')
    .description('look at a snapshot')
    .action(async (volume, ref, _options, command) => {
      const { client, output } = new Context(command, around);
      output.show(await client.get(ONE, at({ volume, snapshot: ref })), columns);
    });
}
