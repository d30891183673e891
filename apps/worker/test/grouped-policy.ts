// A policy whose firings take the volumes of a fleet of tests at one instant, into its repository `vault`.
import { randomUUID } from 'node:crypto';
import type { Policy, PolicyDefinition, PolicyGroups } from '@tidemark/catalog';
import type { Fleet } from './fleet.ts';

export const GROUPED: PolicyGroups = { fenceLimitMs: 5_000, completion: 'individual', hooks: [] };
const HOURLY = { cron: '0 * * * *', timeZone: 'UTC', missed: 'once', missedMax: 3, jitterMs: 0 } as const;

export async function groupedPolicy(
  { catalog }: Fleet,
  more: Partial<PolicyDefinition> = {},
): Promise<Policy> {
  const { id: repositoryId } = await catalog.repositories.get('vault');
  const definition: PolicyDefinition = {
    ...{ description: '', selector: '', schedule: HOURLY, kind: 'incremental', fullEvery: 0, repositoryId },
    ...{ replicaIds: [], keep: null, verifyPercent: 0, concurrency: 8, bandwidth: [], priority: 10 },
    ...{ retry: { times: 0, delayMs: 0 }, dropOldest: true, grouped: GROUPED, ...more },
  };
  return catalog.policies.create({ id: randomUUID(), name: 'nightly', definition, enabled: false });
}

/** Of a policy of its own, which is fired now. */
export async function groupedFiring(fleet: Fleet, more: Partial<PolicyDefinition> = {}) {
  const { catalog } = fleet;
  const { id: policyId } = await groupedPolicy(fleet, more);
  const firingId = await catalog.policies.fire(policyId);
  const members = async () => (await catalog.firings.members({ firingId })).items;
  const tell = async () => (await members()).map(({ state, reason }) => `${state} ${reason}`);
  return { policyId, firingId, members, tell };
}
