// After a round: what a drain tells of volumes is so, whoever wrote to them meanwhile reads it where they are now, and
// a storage node is cordoned as far as an answer said so.
import type { SpareGuest } from '../spare-guest.ts';
import { SPARE_NODE, type World } from '../world.ts';
import { type Circumstances, DRAINS, storageNodeDied } from './allowed-ends.ts';
import { count, type Findings } from './contents-check.ts';

interface VolumeJson {
  readonly name: string;
  readonly state: string;
  readonly storageNode: string;
}

export interface DrainResult {
  readonly state: string;
  readonly moved: readonly { readonly name: string; readonly to: string }[];
  readonly stays: readonly { readonly name: string; readonly reason: string }[];
  readonly repositories: readonly string[];
}

/** Why a volume may stay where nothing died that holds any. */
const REASONS: readonly RegExp[] = [
  /is used by [a-z-]+ run /,
  /still reads from backup /,
  /^Volume '[^']+' is (creating|restoring|moving|deleting)\b/,
];
const DELETES_VOLUME = 'delete-volume';
const CHANGES_PLACE: readonly string[] = ['move-volume', DELETES_VOLUME];

/** Afterwards the storage node takes what is new again. */
export async function checkCare(
  world: World,
  { circumstances, findings }: { circumstances: Circumstances; findings: Findings },
): Promise<void> {
  const volumes: VolumeJson[] = await world.rest.list('volumes');
  for (const { name, state } of volumes) {
    if (state !== 'ready') findings.faults.push(`volume ${name} is left ${state}`);
  }
  const { operations } = circumstances;
  const touched = new Set(operations.filter(one => CHANGES_PLACE.includes(one.kind)).map(one => one.name));
  for (const operation of operations.filter(({ kind }) => kind === DRAINS)) {
    const { name, end, run } = operation;
    const there = world.drained.get(name) ?? [];
    if (end !== 'succeeded') continue;
    const result = run!.result as unknown as DrainResult;
    const faults = judgeDrain(result, {
      volumes,
      there,
      touched,
      mayFail: storageNodeDied(operation, circumstances),
    });
    findings.faults.push(...faults.map(fault => `${name}: ${fault}`));
    count(findings, 'volumes that were drained', result.moved.length);
    count(findings, 'volumes that stayed in a drain', result.stays.length);
  }
  world.drained.clear();
  const deleted = new Set(operations.filter(({ kind }) => kind === DELETES_VOLUME).map(({ name }) => name));
  await checkSpares(world.spares, { volumes, deleted, findings });
  await uncordon(world, findings);
}

/** `there`: what the storage node had before. `touched`: what was moved or deleted by others. */
export function judgeDrain(
  { state, moved, stays, repositories }: DrainResult,
  {
    volumes,
    there,
    touched,
    mayFail,
  }: {
    volumes: readonly Pick<VolumeJson, 'name' | 'storageNode'>[];
    there: readonly string[];
    touched: ReadonlySet<string>;
    mayFail: boolean;
  },
): string[] {
  const faults: string[] = [];
  const told = new Map([
    ...moved.map(({ name, to }) => [name, to] as const),
    ...stays.map(({ name }) => [name, SPARE_NODE] as const),
  ]);
  if (state !== (stays.length === 0 ? 'complete' : 'incomplete')) faults.push(`it is called ${state}`);
  if (repositories.length > 0) faults.push(`repositories ${repositories.join(', ')} are not there`);
  for (const [name, node] of told) {
    const found = volumes.find(volume => volume.name === name)?.storageNode;
    if (found !== node && !touched.has(name))
      faults.push(`${name} is told to be on ${node}, and is on ${found}`);
  }
  for (const { name, to } of moved) if (to === SPARE_NODE) faults.push(`${name} was moved where it was`);
  for (const { name, reason } of stays) {
    if (!mayFail && !REASONS.some(right => right.test(reason))) faults.push(`${name} stays: ${reason}`);
  }
  for (const name of there) if (!told.has(name) && !touched.has(name)) faults.push(`${name} is not told of`);
  return faults;
}

/** `deleted`: what somebody asked to delete. Forgets the guests whose volume is gone. */
export async function checkSpares(
  spares: Map<string, Pick<SpareGuest, 'check'>>,
  {
    volumes,
    deleted,
    findings,
  }: {
    volumes: readonly Pick<VolumeJson, 'name' | 'storageNode'>[];
    deleted: ReadonlySet<string>;
    findings: Findings;
  },
): Promise<void> {
  for (const [name, guest] of spares) {
    const volume = volumes.find(one => one.name === name);
    if (volume === undefined) {
      if (!deleted.has(name)) findings.faults.push(`volume ${name} is gone, and nobody deleted it`);
      spares.delete(name);
      continue;
    }
    const faults = await guest.check().catch((error: unknown) => [String(error)]);
    const where = `${name} on ${volume.storageNode}`;
    if (faults.length > 0) findings.faults.push(`${where}: ${faults.slice(0, 5).join('; ')}`);
    count(findings, 'volumes of drained guests read');
    if (volume.storageNode !== SPARE_NODE) count(findings, 'of these on another storage node');
  }
}

async function uncordon(world: World, findings: Findings): Promise<void> {
  const { cordonedAt } = await world.rest.read(`storage-nodes/${SPARE_NODE}`);
  const { isCordoned } = world;
  if (isCordoned !== undefined && isCordoned !== (cordonedAt !== null))
    findings.faults.push(`${SPARE_NODE} was to be ${isCordoned ? 'cordoned' : 'open'}: ${cordonedAt}`);
  const { status, body } = await world.rest.call('POST', `storage-nodes/${SPARE_NODE}/uncordon`, {});
  if (status !== 200 || body.cordonedAt !== null)
    findings.faults.push(`${SPARE_NODE} cannot be uncordoned: ${status} ${JSON.stringify(body)}`);
  world.isCordoned = false;
}
