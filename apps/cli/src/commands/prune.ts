// tidemark prune, and what concerns single backups of it.
import { type Command, InvalidArgumentError } from 'commander';
import type { Backup, PruneAnswer, PruneItem, Run } from '../answers.ts';
import { type Column, moment, size, table } from '../output.ts';
import { formatSize, parseSize } from '../sizes.ts';
import { backupDetails } from './backup-columns.ts';
import { Context, parseCount, type Surroundings, segment, withWait } from './context.ts';

const RULES = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;

const columns: readonly Column<PruneItem>[] = [
  ['BACKUP', item => item.backup],
  ['CHECKPOINT', item => item.checkpoint.name],
  ['POINT IN TIME', item => moment(item.pointInTime)],
  ['GOES', item => (item.goes ? (item.blockedBy === null ? 'yes' : 'later') : 'no')],
  ['FREES', item => (item.goes ? `<= ${size(item.freedBytes)}` : null)],
  ['WHY', item => (item.goes ? (item.blockedBy ?? whatGoes(item)) : item.keep.join(', '))],
];

function whatGoes({ checkpoint }: PruneItem): string {
  return checkpoint.goes ? 'no rule keeps it; its checkpoint goes, too' : 'no rule keeps it';
}

type Options = Record<`keep${string}`, number | undefined> & {
  repository: string;
  volume?: string;
  timeZone: string;
  dryRun?: boolean;
  speed?: number;
  wait: boolean;
};

export function pruneCommand(program: Command, around: Surroundings): void {
  const command = program
    .command('prune')
    .description('remove backups that no rule keeps')
    .requiredOption('--repository <ref>', 'repository to prune')
    .option('--volume <ref>', 'only backups of this volume');
  for (const rule of RULES) {
    const what =
      rule === 'last' ? 'so many of the newest' : `the newest of so many ${PERIOD_WORDS[rule]} that have one`;
    command.option(`--keep-${rule} <count>`, `keep ${what}`, parseCount);
  }
  command
    .option('--time-zone <name>', 'where days begin', Intl.DateTimeFormat().resolvedOptions().timeZone)
    .option('--dry-run', 'say what would be done, and do nothing')
    .option('--speed <size>', 'most bytes per second that are copied, like 50MiB', parseSize);
  withWait(command).action(async (options: Options, self) => {
    const context = new Context(self, around);
    const answer = await context.client.post<PruneAnswer>('/v1/prune', bodyOf(options));
    if (answer.run === null) {
      context.output.print(answer, () => planText(answer));
      return;
    }
    const { items, freedBytes } = answer;
    await context.finish(
      { run: answer.run, items, freedBytes },
      {
        wait: options.wait,
        refresh: async () => ({ items, freedBytes }),
        forPeople: ({ run }) => endText(run),
      },
    );
  });
}

const PERIOD_WORDS = {
  hourly: 'hours',
  daily: 'days',
  weekly: 'weeks',
  monthly: 'months',
  yearly: 'years',
} as const;

function bodyOf(options: Options): object {
  const keep = Object.fromEntries(
    RULES.map(rule => [rule, options[`keep${rule[0]!.toUpperCase()}${rule.slice(1)}`]]),
  );
  const { repository, volume, timeZone, dryRun = false, speed: speedBytesPerSecond } = options;
  return { repository, volume, keep, timeZone, dryRun, speedBytesPerSecond };
}

function planText({ items, freedBytes }: PruneAnswer): string {
  if (items.length === 0) return 'none';
  const going = items.filter(({ goes }) => goes).length;
  const sum = `${going} of ${items.length} go; at most ${formatSize(freedBytes)} come back`;
  return `${table(items, columns)}\n${sum}`;
}

interface PruneResult {
  removed?: { backup: string }[];
  waiting?: { backup: string; why: string }[];
  checkpoints?: { name: string }[];
  freedBytes?: number;
}

function endText({ result }: Run): string {
  const { removed = [], waiting = [], checkpoints = [], freedBytes = 0 }: PruneResult = result ?? {};
  const gone = `${removed.length} backups and ${checkpoints.length} checkpoints`;
  const lines = [
    `removed ${gone}; ${formatSize(Math.max(0, freedBytes))} came back`,
    ...waiting.map(({ backup, why }) => `${backup} stays hidden for now: ${why}`),
  ];
  return lines.join('\n');
}

interface DeleteAnswer {
  run: Run;
  backup: Backup | null;
}

/** Under `tidemark backup`. */
export function retentionCommands(group: Command, around: Surroundings): void {
  const change = async (command: Command, id: string, body: object) => {
    const { client, output } = new Context(command, around);
    output.show(await client.patch<Backup>(`/v1/backups/${segment(id)}`, body), backupDetails);
  };
  group
    .command('pin <backup>')
    .description('protect a backup until a moment')
    .requiredOption('--until <moment>', 'such as 2027-01-31 or 2027-01-31T12:00:00Z', parseMoment)
    .action((id, { until }, command) => change(command, id, { pinnedUntil: until }));
  group
    .command('unpin <backup>')
    .description('take its protection away')
    .action((id, _options, command) => change(command, id, { pinnedUntil: null }));
  group
    .command('describe <backup> <text>')
    .description('write a note to a backup')
    .action((id, description, _options, command) => change(command, id, { description }));
  withWait(group.command('delete <backup>').description('let a backup go')).action(
    async (id, options, command) => {
      const context = new Context(command, around);
      const started = await context.client.delete<DeleteAnswer>(`/v1/backups/${segment(id)}`);
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({ backup: null }),
        forPeople: ({ run }) => endText(run),
      });
    },
  );
}

/** A day means its beginning, UTC. */
function parseMoment(text: string): string {
  const at = new Date(text);
  if (/^\d{4}-\d\d-\d\d/.test(text) && !Number.isNaN(at.getTime())) return at.toISOString();
  throw new InvalidArgumentError('Give a day or a moment, like 2027-01-31 or 2027-01-31T12:00:00Z.');
}
