// What `policy create`, `update` and `simulate` take, as the request that they make of it.
import type { Schema } from '@tidemark/client';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { parseSize } from '../sizes.ts';
import { parseCount } from './context.ts';
import { completionOption, type HookOptions, hooksOf, withHookOptions } from './hooks.ts';

const RULES = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;

type Window = Schema<'BandwidthWindowInput'>;
type Change = Schema<'UpdatePolicy'>;

export type PolicyOptions = Partial<Record<`keep${Capitalize<(typeof RULES)[number]>}`, number>> &
  HookOptions & {
    description?: string;
    selector?: string;
    cron?: string;
    timeZone?: string;
    missed?: NonNullable<Change['schedule']>['missed'];
    missedMax?: number;
    jitter?: number;
    kind?: Change['kind'];
    fullEvery?: number;
    repository?: string | false;
    replica?: string[];
    /** False: none any more. */
    replicas?: boolean;
    keep?: boolean;
    verify?: number;
    concurrency?: number;
    bandwidth?: Window[] | false;
    priority?: number;
    retries?: number;
    retryDelay?: number;
    grouped?: boolean;
    fenceLimit?: number;
    completion?: Schema<'PolicyGroups'>['completion'];
    /** False: none any more. */
    hooks?: boolean;
    dropOldest?: boolean;
  };

const KINDS = ['full', 'incremental', 'differential', 'checkpoint'];
const OF_GROUPS = '--fence-limit, --completion, --hook, --webhook and --no-hooks';
const WINDOW = /^(\d\d:\d\d)-(\d\d:\d\d)(?:@([1-7](?:,[1-7])*))?=(\S+)$/;

function parseWindow(text: string, before: Window[] | false = []): Window[] {
  const [, from = '', to = '', days = '', speed = ''] = WINDOW.exec(text) ?? [];
  if (from === '') {
    throw new InvalidArgumentError('Give a window like 08:00-18:00=50MiB, or 08:00-18:00@1,2,3,4,5=50MiB.');
  }
  const bytesPerSecond = speed === '0' ? 0 : parseSize(speed);
  return [
    ...(before || []),
    { from, to, days: days === '' ? [] : days.split(',').map(Number), bytesPerSecond },
  ];
}

const collect = (text: string, before: string[] = []): string[] => [...before, text];

function parsePercent(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && value >= 0 && value <= 100) return value;
  throw new InvalidArgumentError('Give a number from 0 to 100.');
}

export function withPolicyOptions(command: Command): Command {
  withHookOptions(command)
    .option('--description <text>', 'a note for people')
    .option('--selector <selector>', 'volumes with labels like these, such as app=web; all unless told')
    .option('--cron <rule>', 'when it is due, such as "30 2 * * *" or @hourly')
    .option('--time-zone <name>', 'where times and days are counted (default: UTC)')
    .addOption(
      new Option('--missed <rule>', 'what becomes of missed due moments').choices(['skip', 'once', 'all']),
    )
    .option('--missed-max <count>', 'of all: the newest so many', parseCount)
    .option('--jitter <seconds>', 'start up to this much later, each by its own', parseCount)
    .addOption(new Option('--kind <kind>', 'what it makes').choices(KINDS))
    .option('--full-every <count>', 'the first of so many firings is full', parseCount)
    .option('--repository <ref>', 'where backups go')
    .option('--replica <ref>', 'repository that each is copied to; may be given again', collect)
    .option('--verify <percent>', 'share of the backups of each firing to verify', parsePercent)
    .option('--concurrency <count>', 'backups at the same time', parseCount)
    .option('--bandwidth <window>', 'like 08:00-18:00@1,2,3,4,5=50MiB; may be given again', parseWindow)
    .option('--priority <number>', 'lower ones go first', parseCount)
    .option('--retries <count>', 'of backups that fail', parseCount)
    .option('--retry-delay <seconds>', 'before each of them', parseCount)
    .option('--grouped', 'all its volumes at one instant')
    .option('--fence-limit <ms>', 'how long guests may wait for that at most (default: 500)', parseCount)
    .addOption(completionOption('individual'))
    .option('--drop-oldest', 'the oldest checkpoint of a volume with as many as it may have goes (default)')
    .option('--no-drop-oldest', 'the backup of such a volume fails instead');
  for (const rule of RULES) command.option(`--keep-${rule} <count>`, `keep so many: ${rule}`, parseCount);
  return command;
}

/** With what takes away. */
export function withPolicyChanges(command: Command): Command {
  return withPolicyOptions(command)
    .option('--no-repository', 'no backups any more: with --kind checkpoint')
    .option('--no-replicas', 'no replicas any more')
    .option('--no-keep', 'no prunes any more; of one rule: --keep-daily 0')
    .option('--no-bandwidth', 'no limit any more')
    .option('--no-hooks', 'no hooks any more')
    .option('--no-grouped', 'each volume by itself again');
}

const seconds = (value: number | undefined) => (value === undefined ? undefined : value * 1000);
const given = <T extends object>(part: T) =>
  Object.values(part).some(value => value !== undefined) ? part : undefined;

function groupedOf(options: PolicyOptions): Change['grouped'] {
  const { grouped, fenceLimit: fenceLimitMs, completion } = options;
  const named = hooksOf(options);
  if (options.hooks === false && named !== undefined)
    throw new InvalidArgumentError(
      '--no-hooks takes all hooks away: leave it out, --hook and --webhook replace them.',
    );
  const hooks = options.hooks === false ? [] : named;
  const settings = given({ fenceLimitMs, completion, hooks });
  if (grouped !== false) return grouped ? (settings ?? {}) : settings;
  if (settings === undefined) return null;
  throw new InvalidArgumentError(`--no-grouped makes no groups any more: leave out ${OF_GROUPS}.`);
}

/** Volumes that are backed up each by itself are not put together by the way. */
export function saysGroups({ grouped, ...options }: PolicyOptions): boolean {
  return grouped === undefined && groupedOf(options) !== undefined;
}

export function noGroups(): InvalidArgumentError {
  return new InvalidArgumentError(
    `${OF_GROUPS} are about groups, and the policy makes none: say --grouped for all its volumes at one instant.`,
  );
}

/** Only what was given. */
export function bodyOf(options: PolicyOptions): Change {
  const { cron, timeZone, missed, missedMax, jitter, retries: times, retryDelay, verify } = options;
  const { description, selector, kind, fullEvery, concurrency, priority, dropOldest } = options;
  const { repository, bandwidth, replica, replicas, keep } = options;
  const rules = RULES.map(rule => {
    const name = `${rule[0]!.toUpperCase()}${rule.slice(1)}` as Capitalize<typeof rule>;
    return [rule, options[`keep${name}`]] as const;
  });
  return {
    ...{ description, selector, kind, fullEvery, concurrency, priority, dropOldest },
    repository: repository === false ? null : repository,
    bandwidth: bandwidth === false ? [] : bandwidth,
    replicas: replicas === false ? [] : replica,
    schedule: given({ cron, timeZone, missed, missedMax, jitterMs: seconds(jitter) }),
    keep: keep === false ? null : given(Object.fromEntries(rules)),
    retry: given({ times, delayMs: seconds(retryDelay) }),
    verifyPercent: verify,
    grouped: groupedOf(options),
  };
}
