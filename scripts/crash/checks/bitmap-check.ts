// After a round: no bitmap has lost a bit, and none has more than requests and crashes account for.
import { setTimeout as delay } from 'node:timers/promises';
import { CONTEXT_DIRTY_BITMAP_PREFIX, NbdClient, STATE_DIRTY } from '@tidemark/nbd';
import type { Window } from '../disk-model.ts';
import {
  BLOCKS_OF_A_GRANULE,
  DISK_BYTES,
  DISK_GRANULES,
  FACTS_ATTEMPTS_MAX,
  FACTS_PAUSE_MS,
  GRANULE_BYTES,
} from '../limits.ts';
import { regionOf } from '../touched-regions.ts';
import type { Disk, World } from '../world.ts';
import { count, type Findings } from './contents-check.ts';

interface CheckpointJson {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly changedSinceBytes: number | null;
  readonly grownBytes: number | null;
}

/** The guest rests. */
export async function checkBitmaps(world: World, disk: Disk, findings: Findings): Promise<void> {
  const checkpoints = await checkpointsOf(world, disk);
  const { exportUri } = await world.rest.read(`volumes/${disk.name}`);
  for (const checkpoint of checkpoints) {
    const what = `${disk.name}: the bitmap of ${checkpoint.name}`;
    if (checkpoint.state !== 'ready') {
      findings.faults.push(`${disk.name}: checkpoint ${checkpoint.name} is left ${checkpoint.state}`);
    }
    const dirty = await dirtyGranules(exportUri, checkpoint.id);
    if (dirty === undefined) {
      findings.faults.push(`${disk.name}: what changed since ${checkpoint.name} is no longer known`);
      continue;
    }
    const known = disk.known.get(checkpoint.name);
    if (known === undefined) {
      findings.faults.push(`${disk.name}: nobody asked for checkpoint ${checkpoint.name}`);
      continue;
    }
    const faults = [...lost(disk, dirty, known.window), ...excess(disk, { dirty, checkpoint, ...known })];
    findings.faults.push(...faults.map(fault => `${what} ${fault}`));
    count(findings, 'bitmaps compared');
    count(findings, 'granules dirty', dirtyIn(dirty));
    if ((checkpoint.grownBytes ?? 0) > 0) count(findings, 'bitmaps that have grown');
  }
}

/** What the storage node knows of them comes with them as soon as the api has its connection back. */
async function checkpointsOf(world: World, disk: Disk): Promise<CheckpointJson[]> {
  for (let attempt = 1; ; attempt += 1) {
    const checkpoints: CheckpointJson[] = await world.rest.list(`volumes/${disk.name}/checkpoints`);
    const isWhole = checkpoints.every(({ grownBytes }) => grownBytes !== null);
    if (isWhole || attempt === FACTS_ATTEMPTS_MAX) return checkpoints;
    await delay(FACTS_PAUSE_MS);
  }
}

/** Certain differences without a bit. */
function lost({ guest }: Disk, dirty: Uint8Array, window: Window): string[] {
  const granules = granulesOf(guest.model.changedSince(window)).filter(granule => dirty[granule] === 0);
  return granules.length === 0 ? [] : [`has lost ${some(granules)}`];
}

/** Bits where no request came: only crashes set those, in regions of the log, and each is counted. */
function excess(
  { guest }: Disk,
  { dirty, checkpoint, window }: { dirty: Uint8Array; checkpoint: CheckpointJson; window: Window },
): string[] {
  const touched = guest.model.touchedGranules(window);
  const odd = [...dirty.keys()].filter(granule => dirty[granule] === 1 && !touched.has(granule));
  const { grownBytes, changedSinceBytes } = checkpoint;
  const faults: string[] = [];
  if (grownBytes === null || changedSinceBytes === null) return ['is not told of by its storage node'];
  if (changedSinceBytes !== dirtyIn(dirty) * GRANULE_BYTES)
    faults.push(`has ${dirtyIn(dirty)} granules, and ${changedSinceBytes} bytes are told`);
  if (odd.length * GRANULE_BYTES > grownBytes)
    faults.push(`has ${some(odd)} that nobody wrote to, and only ${grownBytes} bytes are told as grown`);
  const regions = guest.regions.grownSince(window.from);
  if (regions === undefined && grownBytes > 0)
    faults.push(`is said to have grown by ${grownBytes} bytes, and its storage node did not die`);
  const far = odd.filter(granule => !regions?.has(regionOf(granule * BLOCKS_OF_A_GRANULE)));
  if (far.length > 0)
    faults.push(`has ${some(far)} where nobody wrote, in regions that no log can have named`);
  return faults;
}

function granulesOf(blocks: readonly number[]): number[] {
  return [...new Set(blocks.map(block => Math.floor(block / BLOCKS_OF_A_GRANULE)))];
}

function dirtyIn(dirty: Uint8Array): number {
  return dirty.reduce((sum, bit) => sum + bit, 0);
}

function some(granules: readonly number[]): string {
  return `${granules.length} granules (${granules.slice(0, 5).join(', ')})`;
}

/** Undefined when the storage node does not offer the changes since that checkpoint: it calls them unknown. */
async function dirtyGranules(uri: string, checkpointId: string): Promise<Uint8Array | undefined> {
  const context = `${CONTEXT_DIRTY_BITMAP_PREFIX}${checkpointId}`;
  const client = await NbdClient.connect({ uri }, { contexts: [context] });
  try {
    if (!client.contexts.includes(context)) return undefined;
    const granules = new Uint8Array(DISK_GRANULES);
    for await (const { offset, length, flags } of client.extents(context, 0, DISK_BYTES)) {
      if ((flags & STATE_DIRTY) === 0) continue;
      granules.fill(1, Math.floor(offset / GRANULE_BYTES), Math.ceil((offset + length) / GRANULE_BYTES));
    }
    return granules;
  } finally {
    await client.disconnect();
  }
}
