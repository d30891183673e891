// Backups that somebody has yet to copy to another repository: what policies and rules let go stays until that is done
// or given up, or what was to be in two places would be in none. Nothing stays for ever because of it: firings give
// their replicas up after a day, and a rule that brings nothing is waited for no longer than RULE_AWAITED_MS.
import type { CatalogTransaction } from '../catalog.ts';
import type { AwaitedReplica } from '../firing-replica-repository.ts';
import { hasPassed } from '../moments.ts';
import { pagesOf } from '../page.ts';
import { planReplication } from '../replication/replica-plan.ts';
import type { ReplicationRule } from '../replication-rule-repository.ts';
import type { RetentionRow } from '../retention-rows.ts';
import { keepsAnything } from './keep.ts';
import { chosenBy } from './keepers.ts';

/**
 * So long a backup waits for a rule, counted anew with each replica that the rule brings: a target that is away over
 * a long weekend loses nothing, and one that is lost, or stays full, does not fill the source as well.
 */
export const RULE_AWAITED_MS = 7 * 86_400_000;

export type AwaitedLook = Pick<
  CatalogTransaction,
  'backups' | 'firingReplicas' | 'replicationRules' | 'repositories' | 'retention' | 'volumes'
>;

export interface AwaitedQuestion {
  readonly repositoryId: string;
  /** All backups of their volumes there. */
  readonly rows: readonly RetentionRow[];
  readonly goes: readonly { readonly id: string }[];
  readonly now: Date;
}

/** By the ids of those of `goes` that are yet to be copied, who is to copy them, in words. */
export async function awaitedOf(
  catalog: AwaitedLook,
  question: AwaitedQuestion,
): Promise<Map<string, string[]>> {
  const awaited = new Map<string, string[]>();
  const going = new Set(question.goes.map(({ id }) => id));
  if (going.size === 0) return awaited;
  const add = (id: string, who: string) => {
    if (going.has(id)) awaited.set(id, [...(awaited.get(id) ?? []), who]);
  };
  await addOfFirings(catalog, question, add);
  for (const rule of await rulesOutOf(catalog, question.repositoryId)) {
    for (const id of await missingBy(catalog, rule, question)) {
      add(id, `replication rule '${rule.name}', for repository '${rule.target}'`);
    }
  }
  return awaited;
}

/** Rules that copy backups of the repository elsewhere: those that are switched on. */
export async function rulesOutOf(
  catalog: Pick<AwaitedLook, 'replicationRules'>,
  sourceRepositoryId: string,
): Promise<ReplicationRule[]> {
  const filter = { sourceRepositoryId, enabled: true };
  const rules: ReplicationRule[] = [];
  for await (const some of pagesOf(page => catalog.replicationRules.list({ ...page, ...filter }))) {
    rules.push(...some);
  }
  return rules;
}

/** With what they stand on and the target has not: a chain is copied from its oldest on. */
async function addOfFirings(
  catalog: AwaitedLook,
  { rows }: AwaitedQuestion,
  add: (id: string, who: string) => void,
): Promise<void> {
  const available = new Map(rows.filter(({ state }) => state === 'available').map(row => [row.id, row]));
  const wanted = await catalog.firingReplicas.awaited([...available.keys()]);
  for (const [repositoryId, ofTarget] of Map.groupBy(wanted, one => one.repositoryId)) {
    const chains = ofTarget.map(one => ({ one, chain: chainOf(one, available) }));
    const checkpointIds = chains.flatMap(({ chain }) => chain.map(({ checkpointId }) => checkpointId));
    const there = await catalog.backups.twinsIn(repositoryId, [...new Set(checkpointIds)]);
    for (const { one, chain } of chains) {
      const who = `policy '${one.policy}', for repository '${one.repository}'`;
      for (const [at, { id, checkpointId }] of chain.entries()) {
        if (at > 0 && there.has(checkpointId)) break;
        add(id, at === 0 ? who : `${who}, where backup ${one.backupId} is to stand on it`);
      }
    }
  }
}

/** Itself, and what it stands on, as far as that is among them. */
function chainOf({ backupId }: AwaitedReplica, available: ReadonlyMap<string, RetentionRow>): RetentionRow[] {
  const chain: RetentionRow[] = [];
  for (let row = available.get(backupId); row !== undefined; row = available.get(row.parentId ?? '')) {
    chain.push(row);
  }
  return chain;
}

/** Ids of those that the rule has yet to bring, and can. */
async function missingBy(
  catalog: AwaitedLook,
  rule: ReplicationRule,
  { rows, goes, now }: AwaitedQuestion,
): Promise<string[]> {
  // What keeps nothing is a mistake, by which nothing is ever copied.
  if (rule.keep !== null && !keepsAnything(rule.keep)) return [];
  const { state } = await catalog.repositories.get(rule.targetRepositoryId);
  if (state !== 'ready') return [];
  const going = new Set(goes.map(({ id }) => id));
  const volumeIds = [...new Set(rows.filter(({ id }) => going.has(id)).map(({ volumeId }) => volumeId))];
  const wanted = new Set(volumeIds);
  const isOfRule = await chosenBy(catalog, rule, volumeIds);
  const isChosen = (id: string) => wanted.has(id) && isOfRule(id);
  const target = await catalog.retention.backups(rule.targetRepositoryId, { volumeIds });
  const { missing, blocked } = planReplication({ source: rows, target, isChosen, now }, rule);
  const left = missing.filter(({ id }) => going.has(id));
  if (left.length === 0) return [];
  const hopeless = new Set(blocked.map(({ backupId }) => backupId));
  const since = [rule.createdAt, await catalog.replicationRules.lastSuccess(rule)];
  const goesOn = since.some(moment => moment !== null && !hasPassed(moment, RULE_AWAITED_MS, now));
  return left
    .filter(({ id }) => !hopeless.has(id))
    .filter(row => goesOn || !hasPassed(row.finishedAt ?? row.createdAt, RULE_AWAITED_MS, now))
    .map(({ id }) => id);
}
