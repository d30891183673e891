// After a round: what was asked for ended as it may, and what the api lists is what was asked for and did not fail.
import type { Operation } from '../operation.ts';
import type { World } from '../world.ts';
import { backupsWereRemoved, type Circumstances, mayBeRefused, mayFail } from './allowed-ends.ts';
import type { Findings } from './contents-check.ts';

/** Of verifying and auditing. */
const BAD_RESULTS: readonly string[] = ['damaged', 'different'];
/** Answers get lost with them. */
const MAY_CUT_OFF: readonly string[] = ['api', 'postgres'];
/** Of restoring. */
const HOLES = 'complete-with-holes';

export async function checkRuns(
  world: World,
  { circumstances, findings }: { circumstances: Circumstances; findings: Findings },
): Promise<void> {
  const { operations } = circumstances;
  for (const operation of operations) {
    const fault = faultOf(operation, circumstances);
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
      const isPruned = backupsWereRemoved(operation, circumstances);
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

function faultOf(operation: Operation, circumstances: Circumstances): string | undefined {
  const { end, error, run, isCancelled } = operation;
  const { victim } = circumstances;
  const text = `${error?.message} (${error?.code})`;
  if (end === 'unknown') {
    if (run === undefined && error === undefined) return 'has a run that does not end';
    return !operation.hasKey && MAY_CUT_OFF.includes(victim) ? undefined : `was never answered: ${text}`;
  }
  if (end === 'succeeded' && BAD_RESULTS.includes(String(run?.result?.result))) {
    return `found damage: ${JSON.stringify(run!.result)}`;
  }
  if (end === 'succeeded' && run?.result?.state === HOLES) return `has holes: ${JSON.stringify(run.result)}`;
  if (end === 'cancelled' && !isCancelled) return 'was cancelled by nobody';
  if (end === 'refused' && !mayBeRefused(operation, circumstances))
    return `was refused, and ${victim} was killed: ${text}`;
  if (end === 'failed' && !mayFail(operation, circumstances))
    return `failed, and ${victim} was killed: ${text}`;
  return undefined;
}
