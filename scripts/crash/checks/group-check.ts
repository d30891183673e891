// After a round: a group is on all of its disks or on none, none is half made, and no storage node is in doubt.
import { connectStorageNode } from '@tidemark/proto';
import type { Operation } from '../operation.ts';
import type { World } from '../world.ts';
import { backupsWereRemoved, type Circumstances } from './allowed-ends.ts';
import { count, type Findings } from './contents-check.ts';

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
  for (const { name, state } of (await world.rest.list('groups')) as GroupJson[]) {
    if (HALF_MADE.includes(state)) findings.faults.push(`group ${name} is left ${state}`);
  }
  const listed = new Map<string, Set<string>>();
  for (const disk of world.disks) {
    const checkpoints = await world.rest.list(`volumes/${disk.name}/checkpoints`);
    listed.set(disk.name, new Set(checkpoints.map(({ name }) => name)));
  }
  const { operations } = circumstances;
  for (const operation of operations.filter(({ kind }) => kind === MAKES_GROUP)) {
    const on = world.disks
      .filter(({ name }) => listed.get(name)!.has(operation.name))
      .map(({ name }) => name);
    const fault = faultOf(operation, { on, all: world.disks.length, circumstances });
    if (fault !== undefined) findings.faults.push(`group ${operation.name} ${operation.end}: ${fault}`);
    count(findings, `groups ${operation.end}`);
  }
  for (const { name, controlAddress: address } of world.stack.nodes) {
    const clients = connectStorageNode({ name, address, fleetSecret: world.stack.fleetSecret });
    try {
      const { groups } = await clients.groups.listGroups({});
      for (const { groupId, state } of groups) {
        findings.faults.push(`${name}: group ${groupId} is undecided (${state})`);
      }
    } finally {
      clients.close();
    }
  }
}

function faultOf(
  operation: Operation,
  { on, all, circumstances }: { on: readonly string[]; all: number; circumstances: Circumstances },
): string | undefined {
  const { name, end } = operation;
  const isDeleted = circumstances.operations.some(
    one => one.name === name && (one.kind === 'delete-checkpoint' || one.kind === 'delete-group'),
  );
  if (isDeleted || backupsWereRemoved(operation, circumstances)) return undefined;
  if (end === 'succeeded' || end === 'unknown') {
    const isWhole = on.length === all || (end === 'unknown' && on.length === 0);
    return isWhole ? undefined : `it is on ${on.join(', ') || 'no disk'} alone`;
  }
  return on.length === 0 ? undefined : `it is on ${on.join(', ')}`;
}
