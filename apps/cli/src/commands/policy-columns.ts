// How policies are shown: in a list, and one alone.
import type { Schema } from '@tidemark/client';
import { type Column, moment, seconds, size } from '../output.ts';
import { hookText } from './hooks.ts';

type Policy = Schema<'Policy'>;
type Window = Policy['bandwidth'][number];

export const policyColumns: readonly Column<Policy>[] = [
  ['NAME', policy => policy.name],
  ['STATE', policy => (policy.enabled ? 'enabled' : 'disabled')],
  ['SELECTOR', policy => policy.selector || 'all'],
  ['SCHEDULE', ({ schedule }) => `${schedule.cron} ${schedule.timeZone}`],
  ['KIND', ({ kind, fullEvery }) => (fullEvery > 0 ? `${kind}, full every ${fullEvery}` : kind)],
  ['KEEPS', policy => keepText(policy)],
  ['NEXT', policy => moment(policy.nextDueAt)],
];

/** `names`: of its repositories, and of the storage nodes of its hooks, by id. */
export function policyDetails(names: ReadonlyMap<string, string>): readonly Column<Policy>[] {
  const name = (id: string) => names.get(id) ?? id;
  return [
    ['ID', policy => policy.id],
    ...policyColumns,
    ['REPOSITORY', ({ repositoryId }) => repositoryId && name(repositoryId)],
    ['REPLICAS', ({ replicaIds }) => replicaIds.map(name).join(', ') || null],
    ['VERIFIED', ({ verifyPercent }) => `${verifyPercent} % of each firing`],
    ['MISSED', ({ schedule }) => missedText(schedule)],
    ['JITTER', ({ schedule }) => seconds(schedule.jitterMs)],
    ['TOGETHER', ({ grouped }) => (grouped ? `yes, fence limit ${grouped.fenceLimitMs} ms` : 'no')],
    ['COMPLETION', ({ grouped }) => grouped?.completion ?? null],
    ['HOOKS', ({ grouped }) => grouped?.hooks.map(hook => hookText(hook, names)).join('; ') || null],
    ['AT A TIME', policy => policy.concurrency],
    ['BANDWIDTH', ({ bandwidth }) => bandwidth.map(windowText).join('; ') || null],
    ['PRIORITY', policy => policy.priority],
    ['RETRIES', ({ retry }) => `${retry.times}, after ${seconds(retry.delayMs)}`],
    ['DROPS OLDEST', policy => (policy.dropOldest ? 'yes' : 'no')],
    ['DESCRIPTION', policy => policy.description || null],
  ];
}

function keepText({ keep }: Policy): string | null {
  const rules = Object.entries(keep ?? {}).filter(([, count]) => count > 0);
  return rules.map(([rule, count]) => `${rule} ${count}`).join(', ') || null;
}

const missedText = ({ missed, missedMax }: Policy['schedule']): string =>
  missed === 'all' ? `all, ${missedMax} at most` : missed;

/** As `--bandwidth` takes it. */
function windowText({ from, to, days = [], bytesPerSecond }: Window): string {
  const on = days.length === 0 ? '' : `@${days.join()}`;
  return `${from}-${to}${on}=${bytesPerSecond === 0 ? 'no limit' : `${size(bytesPerSecond)}/s`}`;
}
