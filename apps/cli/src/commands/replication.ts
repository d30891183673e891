// tidemark replication rule, and tidemark backup replicate
import type { Query, Schema } from '@tidemark/client';
import { type Command, InvalidArgumentError } from 'commander';
import { type Column, moment, seconds, size } from '../output.ts';
import { parseSize } from '../sizes.ts';
import { backupText } from './backup-columns.ts';
import {
  at,
  Context,
  enabledQuery,
  parseCount,
  type Surroundings,
  withEnabled,
  withPage,
  withWait,
} from './context.ts';
import { KEEP_RULES, keepOf, withKeep } from './keep.ts';

type ReplicationRule = Schema<'ReplicationRule'>;

const PATH = '/v1/replication-rules';

const columns: readonly Column<ReplicationRule>[] = [
  ['NAME', rule => rule.name],
  ['SOURCE', rule => rule.source],
  ['TARGET', rule => rule.target],
  ['SELECTOR', rule => rule.selector || null],
  ['ENABLED', rule => (rule.enabled ? 'yes' : 'no')],
  ['KEEPS', kept],
];

const details: readonly Column<ReplicationRule>[] = [
  ['ID', rule => rule.id],
  ...columns,
  ['TIME ZONE', rule => rule.timeZone],
  ['FLATTENED', rule => (rule.flatten ? 'yes' : 'no')],
  ['FIRST', rule => (rule.newestFirst ? 'newest' : 'oldest')],
  ['AT A TIME', rule => rule.concurrency],
  ['SPEED', rule => size(rule.speedBytesPerSecond)],
  ['MISSING', ({ status }) => status && missingText(status.missing)],
  ['BEHIND', ({ status }) => status && seconds(status.lagMs)],
  ['NEWEST THERE', ({ status }) => status && moment(status.newestPointInTime)],
  ['RUNNING', ({ status }) => status?.running ?? null],
  [
    'BLOCKED',
    ({ status }) =>
      status && (status.blocked.map(({ backup, why }) => `${backup}: ${why}`).join('; ') || null),
  ],
  [
    'LAST FAILURE',
    ({ status }) => (status?.error ? `${moment(status.failedAt)}: ${status.error.message}` : null),
  ],
];

const missingText = ({ backups, bytes }: NonNullable<ReplicationRule['status']>['missing']): string =>
  `${backups} ${backups === 1 ? 'backup' : 'backups'}, ${size(bytes)}`;

function kept({ keep }: ReplicationRule): string {
  if (keep === null) return 'everything';
  return KEEP_RULES.filter(rule => (keep[rule] ?? 0) > 0)
    .map(rule => `${rule} ${keep[rule]}`)
    .join(', ');
}

const yesOrNo = (text: string): boolean => {
  if (text === 'yes' || text === 'no') return text === 'yes';
  throw new InvalidArgumentError('Say yes or no.');
};

export function replicationCommands(program: Command, around: Surroundings): void {
  const group = program
    .command('replication')
    .description('backups in another repository, too')
    .command('rule')
    .description('what is copied from which repository to which, and what is kept there');

  withKeep(
    group
      .command('create <name>')
      .description('copy from one repository to another from now on')
      .requiredOption('--source <ref>', 'repository whose backups are copied')
      .requiredOption('--target <ref>', 'repository that they are copied to')
      .option('--selector <selector>', 'only backups of volumes with labels like these')
      .option('--disabled', 'make the rule, and copy nothing yet'),
  )
    .option('--time-zone <name>', 'where days begin')
    .option('--flatten', 'each replica is a full backup')
    .option('--newest-first', 'what is newest comes first, with all that it stands on')
    .option('--concurrency <count>', 'volumes at a time', parseCount)
    .option('--speed <size>', 'most bytes per second of each copy, like 50MiB', parseSize)
    .action(async (name, options, command) => {
      const { client, output } = new Context(command, around);
      const { source, target, selector, timeZone, flatten, newestFirst, concurrency, disabled } = options;
      const settings = { selector, timeZone, flatten, newestFirst, concurrency };
      const keep = keepOf(options);
      const body: Schema<'CreateReplicationRule'> = {
        name,
        source,
        target,
        enabled: !disabled,
        keep,
        ...settings,
        speedBytesPerSecond: options.speed,
      };
      output.show(await client.post(PATH, { body }), details);
    });

  withEnabled(withPage(group.command('list').description('list replication rules')))
    .option('--name <text>', 'only rules whose name holds this')
    .option('--from <repository>', 'only rules that replicate from it')
    .option('--to <repository>', 'only rules that replicate to it')
    .action(async ({ from: source, to: target, ...options }, command) => {
      const { client, output } = new Context(command, around);
      const query: Query<typeof PATH> = enabledQuery({ ...options, source, target });
      output.list(await client.list(PATH, { params: { query } }), columns);
    });

  group
    .command('show <rule>')
    .description('look at a rule, and at what is missing in its target')
    .action(async (ref, _options, command) => {
      const { client, output } = new Context(command, around);
      output.show(await client.get(`${PATH}/{rule}`, at({ rule: ref })), details);
    });

  changeCommands(group, around);
}

function changeCommands(group: Command, around: Surroundings): void {
  withKeep(group.command('set <rule>').description('change a rule'))
    .option('--keep-all', 'keep everything in the target')
    .option('--rename <name>', 'another name')
    .option('--selector <selector>', 'only backups of volumes with labels like these; empty: of all')
    .option('--enabled <yes-or-no>', 'copy, or stand still', yesOrNo)
    .option('--time-zone <name>', 'where days begin')
    .option('--flatten <yes-or-no>', 'each replica is a full backup', yesOrNo)
    .option('--newest-first <yes-or-no>', 'what is newest comes first', yesOrNo)
    .option('--concurrency <count>', 'volumes at a time', parseCount)
    .option('--speed <size>', 'most bytes per second of each copy, like 50MiB', parseSize)
    .action(async (ref, options, command) => {
      const { client, output } = new Context(command, around);
      const { rename: name, selector, enabled, timeZone, flatten, newestFirst, concurrency } = options;
      const keep = options.keepAll ? null : keepOf(options);
      const body: Schema<'ChangeReplicationRule'> = {
        ...{ name, selector, enabled, timeZone, flatten, newestFirst, concurrency, keep },
        speedBytesPerSecond: options.speed,
      };
      output.show(await client.patch(`${PATH}/{rule}`, { ...at({ rule: ref }), body }), details);
    });

  group
    .command('delete <rule>')
    .description('copy no more; what was copied stays')
    .action(async (ref, _options, command) => {
      const { client, output } = new Context(command, around);
      const rule = await client.delete(`${PATH}/{rule}`, at({ rule: ref }));
      output.print(
        rule,
        () => `replication rule ${rule.name} is gone; what it copied stays in ${rule.target}`,
      );
    });
}

/** Under `tidemark backup`. */
export function replicateCommand(group: Command, around: Surroundings): void {
  withWait(group.command('replicate <backup>').description('copy a backup to another repository'))
    .requiredOption('--repository <ref>', 'repository that will hold the replica')
    .option('--flatten', 'as one full backup; otherwise what is missing below it comes first')
    .option('--speed <size>', 'most bytes per second, like 50MiB', parseSize)
    .action(async (id, options, command) => {
      const context = new Context(command, around);
      const { repository, flatten, speed: speedBytesPerSecond } = options;
      const body = { repository, flatten, speedBytesPerSecond };
      const { client } = context;
      const started = await client.post('/v1/backups/{backup}/replicate', { ...at({ backup: id }), body });
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({
          backup: await client.get('/v1/backups/{backup}', at({ backup: started.backup!.id })),
        }),
        forPeople: ({ backup }) => backupText(context, backup),
      });
    });
}
