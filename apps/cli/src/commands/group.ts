// tidemark group
import type { Query, Schema } from '@tidemark/client';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type Column, moment, record, table } from '../output.ts';
import { parseSize } from '../sizes.ts';
import { at, Context, parseCount, parseMoment, type Surroundings, withPage, withWait } from './context.ts';
import { droppedText } from './dropped.ts';
import { completionOption, type HookOptions, hooksOf, withHookOptions } from './hooks.ts';

type Group = Schema<'Group'>;

const PATH = '/v1/groups';

const GROUP_STATES = ['creating', 'ready', 'incomplete', 'failed', 'cancelled', 'deleting'];

const ms = (value: number): string => `${value.toFixed(1)} ms`;

const columns: readonly Column<Group>[] = [
  ['ID', group => group.id],
  ['NAME', group => group.name],
  ['KIND', group => group.kind],
  ['STATE', group => group.state],
  ['MEMBERS', group => group.members.length],
  ['POINT IN TIME', group => moment(group.pointInTime)],
  ['CREATED', group => moment(group.createdAt)],
];

const details: readonly Column<Group>[] = [
  ...columns,
  ['COMPLETION', group => group.completion],
  ['SELECTOR', group => group.selector],
  ['FENCE LIMIT', group => `${group.fenceLimitMs} ms`],
  ['LONGEST WAIT', group => group.proof && ms(group.proof.longestWaitMs)],
  ['FINISHED', group => moment(group.finishedAt)],
  ['ERROR', group => group.error && `${group.error.code}: ${group.error.message}`],
  ['RUN', group => group.runId],
];

const memberColumns: readonly Column<Schema<'GroupMember'>>[] = [
  ['VOLUME', member => member.volume],
  ['STATE', member => member.state],
  ['CHECKPOINT', member => member.checkpointId],
  ['BACKUP', member => member.backupId],
  ['ERROR', member => member.error && `${member.error.code}: ${member.error.message}`],
];

const proofColumns: readonly Column<Schema<'GroupProofNode'>>[] = [
  ['STORAGE NODE', node => node.storageNode],
  ['FENCED', node => ms(node.fencedMs)],
  ['COMMITTED', node => ms(node.committedMs)],
  ['RELEASED', node => ms(node.releasedMs)],
  ['HELD', node => (node.held ? `yes, ${ms(node.heldMs)}` : 'no')],
  ['LONGEST WAIT', node => ms(node.waitMaxMs)],
];

const hookColumns: readonly Column<Schema<'GroupProof'>['hooks'][number]>[] = [
  ['HOOK', ({ hook }) => hook],
  ['PHASE', ({ phase }) => phase],
  ['TOOK', ({ tookMs }) => ms(tookMs)],
  ['ERROR', ({ error }) => error],
];

function shown(group: Group | null): string {
  if (group === null) return 'It is gone again.';
  const parts = [record(group, details), table(group.members, memberColumns)];
  if (group.proof) parts.push(table(group.proof.nodes, proofColumns));
  if (group.proof?.hooks.length) parts.push(table(group.proof.hooks, hookColumns));
  return parts.join('\n\n');
}

export function groupCommands(program: Command, around: Surroundings): void {
  const group = program.command('group').description('several volumes, on any storage nodes, at one instant');
  createCommand(group, around);

  withPage(group.command('list').description('list groups, newest first'))
    .addOption(new Option('--state <state>', 'only groups in this state').choices(GROUP_STATES))
    .addOption(new Option('--kind <kind>', 'only groups of this kind').choices(['checkpoint', 'backup']))
    .option('--name <text>', 'only groups whose name holds this')
    .option('--volume <ref>', 'only groups that this volume is in')
    .option('--storage-node <ref>', 'only groups with volumes on this storage node')
    .option('--repository <ref>', 'only groups with backups in this repository')
    .option('--policy <ref>', 'only groups that firings of this policy have made')
    .option('--since <moment>', 'only groups asked for at that moment or later', parseMoment)
    .option('--until <moment>', 'only groups asked for before that moment', parseMoment)
    .action(async (query: Query<typeof PATH>, command) => {
      const { client, output } = new Context(command, around);
      output.list(await client.list(PATH, { params: { query } }), columns);
    });

  group
    .command('show <group>')
    .description('look at a group, its members, and the proof that they are of one instant')
    .action(async (ref, _options, command) => {
      const { client, output } = new Context(command, around);
      const found = await client.get(`${PATH}/{group}`, at({ group: ref }));
      output.print(found, () => shown(found));
    });

  withWait(
    group.command('delete <group>').description('delete a group, its checkpoints and its backups'),
  ).action(async (ref, options, command) => {
    const context = new Context(command, around);
    const started = await context.client.delete(`${PATH}/{group}`, at({ group: ref }));
    await context.finish(started, {
      wait: options.wait,
      refresh: async () => ({ group: null }),
      forPeople: () => `group ${started.group?.name ?? ref} is deleted`,
    });
  });
}

interface CreateOptions extends HookOptions {
  volume?: string[];
  selector?: string;
  backup?: string;
  kind?: Schema<'GroupBackup'>['kind'];
  completion?: Schema<'CreateGroup'>['completion'];
  fenceLimit?: number;
  description?: string;
  compression?: Schema<'GroupBackup'>['compression'];
  speed?: number;
  dropOldest?: boolean;
  wait: boolean;
}

function createCommand(group: Command, around: Surroundings): void {
  const words = 'take a checkpoint of each volume, all of one instant or none, and back them up';
  withWait(withHookOptions(group.command('create <name>').description(words)))
    .addOption(new Option('--volume <ref...>', 'volumes of the group').conflicts('selector'))
    .option('--selector <selector>', 'all volumes with labels like these, such as app=shop')
    .option('--backup <repository>', 'back each volume up to this repository, too')
    .addOption(
      new Option(
        '--kind <kind>',
        'of the backups; one that has no base is full (default: incremental)',
      ).choices(['full', 'incremental', 'differential']),
    )
    .addOption(completionOption('grouped'))
    .option('--fence-limit <ms>', 'how long guests may wait at most (default: 500)', parseCount)
    .option('--drop-oldest', 'let the oldest checkpoint of a volume that has as many as it may have go')
    .option('--description <text>', 'of the checkpoints and backups')
    .addOption(new Option('--compression <how>', 'how backups are stored').choices(['none', 'zstd']))
    .option('--speed <size>', 'most bytes per second of each backup, like 50MiB', parseSize)
    .action(async (name, options: CreateOptions, command) => {
      const context = new Context(command, around);
      const started = await context.client.post(PATH, { body: bodyOf(name, options) });
      const { dropped } = started;
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({
          group: await context.client.get(`${PATH}/{group}`, at({ group: started.group!.id })),
          dropped,
        }),
        forPeople: ({ group: made, run }) => `${shown(made)}${droppedText(run)}`,
      });
    });
}

/** What would be left out without a word. */
function requireSense({ volume, selector, backup, ...rest }: CreateOptions): void {
  if (volume === undefined && selector === undefined) {
    const text = 'Say which volumes: --volume REF, with more behind it, or --selector app=shop.';
    throw new InvalidArgumentError(text);
  }
  const { kind, compression, speed } = rest;
  const ofBackups = kind ?? compression ?? speed;
  if (backup === undefined && ofBackups !== undefined) {
    const text = '--kind, --compression and --speed are about backups: say with --backup where they go.';
    throw new InvalidArgumentError(text);
  }
}

function bodyOf(name: string, options: CreateOptions): Schema<'CreateGroup'> {
  requireSense(options);
  const { volume: volumes, selector, completion, fenceLimit: fenceLimitMs, description } = options;
  const { backup: repository, kind, compression, speed: speedBytesPerSecond } = options;
  const hooks = hooksOf(options);
  const backup =
    repository === undefined ? undefined : { repository, kind, compression, speedBytesPerSecond };
  const { dropOldest } = options;
  return { name, volumes, selector, completion, fenceLimitMs, description, dropOldest, hooks, backup };
}
