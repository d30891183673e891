// After a round: what policies made is known by the policy that was fired, and each member that succeeded is there,
// with its replicas.
import { FIRES_POLICY } from '../fleet-repertoire.ts';
import type { Operation } from '../operation.ts';
import type { World } from '../world.ts';
import { backupsWereRemoved, type Circumstances } from './allowed-ends.ts';
import { count, type Findings } from './contents-check.ts';

/** A policy names checkpoints for itself and the due moment. */
const BY_POLICY = /^(.+)-\d{8}T\d{6}Z(?:-\d+)?$/;

interface MemberJson {
  readonly volume: string;
  readonly state: string;
  readonly kind: string;
  readonly reason: string | null;
  readonly backupId: string | null;
}

/** Points in time of this round that no operation has named. */
export async function noteFired(world: World): Promise<void> {
  for (const { id, name: volume, known } of world.disks) {
    const checkpoints = await world.rest.list(`volumes/${volume}/checkpoints`);
    const backups = await world.rest.list(`backups?volume=${id}`);
    const names: string[] = [...checkpoints.map(one => one.name), ...backups.map(one => one.checkpoint)];
    for (const name of names) {
      const fired = known.get(BY_POLICY.exec(name)?.[1] ?? '');
      if (fired !== undefined && !known.has(name)) known.set(name, { name, window: fired.window });
    }
  }
}

export async function checkFirings(
  world: World,
  { circumstances, findings }: { circumstances: Circumstances; findings: Findings },
): Promise<void> {
  for (const operation of circumstances.operations.filter(({ kind }) => kind === FIRES_POLICY)) {
    count(findings, `firings ${operation.end}`);
    if (operation.end !== 'succeeded') continue;
    const faults = await faultsOf(world, operation, { circumstances, findings });
    findings.faults.push(...faults.map(fault => `policy ${operation.name}: ${fault}`));
  }
}

async function faultsOf(
  world: World,
  operation: Operation,
  { circumstances, findings }: { circumstances: Circumstances; findings: Findings },
): Promise<string[]> {
  const [firing] = await world.rest.list(`policies/${operation.name}/firings`);
  if (firing === undefined) return ['its firing is gone'];
  const members: MemberJson[] = await world.rest.list(
    `policies/${operation.name}/firings/${firing.id}/members`,
  );
  const faults = members
    .filter(({ state }) => state !== 'succeeded')
    .map(({ volume, state, reason }) => `${volume} is ${state} of a firing that succeeded: ${reason}`);
  if (members.length !== world.disks.length) faults.push(`it has ${members.length} members`);
  if (backupsWereRemoved(operation, circumstances)) return faults;
  const backups = await world.rest.list('backups');
  for (const { volume, kind, backupId } of members) {
    const state = backups.find(({ id }) => id === backupId)?.state;
    if (kind !== 'checkpoint' && state !== 'available') faults.push(`the backup of ${volume} is ${state}`);
  }
  // A rule may have let them go since.
  if (circumstances.rulePrunes > 0) return faults;
  const left = await missingReplicas(world, { operation, members, findings });
  return left.length > 0 ? [...faults, `replicas are missing: ${left.join(', ')}`] : faults;
}

/** In words; each replica is known by its checkpoint. Their contents are compared as those of all backups. */
async function missingReplicas(
  world: World,
  { operation, members, findings }: { operation: Operation; members: MemberJson[]; findings: Findings },
): Promise<string[]> {
  const { replicaIds } = await world.rest.read(`policies/${operation.name}`);
  const rows = await world.query<{ checkpoint: string; repository: string; volume: string; id: string }>(
    'SELECT id, checkpoint_id AS checkpoint, repository_id AS repository, volume_name AS volume FROM backup ' +
      "WHERE state = 'available'",
  );
  const made = rows.filter(({ id }) => members.some(({ backupId }) => backupId === id));
  const wanted = made.flatMap(row => (replicaIds as string[]).map(repository => ({ ...row, repository })));
  count(findings, 'replicas that policies want', wanted.length);
  const isThere = ({ checkpoint, repository }: { checkpoint: string; repository: string }) =>
    rows.some(row => row.checkpoint === checkpoint && row.repository === repository);
  return wanted.filter(one => !isThere(one)).map(({ volume, checkpoint }) => `${volume} at ${checkpoint}`);
}
