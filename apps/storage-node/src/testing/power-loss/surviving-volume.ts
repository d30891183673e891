// What the real code makes of what a crash left, in real files or simulated ones, and whether it is what it must be.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Bitmap, SECTOR_BYTES } from '@tidemark/engine';
import { SeededRandom } from '@tidemark/engine/testing';
import type { StateStore } from '../../host/state-store.ts';
import { decodeBitmap } from '../../volume/bitmap-file.ts';
import { regionNumbers } from '../../volume/intent-file.ts';
import { decodeLog } from '../../volume/intent-slots.ts';
import type { Volume } from '../../volume/volume.ts';
import { VolumeLayout, volumeSchema } from '../../volume/volume-record.ts';
import type { Contents } from './guest-disk.ts';
import type { Crash, Surviving } from './journal.ts';
import { SimulatedFiles } from './simulated-files.ts';
import {
  hostOver,
  openVolume,
  REGION_BYTES,
  readContents,
  STATE_FOLDER,
  VOLUME_BYTES,
  VOLUME_ID,
  type Watched,
} from './volume-life.ts';

/** Granules of a sequential writer's log that nobody has written to yet. */
const REGIONS_AHEAD_MAX = 8;

export interface Recovery {
  /** Undefined where the volume does not exist. */
  readonly contents: Contents | undefined;
  readonly grownBytes: number;
  readonly checkpoints: number;
  readonly distrusted: number;
}

export interface Expectation {
  readonly crash: Crash;
  /** Regions that guests have changed so far. */
  readonly touched: ReadonlySet<number>;
  readonly mustExist: boolean;
  /** Checkpoints need not be trusted; those that are lost nothing all the same. */
  readonly mayDistrust: boolean;
  /** Slower than simulated ones. */
  readonly inRealFiles: boolean;
}

/** Rejects with what is wrong. */
export async function recover(
  surviving: Surviving,
  watched: Watched,
  expectation: Expectation,
): Promise<Recovery> {
  if (!expectation.inRealFiles) {
    const files = new SimulatedFiles({ random: new SeededRandom(1), from: surviving });
    return recoverIn(hostOver(STATE_FOLDER, files), watched, expectation);
  }
  const folder = await mkdtemp(join(tmpdir(), 'tidemark-power-loss-'));
  const host = hostOver(folder);
  try {
    await materialise(surviving, folder);
    await host.store.open();
    return await recoverIn(host, watched, expectation);
  } finally {
    await host.store.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function recoverIn(
  host: ReturnType<typeof hostOver>,
  watched: Watched,
  expectation: Expectation,
): Promise<Recovery> {
  const expected = await expectedGrowth(host.store, expectation);
  const volume = await openVolume(host);
  if (volume === undefined) {
    if (expectation.mustExist) throw new Error('the volume is gone');
    return { contents: undefined, grownBytes: 0, checkpoints: 0, distrusted: 0 };
  }
  try {
    return await examine(volume, watched, { ...expectation, expected, store: host.store });
  } finally {
    await volume.close();
  }
}

async function materialise(surviving: Surviving, folder: string): Promise<void> {
  for (const [path, what] of surviving) {
    const place = join(folder, path.slice(STATE_FOLDER.length));
    if (what === 'folder') await mkdir(place, { recursive: true });
    else {
      const bytes = Buffer.alloc(what.sizeBytes);
      what.read(0, bytes);
      await writeFile(place, bytes);
    }
  }
}

async function examine(
  volume: Volume,
  { disk, contents: known }: Watched,
  { crash, mayDistrust, expected, store }: Expectation & { expected: number; store: StateStore },
): Promise<Recovery> {
  const contents = await readContents(volume);
  const wrong = disk.firstWrong(contents, crash);
  if (wrong !== undefined) throw new Error(`after what was flushed: ${wrong}`);
  const { chain } = volume;
  let distrusted = 0;
  for (const { checkpointId, inconsistent } of chain.summaries()) {
    if (inconsistent && !mayDistrust) throw new Error(`checkpoint ${checkpointId} is not trusted`);
    if (inconsistent) distrusted++;
    if (inconsistent) continue;
    const lost = firstLost(chain.changedSince(checkpointId), known.get(checkpointId)!, contents);
    if (lost !== undefined)
      throw new Error(`checkpoint ${checkpointId}: sector ${lost} has changed and is clean`);
  }
  const { last } = chain;
  const grownBytes = last === undefined ? 0 : chain.grownBytes(last.checkpointId);
  if (grownBytes !== expected) throw new Error(`${grownBytes} bytes are told as grown, not ${expected}`);
  if (distrusted === 0) await assertNothingLeft(volume, store);
  return { contents, grownBytes, checkpoints: chain.records.length, distrusted };
}

/** INV-2: whatever differs is dirty. */
function firstLost(dirty: Bitmap, before: Contents, now: Contents): number | undefined {
  for (const [sector, number] of now.entries()) {
    if (number !== before[sector] && !dirty.get(sector * SECTOR_BYTES)) return sector;
  }
  return undefined;
}

/** What the files say, read by hand: the stored bits, and all regions of the log, each near to what guests changed. */
async function expectedGrowth(store: StateStore, { touched, mayDistrust }: Expectation): Promise<number> {
  const layout = new VolumeLayout(VOLUME_ID);
  const last = (await store.read(layout.record, volumeSchema))?.checkpoints.at(-1);
  if (last === undefined) return 0;
  const { checkpointId, granularityBytes } = last;
  const owner = { volumeId: VOLUME_ID, sizeBytes: VOLUME_BYTES };
  const log = decodeLog((await store.readBytes(layout.intents))!, owner)!;
  const file = await store.readBytes(layout.bitmap(checkpointId));
  if (file === undefined && mayDistrust) return 0;
  const stored = decodeBitmap(file!, { ...owner, checkpointId, granularityBytes })!;
  const bits = stored.bits.clone();
  for (const region of regionNumbers(log.slot.regions)) {
    const near = Array.from({ length: REGIONS_AHEAD_MAX + 1 }, (_, before) => region - before);
    if (!near.some(one => touched.has(one)))
      throw new Error(`region ${region} is logged, and nobody was near it`);
    for (let at = 0; at < REGION_BYTES; at += granularityBytes) bits.set(region * REGION_BYTES + at, 1);
  }
  return stored.grownBytes + bits.dirtyBytes - stored.bits.dirtyBytes;
}

async function assertNothingLeft(volume: Volume, store: StateStore): Promise<void> {
  const { bitmaps, folder: place } = new VolumeLayout(VOLUME_ID);
  const known = volume.record.checkpoints.map(({ checkpointId }) => checkpointId).sort();
  const there = await store.list(bitmaps);
  if (there.join() !== known.join()) throw new Error(`bitmaps of ${there} lie there, not of ${known}`);
  const images = (await store.list(place)).filter(name => /^(layer|disk)/.test(name)).length;
  const layers = Math.max(volume.record.layers.length, 1);
  if (images !== layers) throw new Error(`${images} images lie there, not ${layers}`);
}
