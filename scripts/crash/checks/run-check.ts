// After a round: what was asked for ended as it may, and what the api lists is what was asked for and did not fail.
import type { Operation } from '../operation.ts';
import type { World } from '../world.ts';
import type { Findings } from './contents-check.ts';

const STORAGE_NODES: readonly string[] = ['alpha', 'beta'];
/** What takes backups away, with checkpoints that have lost their last. */
const REMOVALS: readonly string[] = ['prune', 'delete-backup'];

const CHECKS: readonly string[] = ['audit', 'verify'];
/** Of verifying and auditing. */
const BAD_RESULTS: readonly string[] = ['damaged', 'different'];

/** The killed process, and what it may cost: nobody but a storage node is needed to keep what a run has done. */
export async function checkRuns(
  world: World,
  { operations, victim, findings }: { operations: readonly Operation[]; victim: string; findings: Findings },
): Promise<void> {
  for (const operation of operations) {
    const fault = faultOf(operation, victim);
    if (fault !== undefined)
      findings.faults.push(`${operation.disk.name}: ${operation.kind} ${operation.name} ${fault}`);
  }
  for (const disk of world.disks) {
    const checkpoints = await world.rest.list(`volumes/${disk.name}/checkpoints`);
    const backups = await world.rest.list(`backups?volume=${disk.id}`);
    const listed = new Set<string>(checkpoints.map(({ name }) => name));
    const backedUp = new Set<string>(backups.map(({ checkpoint }) => checkpoint));
    for (const operation of operations.filter(one => one.disk === disk && makesCheckpoint(one))) {
      const { kind, name, end } = operation;
      const isPruned = operations.some(one => one.disk === disk && REMOVALS.includes(one.kind));
      const isDeleted =
        isPruned || operations.some(one => one.kind === 'delete-checkpoint' && one.name === name);
      const isBackup = kind.startsWith('backup');
      const what = `${disk.name}: ${kind} ${name} ${end}`;
      if (end === 'succeeded') {
        if (!listed.has(name) && !isDeleted) findings.faults.push(`${what}, but its checkpoint is not there`);
        if (isBackup && !backedUp.has(name) && !isPruned)
          findings.faults.push(`${what}, but its backup is not there`);
      } else if (end !== 'unknown' && (listed.has(name) || backedUp.has(name))) {
        findings.faults.push(`${what}, but is listed`);
      }
    }
  }
}

function makesCheckpoint({ kind }: Operation): boolean {
  return kind.startsWith('backup') || kind === 'create-checkpoint';
}

function faultOf({ kind, end, error, run, isCancelled }: Operation, victim: string): string | undefined {
  const text = `${error?.message} (${error?.code})`;
  if (error?.code === 'internal-error') return `met a defect: ${text}`;
  if (end === 'unknown') {
    if (run === undefined && error === undefined) return 'has a run that does not end';
    return victim === 'api' || victim === 'postgres' ? undefined : `was never answered: ${text}`;
  }
  if (end === 'succeeded' && BAD_RESULTS.includes(String(run?.result?.result))) {
    return `found damage: ${JSON.stringify(run!.result)}`;
  }
  if (end === 'cancelled' && !isCancelled) return 'was cancelled by nobody';
  // Nothing to compare with, or no more: the other lane may have taken it away.
  if (CHECKS.includes(kind) && error?.code === 'backup-not-found') return undefined;
  if (end === 'failed' && !STORAGE_NODES.includes(victim))
    return `failed, though ${victim} was killed: ${text}`;
  return undefined;
}
