// tidemark checkpoint
import { type Query, resultOf, type Schema } from '@tidemark/client';
import { type Command, InvalidArgumentError } from 'commander';
import { type Column, moment, record, recordOrGone, size, table } from '../output.ts';
import { changeCommands } from './change.ts';
import { at, Context, parseMoment, type Surroundings, withPage, withWait } from './context.ts';
import { droppedText } from './dropped.ts';

type Checkpoint = Schema<'Checkpoint'>;

const changedSince = ({ inconsistent, changedSinceBytes }: Checkpoint): string | null =>
  inconsistent ? 'not known' : size(changedSinceBytes);

const columns: readonly Column<Checkpoint>[] = [
  ['NAME', checkpoint => checkpoint.name],
  ['STATE', checkpoint => checkpoint.state],
  ['POINT IN TIME', checkpoint => moment(checkpoint.pointInTime)],
  ['CHANGED SINCE', changedSince],
  ['BACKUPS', checkpoint => checkpoint.backups.length],
  ['ID', checkpoint => checkpoint.id],
];

const details: readonly Column<Checkpoint>[] = [
  ...columns,
  ['ADDED BY CRASHES', checkpoint => size(checkpoint.grownBytes)],
  ['PROTECTED UNTIL', checkpoint => moment(checkpoint.pinnedUntil)],
  ['DESCRIPTION', checkpoint => checkpoint.description || null],
];

type Redefined = Schema<'RedefineResult'>;

const redefined: readonly Column<Redefined['checkpoints'][number]>[] = [
  ['NAME', checkpoint => checkpoint.name],
  ['POINT IN TIME', checkpoint => moment(checkpoint.pointInTime)],
  ['CHANGES', checkpoint => (checkpoint.inconsistent ? 'not known' : 'known')],
  ['ID', checkpoint => checkpoint.id],
];

const PATH = '/v1/volumes/{volume}/checkpoints';

const find = ({ client }: Context, volume: string, checkpoint: string): Promise<Checkpoint> =>
  client.get(`${PATH}/{checkpoint}`, at({ volume, checkpoint }));

export function checkpointCommands(program: Command, around: Surroundings): void {
  const group = program.command('checkpoint').description('named points in time of a volume');
  createCommand(group, around);
  lookCommands(group, around);
  textCommands(group, around);
  pinCommands(group, around);
  changeCommands(group, around);
  redefineCommand(group, around);
  withWait(
    group.command('delete <volume> <checkpoint>').description('delete a checkpoint; its backups stay'),
  ).action(async (volume, ref, options, command) => {
    const context = new Context(command, around);
    const started = await context.client.delete(`${PATH}/{checkpoint}`, at({ volume, checkpoint: ref }));
    await context.finish(started, {
      wait: options.wait,
      refresh: async () => ({ checkpoint: null }),
      forPeople: () => `deleted checkpoint ${ref} of volume ${volume}`,
    });
  });
}

function createCommand(group: Command, around: Surroundings): void {
  withWait(group.command('create <volume> <name>').description('take a checkpoint without a backup'))
    .option('--description <text>', 'a note')
    .option('--drop-oldest', 'drop the oldest when the volume has as many as it may have')
    .action(async (volume, name, options, command) => {
      const context = new Context(command, around);
      const { description, dropOldest } = options;
      const body = { name, description, dropOldest };
      const started = await context.client.post(PATH, { ...at({ volume }), body });
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({ checkpoint: await find(context, volume, started.checkpoint!.id) }),
        forPeople: ({ checkpoint, run }) => `${recordOrGone(checkpoint, columns)}${droppedText(run)}`,
      });
    });
}

function lookCommands(group: Command, around: Surroundings): void {
  withPage(group.command('list <volume>').description("list a volume's checkpoints, oldest first")).action(
    async (volume, query: Query<typeof PATH>, command) => {
      const { client, output } = new Context(command, around);
      output.list(await client.list(PATH, { params: { path: { volume }, query } }), columns);
    },
  );

  group
    .command('show <volume> <checkpoint>')
    .description('look at a checkpoint')
    .action(async (volume, ref, _options, command) => {
      const context = new Context(command, around);
      context.output.show(await find(context, volume, ref), details);
    });
}

type Change = Schema<'UpdateCheckpoint'>;

const patch = ({ client }: Context, volume: string, checkpoint: string, body: Change) =>
  client.patch(`${PATH}/{checkpoint}`, { ...at({ volume, checkpoint }), body });

function textCommands(group: Command, around: Surroundings): void {
  type Given = { wait: boolean };
  const change =
    (noun: 'name' | 'description') =>
    async (volume: string, ref: string, text: string, options: Given, command: Command) => {
      const context = new Context(command, around);
      const body = noun === 'name' ? { name: text } : { description: text };
      const started = await patch(context, volume, ref, body);
      await context.finish(
        { ...started, run: started.run! },
        {
          wait: options.wait,
          refresh: async () => ({ checkpoint: await find(context, volume, started.checkpoint.id) }),
          forPeople: ({ checkpoint }) => recordOrGone(checkpoint, details),
        },
      );
    };
  withWait(group.command('rename <volume> <checkpoint> <name>').description('give it another name')).action(
    change('name'),
  );
  withWait(group.command('describe <volume> <checkpoint> <text>').description('note what it is for')).action(
    change('description'),
  );
}

function pinCommands(group: Command, around: Surroundings): void {
  const pin = async (command: Command, volume: string, ref: string, pinnedUntil: string | null) => {
    const context = new Context(command, around);
    const answer = await patch(context, volume, ref, { pinnedUntil });
    context.output.print(answer, () => record(answer.checkpoint, details));
  };
  group
    .command('pin <volume> <checkpoint>')
    .description('protect it from being dropped, pruned or deleted')
    .requiredOption('--until <moment>', 'a day or a moment, like 2027-01-31', parseMoment)
    .action((volume, ref, { until }, command) => pin(command, volume, ref, until));
  group
    .command('unpin <volume> <checkpoint>')
    .description('take its protection away')
    .action((volume, ref, _options, command) => pin(command, volume, ref, null));
}

function redefineCommand(group: Command, around: Surroundings): void {
  const words = 'take over checkpoints that the storage node has and the catalog lost';
  withWait(group.command('redefine <volume>').description(words))
    .option(
      '--checkpoint <id[=name]>',
      'one to define, with another name if wanted; give all, oldest first (default: all there are)',
      collectWanted,
    )
    .option('--validate-only', 'say what would be done, and do nothing')
    .option('--allow-inconsistent', 'also those whose changes are not known')
    .action(async (volume, options, command) => {
      const context = new Context(command, around);
      const { checkpoint: checkpoints, validateOnly, allowInconsistent } = options;
      const body = { checkpoints, validateOnly, allowInconsistent };
      const started = await context.client.post(`${PATH}/redefine`, { ...at({ volume }), body });
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({}),
        forPeople: ({ run }) => redefinedText(resultOf(run, 'redefine-checkpoints')!),
      });
    });
}

interface Wanted {
  id: string;
  name?: string;
}

function collectWanted(text: string, before: Wanted[] = []): Wanted[] {
  const [, id, name] = /^([^=]+)(?:=(.+))?$/.exec(text) ?? [];
  if (id === undefined) throw new InvalidArgumentError('Give an id, or an id and a name like ID=monday.');
  return [...before, { id, ...(name !== undefined && { name }) }];
}

function redefinedText({ validateOnly, checkpoints, missing }: Redefined): string {
  const count = checkpoints.length;
  const title = validateOnly ? `${count} could be defined anew` : `${count} defined anew`;
  const rows = count === 0 ? '' : `\n${table(checkpoints, redefined)}`;
  const gone = missing.map(({ name }) => `\nthe storage node does not have ${name}`);
  return `${title}${rows}${gone.join('')}`;
}
