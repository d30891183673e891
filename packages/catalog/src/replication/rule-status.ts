// A rule of replication as it stands: both repositories as the catalog knows them, and what that makes of the rule.
import { parseSelector } from '@tidemark/proto';
import type { CatalogTransaction } from '../catalog.ts';
import type { ReplicationRule } from '../replication-rule-repository.ts';
import type { RetentionRow } from '../retention-repository.ts';
import { planReplication, type ReplicationPlan, type ReplicationSides } from './replica-plan.ts';

type Look = Pick<CatalogTransaction, 'retention' | 'volumes'>;

export interface RuleStatus {
  readonly plan: ReplicationPlan;
  readonly missingBytes: number;
  /** Age of the oldest point in time that is missing; 0: none is. */
  readonly lagMs: number;
  /** Of what is in both. */
  readonly newestPointInTime: Date | null;
}

/** `target`: all backups of that repository, where the caller holds them already. */
export async function lookAtRule(
  catalog: Look,
  rule: ReplicationRule,
  { now, target }: { now: Date; target?: readonly RetentionRow[] },
): Promise<RuleStatus> {
  const sides: ReplicationSides = {
    source: await catalog.retention.backups(rule.sourceRepositoryId),
    target: target ?? (await catalog.retention.backups(rule.targetRepositoryId)),
    isChosen: await chosen(catalog, rule),
    now,
  };
  const plan = planReplication(sides, rule);
  const there = new Set(
    sides.target.filter(({ state }) => state === 'available').map(({ checkpointId }) => checkpointId),
  );
  const both = sides.source.filter(
    ({ volumeId, checkpointId }) => sides.isChosen(volumeId) && there.has(checkpointId),
  );
  const moments = both.flatMap(({ pointInTime }) => (pointInTime === null ? [] : [pointInTime.getTime()]));
  // Oldest first.
  const oldest = plan.missing[0]?.pointInTime?.getTime() ?? now.getTime();
  return {
    plan,
    missingBytes: plan.missing.reduce((sum, { storedBytes }) => sum + (storedBytes ?? 0), 0),
    lagMs: Math.max(0, now.getTime() - oldest),
    newestPointInTime: moments.length === 0 ? null : new Date(moments.reduce((a, b) => Math.max(a, b))),
  };
}

/** Without a selector also backups of volumes that are gone. */
async function chosen(catalog: Look, { selector }: ReplicationRule): Promise<(volumeId: string) => boolean> {
  const terms = parseSelector(selector);
  if (terms.length === 0) return () => true;
  const ids = new Set((await catalog.volumes.listSelected(terms)).map(({ id }) => id));
  return volumeId => ids.has(volumeId);
}
