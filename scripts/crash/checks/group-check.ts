// After a round: a group is on all of its disks or on none, holds one instant of all, and is not half made; no storage
// node is in doubt.
import { describeFaults, judgeTogether } from '../disk-model.ts';
import type { Operation } from '../operation.ts';
import type { Disk, World } from '../world.ts';
import { backupsWereRemoved, type Circumstances, storageNodeDied } from './allowed-ends.ts';
import { contentsOf, count, type Findings } from './contents-check.ts';

interface GroupJson {
  readonly name: string;
  readonly state: string;
}

export const MAKES_GROUP = 'create-group';
const HALF_MADE: readonly string[] = ['creating', 'deleting'];

export async function checkGroups(
  world: World,
  { circumstances, findings }: { circumstances: Circumstances; findings: Findings },
): Promise<void> {
  const groups = (await world.rest.list('groups')) as GroupJson[];
  for (const { name, state } of groups) {
    if (HALF_MADE.includes(state)) findings.faults.push(`group ${name} is left ${state}`);
  }
  const listed = new Map<string, Set<string>>();
  for (const disk of world.disks) {
    const checkpoints = await world.rest.list(`volumes/${disk.name}/checkpoints`);
    listed.set(disk.name, new Set(checkpoints.map(({ name }) => name)));
  }
  for (const operation of circumstances.operations.filter(({ kind }) => kind.startsWith(MAKES_GROUP))) {
    const on = world.disks
      .filter(({ name }) => listed.get(name)!.has(operation.name))
      .map(({ name }) => name);
    const fault = faultOf(operation, { on, all: world.disks.length, circumstances });
    const faults = fault === undefined ? [] : [fault];
    if (operation.kind !== MAKES_GROUP) {
      const state = groups.find(({ name }) => name === operation.name)?.state;
      faults.push(...(await backupFaults(world, operation, { state, circumstances, findings })));
    }
    findings.faults.push(...faults.map(one => `group ${operation.name} ${operation.end}: ${one}`));
    count(findings, `groups ${operation.end}`);
  }
  for (const { name } of world.stack.nodes) {
    const { groups: undecided } = await world.onStorageNode(name, clients => clients.groups.listGroups({}));
    for (const { groupId, state } of undecided) {
      findings.faults.push(`${name}: group ${groupId} is undecided (${state})`);
    }
  }
}

function faultOf(
  operation: Operation,
  { on, all, circumstances }: { on: readonly string[]; all: number; circumstances: Circumstances },
): string | undefined {
  const { name, end } = operation;
  const isDeleted = circumstances.operations.some(
    one => one.name === name && /^delete-(checkpoint|group)/.test(one.kind),
  );
  if (isDeleted || backupsWereRemoved(operation, circumstances)) return undefined;
  if (end === 'succeeded' || end === 'unknown') {
    const isWhole = on.length === all || (end === 'unknown' && on.length === 0);
    return isWhole ? undefined : `it is on ${on.join(', ') || 'no disk'} alone`;
  }
  return on.length === 0 ? undefined : `it is on ${on.join(', ')}`;
}

/** All members are backed up, and hold one instant; or, where the group failed, none is. */
async function backupFaults(
  world: World,
  operation: Operation,
  {
    state,
    circumstances,
    findings,
  }: { state: string | undefined; circumstances: Circumstances; findings: Findings },
): Promise<string[]> {
  const { name, end } = operation;
  const made: { disk: Disk; id: string; repositoryId: string }[] = [];
  for (const disk of world.disks) {
    const backups = await world.rest.list(`backups?volume=${disk.id}`);
    const own = backups.filter(one => one.checkpoint === name && one.replicaOfId === null);
    made.push(...own.map(({ id, repositoryId }) => ({ disk, id, repositoryId })));
  }
  const on = made.map(({ disk }) => disk.name).join(', ');
  if (end === 'unknown' || backupsWereRemoved(operation, circumstances)) return [];
  if (end !== 'succeeded') return made.length === 0 ? [] : [`backups of ${on} are left`];
  // A moment that died with its storage node costs that backup, and nobody is told that it is complete.
  if (state === 'incomplete' && storageNodeDied(operation, circumstances)) {
    count(findings, 'groups incomplete');
    return [];
  }
  if (state !== 'ready' || made.length !== world.disks.length)
    return [`it is ${state}, with backups of ${on}`];
  const images = await Promise.all(
    made.map(async ({ disk, ...backup }) => ({
      model: disk.guest.model,
      contents: await contentsOf(world, backup),
      window: disk.known.get(name)!.window,
    })),
  );
  count(findings, 'groups whose backups hold one instant');
  return judgeTogether(images).flatMap((faults, index) =>
    faults.length === 0 ? [] : [`no one instant: ${made[index]!.disk.name}: ${describeFaults(faults)}`],
  );
}
