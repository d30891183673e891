// After a round: what an answer told of policies, webhooks and tokens is so.
import type { World } from '../world.ts';
import { count, type Findings } from './contents-check.ts';

export async function checkFacts(world: World, findings: Findings): Promise<void> {
  const { faults, answered, kept } = await world.facts.check();
  findings.faults.push(...faults);
  count(findings, 'changes of policies, webhooks and tokens that were answered', answered);
  count(findings, 'policies, webhooks and tokens compared', kept);
}
