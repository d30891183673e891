// After a round: what rules of replication want is in their target, and what they no longer keep there is gone. What
// that is follows from what the catalog lists, worked out here anew and not as the services do.
import { setTimeout as delay } from 'node:timers/promises';
import { RULE_LOOK_MS, SETTLE_MS } from '../limits.ts';
import type { World } from '../world.ts';
import { count, type Findings } from './contents-check.ts';

export interface RuleSides {
  readonly source: string;
  readonly target: string;
  /** Null: everything is kept. */
  readonly keep: { readonly last: number } | null;
}

interface RuleJson extends RuleSides {
  readonly name: string;
  readonly enabled: boolean;
}

interface StatusJson {
  readonly missing: { readonly backups: number };
  readonly blocked: readonly unknown[];
  readonly running: number;
}

export interface BackupRow {
  readonly checkpoint: string;
  readonly repository: string;
  readonly state: string;
  readonly is_replica: boolean;
  /** It stands on nothing. */
  readonly is_root: boolean;
}

/** What a rule asks for, by the names of checkpoints of one volume. */
export interface Wish {
  readonly wanted: readonly string[];
  /** Of those, what is not in the target. */
  readonly missing: readonly string[];
  /** In the target, and to be gone from there. */
  readonly surplus: readonly string[];
}

/** Waits for the rules, and tells what they have not come to by then. Nobody asks for anything meanwhile. */
export async function checkRules(world: World, findings: Findings): Promise<void> {
  const deadline = performance.now() + SETTLE_MS;
  for (;;) {
    const rules: RuleJson[] = (await world.rest.list('replication-rules')).filter(one => one.enabled);
    const told = await Promise.all(rules.map(rule => look(world, rule)));
    const faults = told.flatMap(one => one.faults);
    if (faults.length > 0 && performance.now() < deadline) {
      await delay(RULE_LOOK_MS);
      continue;
    }
    findings.faults.push(...faults);
    count(
      findings,
      'rules of replication that were satisfied',
      told.filter(one => one.faults.length === 0).length,
    );
    for (const { wanted } of told) count(findings, 'replicas that rules want', wanted);
    return;
  }
}

async function look(world: World, rule: RuleJson): Promise<{ faults: string[]; wanted: number }> {
  const faults: string[] = [];
  let wanted = 0;
  for (const { id, name: volume } of world.disks) {
    const rows = await world.query<BackupRow>(
      'SELECT b.checkpoint_name AS checkpoint, r.name AS repository, b.state, ' +
        'b.replica_of_id IS NOT NULL AS is_replica, b.parent_id IS NULL AS is_root ' +
        `FROM backup b JOIN repository r ON r.id = b.repository_id WHERE b.volume_id = '${id}' ` +
        'ORDER BY b.point_in_time, b.created_at, b.checkpoint_id',
    );
    const wish = wishOf(rows, rule);
    const what = `rule ${rule.name}: ${volume}`;
    if (wish.missing.length > 0) faults.push(`${what}: ${wish.missing.join(', ')} not in ${rule.target}`);
    if (wish.surplus.length > 0) faults.push(`${what}: ${wish.surplus.join(', ')} still in ${rule.target}`);
    wanted += wish.wanted.length;
  }
  const { status }: { status: StatusJson } = await world.rest.read(`replication-rules/${rule.name}`);
  const isSettled = status.missing.backups + status.blocked.length + status.running === 0;
  if (!isSettled || faults.length > 0) faults.push(`rule ${rule.name} says ${JSON.stringify(status)}`);
  return { faults, wanted };
}

/** `rows`: of one volume in all repositories, oldest first. */
export function wishOf(rows: readonly BackupRow[], { source, target, keep }: RuleSides): Wish {
  const available = rows.filter(({ state }) => state === 'available');
  const own = available.filter(row => row.repository === source);
  const there = available.filter(row => row.repository === target);
  // What was let go there stays gone, also while others stand on it.
  const known = new Set(
    rows.filter(row => row.repository === target && row.state !== 'creating').map(nameOf),
  );
  const all = new Set(available.filter(row => [source, target].includes(row.repository)).map(nameOf));
  const newest = new Set([...all].slice(keep === null ? 0 : -keep.last));
  const wanted = own.map(nameOf).filter(name => newest.has(name));
  // The next increments of the source stand on these.
  const bases = [own.at(-1), own.findLast(row => row.is_root)].map(row => row?.checkpoint);
  const goes = keep === null ? [] : there.filter(row => row.is_replica).slice(0, -keep.last);
  return {
    wanted,
    missing: wanted.filter(name => !known.has(name)),
    surplus: goes.map(nameOf).filter(name => !bases.includes(name)),
  };
}

function nameOf({ checkpoint }: BackupRow): string {
  return checkpoint;
}
