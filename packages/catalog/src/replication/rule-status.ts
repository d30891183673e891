// A rule of replication as it stands: both repositories as the catalog knows them, and what that makes of the rule.
import type { ReplicationRule } from '../replication-rule-repository.ts';
import { type GoneLook, goneByAll } from '../retention/gone.ts';
import { chosenBy } from '../retention/keepers.ts';
import { planReplication, type ReplicationPlan, type ReplicationSides } from './replica-plan.ts';

export interface RuleStatus {
  readonly plan: ReplicationPlan;
  readonly missingBytes: number;
  /** Age of the oldest point in time that is missing; 0: none is. */
  readonly lagMs: number;
  /** Of what is in both. */
  readonly newestPointInTime: Date | null;
}

/** Reads all backups of both repositories. */
export async function lookAtRule(
  catalog: GoneLook,
  rule: ReplicationRule,
  { now }: { now: Date },
): Promise<RuleStatus> {
  const sides: ReplicationSides = {
    source: await catalog.retention.backups(rule.sourceRepositoryId),
    target: await catalog.retention.backups(rule.targetRepositoryId),
    isChosen: await chosenBy(catalog, rule),
    now,
  };
  const planned = planReplication(sides, rule);
  const { id: by, targetRepositoryId: repositoryId } = rule;
  const goes = await goneByAll(catalog, { repositoryId, by, rows: sides.target, goes: planned.goes, now });
  const plan: ReplicationPlan = { ...planned, goes };
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
