// What `policy create`, `update` and `simulate` take, as the request that they make of it.
import type { Schema } from '@tidemark/client';
import { type Command, InvalidArgumentError } from 'commander';
import { parseSize } from '../sizes.ts';
import { parseCount } from './context.ts';

const RULES = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;

type Window = Schema<'BandwidthWindowInput'>;
type Change = Schema<'UpdatePolicy'>;

export type PolicyOptions = Partial<Record<`keep${string}`, number>> & {
  description?: string;
  selector?: string;
  cron?: string;
  timeZone?: string;
  missed?: NonNullable<Change['schedule']>['missed'];
  missedMax?: number;
  jitter?: number;
  kind?: Change['kind'];
  fullEvery?: number;
  repository?: string;
  replica?: string[];
  verify?: number;
  concurrency?: number;
  bandwidth?: Window[];
  priority?: number;
  retries?: number;
  retryDelay?: number;
  grouped?: true;
};

const WINDOW = /^(\d\d:\d\d)-(\d\d:\d\d)(?:@([1-7](?:,[1-7])*))?=(\S+)$/;

function parseWindow(text: string, before: Window[] = []): Window[] {
  const [, from = '', to = '', days = '', speed = ''] = WINDOW.exec(text) ?? [];
  if (from === '') {
    throw new InvalidArgumentError('Give a window like 08:00-18:00=50MiB, or 08:00-18:00@1,2,3,4,5=50MiB.');
  }
  const bytesPerSecond = speed === '0' ? 0 : parseSize(speed);
  return [...before, { from, to, days: days === '' ? [] : days.split(',').map(Number), bytesPerSecond }];
}

const collect = (text: string, before: string[] = []): string[] => [...before, text];

function parsePercent(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && value >= 0 && value <= 100) return value;
  throw new InvalidArgumentError('Give a number from 0 to 100.');
}

export function withPolicyOptions(command: Command): Command {
  command
    .option('--description <text>', 'a note for people')
    .option('--selector <selector>', 'volumes with labels like these, such as app=web; all unless told')
    .option('--cron <rule>', 'when it is due, such as "30 2 * * *" or @hourly')
    .option('--time-zone <name>', 'where times and days are counted (default: UTC)')
    .option('--missed <rule>', 'what becomes of missed due moments: skip, once or all')
    .option('--missed-max <count>', 'of all: the newest so many', parseCount)
    .option('--jitter <seconds>', 'start up to this much later, each by its own', parseCount)
    .option('--kind <kind>', 'full, incremental, differential or checkpoint')
    .option('--full-every <count>', 'the first of so many firings is full', parseCount)
    .option('--repository <ref>', 'where backups go')
    .option('--replica <ref>', 'repository that each is copied to; may be given again', collect)
    .option('--verify <percent>', 'share of the backups of each firing to verify', parsePercent)
    .option('--concurrency <count>', 'backups at the same time', parseCount)
    .option('--bandwidth <window>', 'like 08:00-18:00@1,2,3,4,5=50MiB; may be given again', parseWindow)
    .option('--priority <number>', 'lower ones go first', parseCount)
    .option('--retries <count>', 'of backups that fail', parseCount)
    .option('--retry-delay <seconds>', 'before each of them', parseCount)
    .option('--grouped', 'all its volumes at one instant');
  for (const rule of RULES) command.option(`--keep-${rule} <count>`, `keep so many: ${rule}`, parseCount);
  return command;
}

const seconds = (value: number | undefined) => (value === undefined ? undefined : value * 1000);
const given = <T extends object>(part: T) =>
  Object.values(part).some(value => value !== undefined) ? part : undefined;

/** Only what was given. */
export function bodyOf(options: PolicyOptions): Change {
  const { cron, timeZone, missed, missedMax, jitter, retries: times, retryDelay, verify, replica } = options;
  const { description, selector, kind, fullEvery, repository, concurrency, bandwidth, priority } = options;
  const rules = RULES.map(rule => [rule, options[`keep${rule[0]!.toUpperCase()}${rule.slice(1)}`]] as const);
  return {
    ...{ description, selector, kind, fullEvery, repository, concurrency, bandwidth, priority },
    schedule: given({ cron, timeZone, missed, missedMax, jitterMs: seconds(jitter) }),
    keep: given(Object.fromEntries(rules)),
    retry: given({ times, delayMs: seconds(retryDelay) }),
    replicas: replica,
    verifyPercent: verify,
    grouped: options.grouped === true ? {} : undefined,
  };
}
