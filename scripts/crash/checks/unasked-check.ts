// After a round: runs that no request started by itself, those of rules, policies and drains, failed as they may.
import type { Operation } from '../operation.ts';
import type { World } from '../world.ts';
import { type Circumstances, mayFail } from './allowed-ends.ts';
import { count, type Findings } from './contents-check.ts';

/** Kinds of runs, and the operations whose list of right failures is theirs. */
const KINDS: ReadonlyMap<string, string> = new Map([
  ['replicate', 'replicate'],
  ['prune', 'prune'],
  ['verify', 'verify'],
  ['move-volume', 'move-volume'],
]);

interface FailedRow {
  readonly id: string;
  readonly kind: string;
  readonly error: Operation['error'];
}

export async function checkUnasked(
  world: World,
  { circumstances, findings }: { circumstances: Circumstances; findings: Findings },
): Promise<void> {
  const asked = new Set(circumstances.operations.map(({ run }) => run?.id));
  const kinds = [...KINDS.keys()].map(kind => `'${kind}'`).join(', ');
  const rows = await world.query<FailedRow>(
    `SELECT id, kind, error FROM run WHERE state = 'failed' AND kind IN (${kinds})`,
  );
  for (const { id, kind, error } of rows) {
    if (world.failuresSeen.has(id)) continue;
    world.failuresSeen.add(id);
    if (asked.has(id)) continue;
    count(findings, `unasked ${kind} runs failed: ${error?.code}`);
    const disk = world.disks[0]!;
    const run = { kind: KINDS.get(kind)!, disk, name: id, isCancelled: false, hasKey: true };
    if (mayFail({ ...run, end: 'failed', run: undefined, error }, circumstances)) continue;
    const { victim } = circumstances;
    findings.faults.push(
      `${kind} ${id} failed, and ${victim} was killed: ${error?.message} (${error?.code})`,
    );
  }
}

/** Prunes of rules since it was asked last. */
export async function countRulePrunes(world: World): Promise<number> {
  const [row] = await world.query<{ count: string }>(
    "SELECT count(*) FROM run WHERE kind = 'prune' AND reason LIKE 'replication rule %'",
  );
  const before = world.rulePrunesSeen;
  world.rulePrunesSeen = Number(row!.count);
  return world.rulePrunesSeen - before;
}
