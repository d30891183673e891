// tidemark prune, and what concerns single backups of it.
import { ProblemFailure, resultOf, type Schema } from '@tidemark/client';
import { type Command, InvalidArgumentError } from 'commander';
import { type Column, moment, size, table } from '../output.ts';
import { formatSize, parseSize } from '../sizes.ts';
import { showBackup } from './backup-columns.ts';
import { at, Context, parseMoment, type Surroundings, withWait } from './context.ts';
import { type KeepOptions, keepOf, withKeep } from './keep.ts';

type Backup = Schema<'Backup'>;
type PruneAnswer = Schema<'PruneAnswer'>;
type PruneItem = Schema<'PruneItem'>;
type Run = Schema<'Run'>;

const columns: readonly Column<PruneItem>[] = [
  ['BACKUP', item => item.backup],
  ['VOLUME', item => item.volume ?? item.volumeId],
  ['CHECKPOINT', item => item.checkpoint.name],
  ['POINT IN TIME', item => moment(item.pointInTime)],
  ['GOES', item => (item.goes ? (item.blockedBy === null ? 'yes' : 'later') : 'no')],
  ['FREES', item => (item.goes ? `<= ${size(item.freedBytes)}` : null)],
  ['WHY', item => (item.goes ? (item.blockedBy ?? whatGoes(item)) : item.keep.join(', '))],
];

const checkpointColumns = (items: readonly PruneItem[]): readonly Column<Schema<'PruneCheckpoint'>>[] => {
  const names = new Map(items.map(({ volumeId, volume }) => [volumeId, volume]));
  return [
    ['CHECKPOINT', checkpoint => checkpoint.name],
    ['VOLUME', ({ volumeId }) => names.get(volumeId) ?? volumeId],
    ['POINT IN TIME', checkpoint => moment(checkpoint.pointInTime)],
    ['GOES', checkpoint => (checkpoint.goes ? 'yes' : 'no')],
    ['WHY', ({ goes, keep }) => (goes ? 'no backup holds it any more' : keep.join(', '))],
  ];
};

function whatGoes({ checkpoint, awaitedBy }: PruneItem): string {
  const copies = awaitedBy.map(who => `; ${who}, has yet to copy it`).join('');
  return `no rule keeps it${checkpoint.goes ? '; its checkpoint goes, too' : ''}${copies}`;
}

type Options = KeepOptions & {
  repository: string;
  volume?: string;
  timeZone: string;
  dryRun?: boolean;
  speed?: number;
  wait: boolean;
};

export function pruneCommand(program: Command, around: Surroundings): void {
  const command = withKeep(
    program
      .command('prune')
      .description('remove backups that no rule keeps')
      .requiredOption('--repository <ref>', 'repository to prune')
      .option('--volume <ref>', 'only backups of this volume'),
  );
  command
    .option('--time-zone <name>', 'where days begin', Intl.DateTimeFormat().resolvedOptions().timeZone)
    .option('--dry-run', 'say what would be done, and do nothing')
    .option('--speed <size>', 'most bytes per second that are copied, like 50MiB', parseSize);
  withWait(command).action(async (options: Options, self) => {
    const context = new Context(self, around);
    const answer = await context.client.post('/v1/prune', { body: bodyOf(options) });
    if (answer.run === null) {
      context.output.print(answer, () => planText(answer));
      return;
    }
    const { items, checkpoints, freedBytes } = answer;
    await context.finish(
      { run: answer.run, items, checkpoints, freedBytes },
      {
        wait: options.wait,
        refresh: async () => ({ items, checkpoints, freedBytes }),
        forPeople: ({ run }) => endText(run),
      },
    );
  });
}

function bodyOf(options: Options): Schema<'Prune'> {
  const keep = keepOf(options) ?? {};
  if (!Object.values(keep).some(count => count > 0)) {
    const text = 'Nothing would be kept. Say what is kept, such as --keep-last 3 or --keep-daily 7.';
    throw new InvalidArgumentError(text);
  }
  const { repository, volume, timeZone, dryRun = false, speed: speedBytesPerSecond } = options;
  return { repository, volume, keep, timeZone, dryRun, speedBytesPerSecond };
}

function planText({ items, checkpoints, freedBytes }: PruneAnswer): string {
  const going = items.filter(({ goes, blockedBy }) => goes && blockedBy === null).length;
  const later = items.filter(({ goes, blockedBy }) => goes && blockedBy !== null).length;
  const apart = later > 0 ? `, ${later} later` : '';
  const sum = `${going} of ${items.length} go${apart}; at most ${formatSize(freedBytes)} come back`;
  const backups = items.length === 0 ? 'none' : `${table(items, columns)}\n${sum}`;
  if (checkpoints.length === 0) return backups;
  return `${backups}\n\n${table(checkpoints, checkpointColumns(items))}`;
}

function endText(run: Run): string {
  const result = resultOf(run, 'prune');
  const { removed = [], waiting = [], checkpoints = [], freedBytes = 0 } = result ?? {};
  const gone = `${removed.length} backups and ${checkpoints.length} checkpoints`;
  const lines = [
    `removed ${gone}; ${formatSize(Math.max(0, freedBytes))} came back`,
    ...waiting.map(({ backup, why }) => `${backup} stays hidden for now: ${why}`),
  ];
  return lines.join('\n');
}

/** Null once it is gone: one that waits is still there, hidden. */
async function findBackup({ client }: Context, id: string): Promise<Backup | null> {
  try {
    return await client.get('/v1/backups/{backup}', at({ backup: id }));
  } catch (error) {
    if (error instanceof ProblemFailure && error.code === 'backup-not-found') return null;
    throw error;
  }
}

/** Under `tidemark backup`. */
export function retentionCommands(group: Command, around: Surroundings): void {
  const change = async (command: Command, id: string, body: Schema<'UpdateBackup'>) => {
    const context = new Context(command, around);
    await showBackup(
      context,
      await context.client.patch('/v1/backups/{backup}', { ...at({ backup: id }), body }),
    );
  };
  group
    .command('pin <backup>')
    .description('protect a backup until a moment')
    .requiredOption('--until <moment>', 'a day or a moment, like 2027-01-31', parseMoment)
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
      const started = await context.client.delete('/v1/backups/{backup}', at({ backup: id }));
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({ backup: await findBackup(context, id) }),
        forPeople: ({ run }) => endText(run),
      });
    },
  );
}
