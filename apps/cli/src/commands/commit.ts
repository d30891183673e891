// tidemark commit
import type { Query, Schema } from '@tidemark/client';
import { type Command, Option } from 'commander';
import { type Column, moment, recordOrGone } from '../output.ts';
import { parseSize } from '../sizes.ts';
import { at, Context, type Surroundings, withPage, withWait } from './context.ts';

type Commit = Schema<'Commit'>;

const ACTIVE_TOP = '(the guest)';

const columns: readonly Column<Commit>[] = [
  ['ID', commit => commit.id],
  ['STATE', commit => commit.state],
  ['TOP', commit => commit.top?.name ?? ACTIVE_TOP],
  ['BASE', commit => commit.base?.name ?? (commit.shallow ? '(right below)' : '(the oldest)')],
  ['DECISION', commit => commit.decision],
  ['CREATED', commit => moment(commit.createdAt)],
];

const details: readonly Column<Commit>[] = [
  ...columns,
  ['FINISHED', commit => moment(commit.finishedAt)],
  ['OVERWROTE', commit => commit.lostSnapshots.map(({ name }) => name).join(', ') || null],
  ['DELETES FILES', commit => (commit.delete ? 'yes' : 'no')],
  ['ERROR', commit => commit.error && `${commit.error.code}: ${commit.error.message}`],
  ['RUN', commit => commit.runId],
];

interface StartOptions {
  top?: string;
  base?: string;
  shallow?: boolean;
  active?: boolean;
  keepFiles?: boolean;
  speed?: number;
  wait: boolean;
}

const PATH = '/v1/volumes/{volume}/commits';

const find = ({ client }: Context, volume: string, commit: string): Promise<Commit> =>
  client.get(`${PATH}/{commit}`, at({ volume, commit }));

function shown(volume: string, commit: Commit | null): string {
  const text = recordOrGone(commit, details);
  if (commit?.state !== 'ready') return text;
  const verbs = ['pivot', 'keep'].map(verb => `tidemark commit ${verb} ${volume} ${commit.id}`);
  return `${text}\n\nIt waits for a decision:\n  ${verbs.join('\n  ')}`;
}

export function commitCommands(program: Command, around: Surroundings): void {
  const group = program.command('commit').description("merges of a volume's images into ones below");
  startCommand(group, around);

  withPage(group.command('list <volume>').description("list a volume's commits, newest first")).action(
    async (volume, query: Query<typeof PATH>, command) => {
      const { client, output } = new Context(command, around);
      output.list(await client.list(PATH, { params: { path: { volume }, query } }), columns);
    },
  );

  group
    .command('show <volume> <commit>')
    .description('look at a commit')
    .action(async (volume, id, _options, command) => {
      const context = new Context(command, around);
      const commit = await find(context, volume, id);
      context.output.print(commit, () => shown(volume, commit));
    });

  const decisions = [
    ['pivot', 'let the guest go on in the base; the merged images go'],
    ['keep', 'leave the guest where it is; the base keeps a copy'],
  ] as const;
  for (const [decision, words] of decisions) {
    withWait(group.command(`${decision} <volume> <commit>`).description(words)).action(
      async (volume, id, options, command) => {
        const context = new Context(command, around);
        const path = `${PATH}/{commit}/${decision}` as const;
        const started = await context.client.post(path, at({ volume, commit: id }));
        await context.finish(started, {
          wait: options.wait,
          refresh: async () => ({ commit: await find(context, volume, id) }),
          forPeople: ({ commit }) => shown(volume, commit),
        });
      },
    );
  }
}

function startCommand(group: Command, around: Surroundings): void {
  const words =
    'merge images into the one below; snapshots from the base up to below the top are lost at once, also when ' +
    'the run is cancelled';
  withWait(group.command('start <volume>').description(words))
    .option('--top <snapshot>', 'snapshot whose image is merged (default: what the guest writes to)')
    .option('--base <snapshot>', 'snapshot whose image is merged into (default: the oldest)')
    .addOption(new Option('--shallow', 'merge into the image right below the top').conflicts('base'))
    .addOption(
      new Option('--active', 'needed without --top: when ready it waits for pivot or keep').conflicts('top'),
    )
    .option('--keep-files', 'do not delete the files of merged images')
    .option('--speed <size>', 'most bytes per second, like 50MiB', parseSize)
    .action(async (volume, options: StartOptions, command) => {
      const context = new Context(command, around);
      const { top, base, shallow, active, keepFiles, speed: speedBytesPerSecond } = options;
      const body = { top, base, shallow, active, delete: !keepFiles, speedBytesPerSecond };
      const started = await context.client.post(PATH, { ...at({ volume }), body });
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({ commit: await find(context, volume, started.commit!.id) }),
        forPeople: ({ commit }) => shown(volume, commit),
      });
    });
}
