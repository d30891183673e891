// Goal: whenever the power fails, or the process is killed, every flushed guest write is there, no checkpoint lost a
// dirty bit or its trust, and what the recording bitmap grew by is told. Method: volumes over files that record every
// write and sync; what a crash may leave at random moments is opened by the real code, now and then from real files,
// and held against what the guest knows. Some crashes are lived on from, until the next one.
// TIDEMARK_POWER_LOSSES=5000 plays more seeds by hand, TIDEMARK_POWER_LOSS_SEED=7 begins elsewhere.
import { SeededRandom } from '@tidemark/engine/testing';
import { expect, test } from 'vitest';
import { GuestDisk } from '../src/testing/power-loss/guest-disk.ts';
import type { Crash, Surviving } from '../src/testing/power-loss/journal.ts';
import { type BrokenPromises, SimulatedFiles } from '../src/testing/power-loss/simulated-files.ts';
import { recover } from '../src/testing/power-loss/surviving-volume.ts';
import {
  STATE_FOLDER,
  VOLUME_BYTES,
  VolumeLife,
  type Watched,
} from '../src/testing/power-loss/volume-life.ts';

const COUNT = Number(process.env.TIDEMARK_POWER_LOSSES ?? 200);
const FIRST = Number(process.env.TIDEMARK_POWER_LOSS_SEED ?? 1);
/** Seeds of one test. */
const BATCH = 50;
const TIMEOUT_MS = 300_000;
const LIVES = 2;
const CRASHES_PER_LIFE = 2;
/** One in so many crashes is looked at in real files. */
const REAL_FILES_SHARE = 0.15;
/** Seeds with a log that fails. */
const LOST_LOGS_MIN = 25;
/** Seeds within which a broken promise has to show. */
const PLANTED_SEEDS = 20;

interface Figures {
  crashes: number;
  checkpoints: number;
  grown: number;
  distrusted: number;
}

async function play(seed: number, figures: Figures, broken: BrokenPromises = {}): Promise<void> {
  const random = new SeededRandom(seed);
  const watched: Watched = { disk: new GuestDisk(VOLUME_BYTES), contents: new Map() };
  const format = random.pick(['raw', 'raw', 'qcow2'] as const);
  const mayDistrust = broken.failing !== undefined;
  let before: number[] = [];
  let from: Surviving | undefined;
  for (let life = 0; life < LIVES; life++) {
    const files = new SimulatedFiles({ random, broken, ...(from && { from }) });
    const began = files.journal.length;
    const played = new VolumeLife(files, random, watched);
    await played.play(format, random.int(10, 70));
    for (let count = 0; count < CRASHES_PER_LIFE; count++) {
      const how = random.pick(['kill', 'power-cut', 'power-cut'] as const);
      const crash: Crash = { moment: random.int(began, files.journal.length), how };
      const surviving = files.journal.after(crash, STATE_FOLDER, random);
      const mustExist = from !== undefined || crash.moment >= played.openedAt;
      const inRealFiles = random.chance(REAL_FILES_SHARE);
      const touched = new Set([...before, ...played.touchedBy(crash.moment)]);
      const recovery = await recover(surviving, watched, {
        crash,
        touched,
        mustExist,
        mayDistrust,
        inRealFiles,
      });
      figures.crashes++;
      figures.checkpoints += recovery.checkpoints;
      figures.distrusted += recovery.distrusted;
      if (recovery.grownBytes > 0) figures.grown++;
      if (count < CRASHES_PER_LIFE - 1 || recovery.contents === undefined) continue;
      // Lived on from: regions may stay in the log from before.
      watched.disk.becomes(recovery.contents);
      from = surviving;
      before = [...touched];
    }
    if (from === undefined) return;
  }
}

for (let first = FIRST; first < FIRST + COUNT; first += BATCH) {
  const last = Math.min(first + BATCH, FIRST + COUNT) - 1;
  test(`no crash costs a bit: seeds ${first} to ${last}`, { timeout: TIMEOUT_MS }, async () => {
    const figures: Figures = { crashes: 0, checkpoints: 0, grown: 0, distrusted: 0 };
    for (let seed = first; seed <= last; seed++) {
      await play(seed, figures).catch(cause => {
        throw new Error(`seed ${seed}: ${cause instanceof Error ? cause.message : cause}`, { cause });
      });
    }
    if (COUNT > BATCH * 4) process.stdout.write(`seeds ${first}-${last}: ${JSON.stringify(figures)}\n`);
    // It must not pass for lack of crashes, checkpoints or growth.
    if (last - first < 10) return;
    expect(figures.checkpoints).toBeGreaterThan(figures.crashes / 2);
    expect(figures.grown).toBeGreaterThan(figures.crashes / 10);
  });
}

test('a log that cannot be written costs trust, and never a bit', { timeout: TIMEOUT_MS }, async () => {
  const figures: Figures = { crashes: 0, checkpoints: 0, grown: 0, distrusted: 0 };
  for (let seed = FIRST; seed < FIRST + Math.max(COUNT / 8, LOST_LOGS_MIN); seed++) {
    await play(seed, figures, { failing: 0.2 }).catch(cause => {
      throw new Error(`seed ${seed}: ${cause instanceof Error ? cause.message : cause}`, { cause });
    });
  }
  expect(figures.distrusted).toBeGreaterThan(0);
  expect(figures.distrusted).toBeLessThan(figures.checkpoints / 2);
});

test.each<[string, BrokenPromises]>([
  ['the log’s writes are not durable when they have ended', { durableWrites: true }],
  ['bits are not durable when regions leave the log', { syncs: true }],
  ['names are not durable when a step has ended', { folderSyncs: true }],
  ['images are not flushed', { imageFlushes: true }],
])('a defect shows: %s', { timeout: TIMEOUT_MS }, async (_what, broken) => {
  const figures: Figures = { crashes: 0, checkpoints: 0, grown: 0, distrusted: 0 };
  const faults: unknown[] = [];
  for (let seed = 1; seed <= PLANTED_SEEDS; seed++) {
    await play(seed, figures, broken).catch(error => faults.push(error));
  }
  expect(faults.length).toBeGreaterThan(0);
});
